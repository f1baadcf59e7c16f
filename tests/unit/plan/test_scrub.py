"""How much of a tree is read when, and what is said of what was found."""

from __future__ import annotations

import msgspec
import pytest

from netsync.model import Options, Slice
from netsync.plan.scrub import (
    FOUND_MAX,
    Finding,
    Pace,
    Scrubbing,
    found_words,
    late_words,
    parse_pace,
    renewed,
)
from netsync.plan.standing import Heartbeat, Level, Standing, State, state_of, verdict_of

ROT = "rotted at the source"


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("5%/day", Pace(480, 3600.0)),
        ("100%/day", Pace(24, 3600.0)),
        ("100%/week", Pace(168, 3600.0)),
        ("100 % / hour", Pace(24, 150.0)),
        ("100%/minute", Pace(24, 2.5)),
        ("0.5%/day", Pace(4800, 3600.0)),
        ("15%/month", Pace(4800, 3600.0)),
    ],
)
def test_a_share_is_a_number_of_parts_and_a_time_between(text: str, pace: Pace) -> None:
    found = parse_pace(text)
    assert found == pace
    assert found.seconds <= 3600


@pytest.mark.parametrize(
    "text", ["", "5", "5%", "5%/year", "0%/day", "101%/day", "-5%/day", "0.4%/day", "x%/day"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"share|whole tree"):
        parse_pace(text)


def scrubbing(*paths: bytes, **more: object) -> Scrubbing:
    return Scrubbing(10, 0.0, found=tuple(Finding(path, ROT) for path in paths), **more)  # type: ignore[arg-type]  # facts of the test's own


def test_findings_are_named_and_degrade_the_job() -> None:
    standing = Standing(name="web", current_until=100.0, scrub=scrubbing(b"a\n", b"b"))
    words = found_words(standing.scrub)
    assert words == (f"2 files rotted: a\\012 ({ROT}), b ({ROT}), see netsync events")
    assert state_of(standing) is State.DEGRADED
    verdict = verdict_of(standing, 100.0, Heartbeat(held=True, beat=100.0))
    assert (verdict.level, verdict.why) == (Level.WARNING, words)
    assert "4 files rotted" in found_words(scrubbing(b"a", b"b", b"c", b"d"))
    assert "d (" not in found_words(scrubbing(b"a", b"b", b"c", b"d"))
    assert found_words(None) == found_words(scrubbing()) == ""


def test_what_a_part_found_takes_the_place_of_what_was_known_of_it() -> None:
    before = scrubbing(b"a", b"b")
    after = renewed(before, [Finding(b"c", ROT)], [Finding(b"a", ROT)])
    assert [each.path for each in after.found] == [b"b", b"c"]
    assert renewed(after, [], after.found).found == ()


def test_more_than_can_be_named_are_counted() -> None:
    found = [Finding(b"%04d" % number, ROT) for number in range(FOUND_MAX + 5)]
    after = renewed(scrubbing(), found, [])
    assert len(after.found) == FOUND_MAX
    assert after.wrong == FOUND_MAX + 5


def test_scrubs_that_fail_are_told_once_a_day_was_lost() -> None:
    failing = scrubbing(done=1000.0, failure="no route to host")
    assert late_words(failing, 1000.0 + 86400) == ""
    assert "25 hours: no route to host" in late_words(failing, 1000.0 + 90000)
    assert late_words(scrubbing(done=1000.0), 1e9) == ""


def test_a_part_of_a_tree_is_only_verified() -> None:
    """Else all that is not in it would pass for gone."""
    part = Slice(1, 3)
    checked = Options(slice=part, verify=True, dry_run=True, checksum=True)
    assert checked.contradiction() == ""
    assert "only be verified" in Options(slice=part).contradiction()
    assert "only be verified" in msgspec.structs.replace(checked, delete=True).contradiction()
    assert "changes nothing" in Options(verify=True, checksum=True).contradiction()
