"""Schedules: whatever the hour and however the clock jumps, no time is run twice or forgotten."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from netsync.plan.schedule import GRACE, OnMissed, Schedule, next_run

ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata")]
CRONS = ["*/15 * * * *", "30 2 * * *", "0 */6 * * *", "5 1 * * 0", "0 0 1 * *", "59 23 31 12 *"]

schedules = st.builds(
    Schedule,
    cron=st.sampled_from(["", *CRONS]),
    every=st.sampled_from([60.0, 900.0, 86400.0]),
    on_missed=st.sampled_from(list(OnMissed)),
    delay=st.sampled_from([0.0, 29.5]),
)
moments = st.floats(1.7e9, 1.9e9)
jumps = st.lists(st.floats(0.001, 400_000.0), min_size=1, max_size=30)


@given(schedules, moments, jumps, st.sampled_from(ZONES))
def test_after_a_run_the_next_time_lies_ahead(
    schedule: Schedule, start: float, steps: list[float], zone: ZoneInfo
) -> None:
    """So there is never more than one run for all that was missed, and none without a time."""
    handled = now = start
    for step in steps:
        now += step
        found = next_run(schedule, handled, now, zone)
        if found.skipped or found.at <= now:
            if found.skipped:
                assert found.at > now
                assert schedule.on_missed is OnMissed.SKIP
            handled = now
            again = next_run(schedule, handled, now, zone)
            assert again.at > now
            assert not again.skipped


@given(schedules, moments, st.floats(0, 400_000.0), st.sampled_from(ZONES))
def test_looking_changes_nothing(
    schedule: Schedule, handled: float, passed: float, zone: ZoneInfo
) -> None:
    """A time that lies ahead stays what it is, however often one looks before it."""
    first = next_run(schedule, handled, handled, zone)
    assert first.at > handled
    between = handled + passed
    found = next_run(schedule, handled, between, zone)
    if between < first.at or schedule.on_missed is OnMissed.RUN_ONCE:
        assert found == first
    elif not found.skipped:
        assert between - GRACE < found.at <= between
