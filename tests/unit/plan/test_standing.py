"""What follows from the facts about a job: state, lag, verdict."""

from __future__ import annotations

from typing import Any

import pytest

from netsync.plan.standing import (
    BEAT_SECONDS,
    BEATS_MISSED,
    Heartbeat,
    Level,
    Standing,
    State,
    lag_of,
    span,
    state_of,
    verdict_of,
)

NOW = 1_700_000_000.0
ALIVE = Heartbeat(held=True, beat=NOW)


def job(**facts: Any) -> Standing:
    return Standing(name="web", **facts)


def good(age: float = 5.0, **facts: Any) -> Standing:
    """Return a job whose newest recovery point is ``age`` seconds old."""
    return job(last_point=NOW - age, current_until=NOW - age, **facts)


@pytest.mark.parametrize(("standing", "state"), [
    (job(), State.NEW),
    (job(running=True), State.CATCHING_UP),
    (good(), State.WAITING),
    (good(live=True), State.IN_SYNC),
    (good(live=True, behind=True), State.CATCHING_UP),
    (good(live=True, failure="full"), State.DEGRADED),
    (good(running=True, failure="full"), State.DEGRADED),
    (good(running=True), State.CATCHING_UP),
    (good(unwatched="too few"), State.DEGRADED),
    (good(trouble="hook"), State.DEGRADED),
    (job(failure="refused"), State.DEGRADED),
])  # fmt: skip
def test_the_state_is_about_the_data(standing: Standing, state: State) -> None:
    assert state_of(standing) is state


def test_a_job_that_never_ran_is_a_breach_with_and_without_an_objective() -> None:
    for rpo in (None, 60.0):
        verdict = verdict_of(job(rpo=rpo), NOW, ALIVE)
        assert verdict.level is Level.CRITICAL
        assert "no recovery point" in verdict.why
    assert lag_of(job(), NOW) is None


def test_lag_grows_second_for_second_until_the_objective_is_broken() -> None:
    standing = good(10, rpo=60.0, failure="no route to host")
    assert lag_of(standing, NOW) == 10
    assert lag_of(standing, NOW + 40) == 50
    assert verdict_of(standing, NOW + 40, Heartbeat(held=True, beat=NOW + 40)).level == 1
    late = verdict_of(standing, NOW + 51, Heartbeat(held=True, beat=NOW + 51))
    assert late.level is Level.CRITICAL
    assert late.why == "1m 1s behind, the objective is 1m: no route to host"


def test_an_idle_tree_with_a_live_watch_does_not_lag() -> None:
    """Idle is not lagging; but a watch that falls silent is, after one beat."""
    standing = good(5, live=True)
    assert lag_of(standing, NOW) == 0
    assert lag_of(standing, NOW + BEAT_SECONDS) == 5 + BEAT_SECONDS
    assert lag_of(good(5), NOW) == 5, "without a watch the source may have changed at once"


def test_a_failed_run_without_an_objective_is_critical() -> None:
    assert verdict_of(good(failure="full"), NOW, ALIVE).level is Level.CRITICAL
    assert verdict_of(good(failure="full", rpo=60.0), NOW, ALIVE).level is Level.WARNING
    assert verdict_of(good(trouble="hook"), NOW, ALIVE).level is Level.WARNING
    assert verdict_of(good(), NOW, ALIVE).level is Level.OK


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (good(90000, running=True, started=NOW - 7 * 3600), "began 7h ago"),
        (good(90000, next_run=NOW - 3600), "should have run 1h ago"),
        (good(3600, live=True, behind=True), "nothing is being done"),
    ],
)
def test_without_an_objective_what_is_stuck_is_a_warning(standing: Standing, words: str) -> None:
    verdict = verdict_of(standing, NOW, ALIVE)
    assert verdict.level is Level.WARNING
    assert words in verdict.why


@pytest.mark.parametrize(
    "standing",
    [
        good(90000, running=True, started=NOW - 3600),
        good(90000, next_run=NOW + 60),
        good(90000, next_run=NOW - 60),
        good(5, live=True),
        good(3600, rpo=90000.0, next_run=NOW - 3600),
    ],
)
def test_what_is_on_its_way_is_well(standing: Standing) -> None:
    assert verdict_of(standing, NOW, ALIVE).level is Level.OK


def test_a_daemon_that_is_gone_or_stuck_is_critical_however_good_the_data() -> None:
    gone = verdict_of(good(), NOW, Heartbeat(held=False, beat=NOW - 120))
    assert gone.level is Level.CRITICAL
    assert "not running since 2m" in gone.why
    stuck = Heartbeat(held=True, beat=NOW - BEAT_SECONDS * BEATS_MISSED - 1)
    assert verdict_of(good(), NOW, stuck).level is Level.CRITICAL
    ahead = verdict_of(good(), NOW, Heartbeat(held=True, beat=NOW + 86400))
    assert "no life since the clock was set back" in ahead.why
    never = verdict_of(good(), NOW, Heartbeat(held=False))
    assert "systemctl start netsync" in never.why


def test_a_clock_that_was_set_back_gives_no_negative_lag() -> None:
    assert lag_of(good(-100), NOW) == 0


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0s"), (0.4, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3600, "1h"),
    (3661, "1h 1m"), (3601, "1h"), (86400 * 3 + 7200, "3d 2h"), (-5, "0s"),
])  # fmt: skip
def test_spans_are_said_in_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text
