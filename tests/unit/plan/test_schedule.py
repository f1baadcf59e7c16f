"""When a job is due: on both days on which clocks change, after a suspension, with jitter."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from netsync.plan.schedule import GRACE, OnMissed, Schedule, check_cron, next_run, share_of

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0
DAY = 24 * HOUR
SPRING = datetime(2026, 3, 28, 12, tzinfo=BERLIN).timestamp()
"""Noon before the night of 23 hours: 02:00 becomes 03:00."""
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=BERLIN).timestamp()
"""Noon before the night of 25 hours: 03:00 becomes 02:00."""


def starts(schedule: Schedule, begin: float, end: float, step: float = 60.0) -> list[float]:
    """Return when a runner would run that looks every ``step`` seconds, on a fake clock."""
    handled, now = begin, begin
    found: list[float] = []
    while now < end:
        if next_run(schedule, handled, now, BERLIN).at <= now:
            found.append(now)
            handled = now
        now += step
    return found


def local(moments: list[float]) -> list[str]:
    return [datetime.fromtimestamp(moment, BERLIN).strftime("%d %H:%M %Z") for moment in moments]


def test_a_time_that_spring_leaves_out_runs_at_the_next_minute_there_is() -> None:
    found = starts(Schedule(cron="30 2 * * *"), SPRING, SPRING + 2 * DAY)
    assert local(found) == ["29 03:00 CEST", "30 02:30 CEST"]


def test_a_time_that_comes_twice_in_autumn_runs_once() -> None:
    found = starts(Schedule(cron="30 2 * * *"), AUTUMN, AUTUMN + 2 * DAY)
    assert local(found) == ["25 02:30 CEST", "26 02:30 CET"]


def test_who_asks_in_the_second_half_of_a_double_hour_is_sent_to_the_next_day() -> None:
    """cronsim names the time of the first half again, which has passed."""
    now = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1).timestamp()
    due = next_run(Schedule(cron="30 2 * * *"), now, now, BERLIN).at
    assert local([due]) == ["26 02:30 CET"]


@pytest.mark.parametrize("cron", ["*/15 * * * *", "0 * * * *", "*/15 0-23 * * *"])
@pytest.mark.parametrize("begin", [SPRING, AUTUMN])
def test_what_runs_all_day_follows_real_time_through_both_nights(cron: str, begin: float) -> None:
    found = starts(Schedule(cron=cron), begin, begin + DAY)
    gaps = {after - before for before, after in itertools.pairwise(found)}
    assert len(gaps) == 1, local(found)


@pytest.mark.parametrize("begin", [SPRING, AUTUMN])
def test_an_interval_knows_no_clock_changes(begin: float) -> None:
    found = starts(Schedule(every=HOUR), begin, begin + DAY + 1)
    assert found == [begin + HOUR * count for count in range(1, 25)]


@pytest.mark.parametrize("schedule", [Schedule(cron="0 * * * *"), Schedule(every=HOUR)])
def test_a_machine_that_was_suspended_makes_up_for_all_with_one_run(schedule: Schedule) -> None:
    """Three hours pass in one step of the clock."""
    handled = SPRING + 1
    now = SPRING + 3.5 * HOUR
    assert next_run(schedule, handled, now, BERLIN).at <= now
    after = next_run(schedule, now, now, BERLIN)
    assert now < after.at <= now + HOUR
    assert not after.skipped


@pytest.mark.parametrize("schedule", [
    Schedule(cron="0 * * * *", on_missed=OnMissed.SKIP),
    Schedule(every=HOUR, on_missed=OnMissed.SKIP),
])  # fmt: skip
def test_a_machine_that_was_suspended_may_leave_out_what_it_missed(schedule: Schedule) -> None:
    now = SPRING + 3.5 * HOUR
    found = next_run(schedule, SPRING, now, BERLIN)
    assert found.skipped
    assert found.at == SPRING + 4 * HOUR


def test_being_a_little_late_is_not_missing_a_time() -> None:
    schedule = Schedule(cron="0 * * * *", on_missed=OnMissed.SKIP)
    due = SPRING + HOUR
    assert next_run(schedule, SPRING, due + GRACE - 1, BERLIN) == (due, False)
    assert next_run(schedule, SPRING, due + GRACE + 1, BERLIN).skipped
    assert next_run(schedule, SPRING - DAY, due + 1, BERLIN) == (due, False), "the latest counts"


def test_a_job_that_never_ran_begins_at_once_or_waits_for_its_time() -> None:
    assert next_run(Schedule(every=HOUR), None, SPRING, BERLIN).at == SPRING
    assert next_run(Schedule(every=HOUR, delay=9), None, SPRING, BERLIN).at == SPRING + 9
    assert next_run(Schedule(cron="30 * * * *"), None, SPRING, UTC).at == SPRING + 1800


def test_a_clock_that_is_set_back_keeps_no_job_waiting_for_years() -> None:
    future = SPRING + 4000 * DAY
    for schedule in (Schedule(every=HOUR), Schedule(cron="0 * * * *")):
        assert next_run(schedule, future, SPRING, BERLIN).at <= SPRING + HOUR


def test_a_small_step_back_does_not_bring_a_time_twice() -> None:
    """The run began at the full hour, and now it is a second before that once more."""
    assert next_run(Schedule(cron="0 * * * *"), SPRING, SPRING - 1, UTC).at == SPRING + HOUR


def test_jitter_is_one_number_for_a_name_and_within_its_bound() -> None:
    shares = {share_of(30, f"web@host{number}") for number in range(50)}
    assert len(shares) == 50
    assert all(0 <= share < 30 for share in shares)
    assert share_of(30, "web@host1") == share_of(30, "web@host1")


def test_a_delayed_time_is_due_once() -> None:
    schedule = Schedule(cron="0 * * * *", delay=20.0)
    found = starts(schedule, SPRING, SPRING + 5 * HOUR, step=1.0)
    assert found == [SPRING + HOUR * count + 20 for count in range(5)]


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "0 0 31 2 *", "* * * * * *", "@daily", "a b c d e"]
)
def test_what_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_cron(text)


def test_a_leap_day_can_be() -> None:
    check_cron("0 0 29 2 *")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    due = next_run(Schedule(cron="0 0 29 2 *"), now.timestamp(), now.timestamp(), UTC).at
    assert datetime.fromtimestamp(due, UTC) == datetime(2028, 2, 29, tzinfo=UTC)
    assert datetime.fromtimestamp(due, UTC) - now > timedelta(days=700)
