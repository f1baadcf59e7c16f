"""The display: what it promises it does not take back."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from netsync.cli.progress import Display, Estimate, in_units


class Clock:
    """A clock that is set by hand (seconds)."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_estimate_follows_a_steady_rate() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    clock.now += 10
    assert estimate.remaining(250, 1000) == pytest.approx(30)
    clock.now += 10
    assert estimate.remaining(500, 1000) == pytest.approx(20)


def test_an_estimate_never_runs_backwards_when_the_rate_drops() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    answers = []
    for done in (100, 200, 210, 220, 230, 900):
        clock.now += 3
        answers.append(estimate.remaining(done, 1000))
    known = [answer for answer in answers if answer is not None]
    assert len(known) == len(answers)
    assert known == sorted(known, reverse=True)
    assert answers[4] == answers[1] != 0


def test_nothing_is_promised_before_anything_is_done() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    clock.now += 5
    assert estimate.remaining(0, 1000) is None


def test_nothing_is_promised_from_the_first_burst() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    clock.now += 1
    assert estimate.remaining(500, 1000) is None


def test_the_percentage_appears_when_the_total_is_known_and_never_falls() -> None:
    display = Display(live=False, itemize=False)
    display.listed(10, 1000, complete=False)
    display.settled(400)
    assert "%" not in _shown(display)
    assert "listing" in _shown(display)
    display.listed(20, 1000, complete=True)
    assert "40 %" in _shown(display)
    display.listed(30, 4000, complete=True)
    assert "40 %" in _shown(display)
    display.settled(3600)
    assert "100 %" in _shown(display)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_shown_with_a_unit(size: int, text: str) -> None:
    assert in_units(size) == text


def _shown(display: Display) -> str:
    page = io.StringIO()
    Console(file=page, width=200).print(display.render())
    return page.getvalue()
