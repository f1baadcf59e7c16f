"""When a job is due: cron times and intervals, times that were missed, and jitter.

One number is remembered of a job: ``handled``, when its last run began. Every time of the schedule
up to then is dealt with. If times have passed since, however many (the machine was suspended, the
daemon was stopped, a run took long), they are made up for by one run or by none. So a job never
runs twice for one time, never runs beside itself, and needs no queue.

Cron times follow the wall, with the rules of Debian's cron where clocks change: a time of day that
does not exist runs at the next minute that does, one that exists twice runs the first time. Where
minutes or hours begin with ``*`` real time counts, so nothing is run twice or left out either. An
interval follows real time always. All moments are seconds since 1970, so that nothing else here
knows of time zones. Pure: the caller says what time it is, and where.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

from cronsim import CronSim, CronSimError
from msgspec import Struct
from xxhash import xxh3_64_intdigest

GRACE: Final = 60.0
"""Seconds by which a time may be late and still counts as met: a busy machine, not an outage."""
_DATES_PAST: Final = 253_000_000_000.0
"""Seconds since 1970 up to which there are dates (year 9987)."""


class OnMissed(enum.StrEnum):
    """What becomes of times that passed while the job could not run."""

    RUN_ONCE = "run-once"
    SKIP = "skip"


class Schedule(Struct, frozen=True):
    """When a job runs: at ``cron`` times, or ``every`` so many seconds from start to start.

    Each time is ``delay`` seconds late: the job's share of its jitter.
    """

    cron: str = ""
    every: float = 0.0
    on_missed: OnMissed = OnMissed.RUN_ONCE
    delay: float = 0.0


class Next(NamedTuple):
    """When to run next (now, if that has passed), and whether earlier times are given up."""

    at: float
    skipped: bool = False


def check_cron(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is a cron expression of five fields that can match."""
    if len(text.split()) != 5:
        raise ValueError("it has five fields: minute hour day month weekday")
    try:
        next(CronSim(text, datetime(2001, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(str(error).lower()) from error
    except StopIteration as error:
        raise ValueError("there is no such day") from error


def share_of(jitter: float, who: str) -> float:
    """Return the seconds of ``jitter`` that fall to ``who``: always the same for one name."""
    return jitter * xxh3_64_intdigest(who.encode()) / 2.0**64


def next_run(schedule: Schedule, handled: float | None, now: float, zone: tzinfo) -> Next:
    """Return when a job is due whose last run began at ``handled`` (None: it never ran).

    A clock that was set back does not keep a job waiting: ``handled`` counts as now at the latest,
    unless the step was so small that it would only bring back the time that was just dealt with.
    A cron job that never ran waits for its time; an interval begins at once.
    """
    if handled is None and not schedule.cron:
        return Next(now + schedule.delay)
    base = now if handled is None or handled > now + GRACE else handled
    due = _after(schedule, base, base, zone)
    if due > now or schedule.on_missed is OnMissed.RUN_ONCE:
        return Next(due)
    recent = _after(schedule, base, max(base, now - GRACE), zone)
    if recent <= now:
        return Next(recent)
    return Next(_after(schedule, base, now, zone), skipped=True)


def _after(schedule: Schedule, base: float, moment: float, zone: tzinfo) -> float:
    """Return the first time after ``moment``; intervals are counted from ``base``."""
    if not schedule.cron:
        passed = max(0, int((moment - base) // schedule.every))
        return base + (passed + 1) * schedule.every
    start = min(moment - schedule.delay, _DATES_PAST)
    times = CronSim(schedule.cron, datetime.fromtimestamp(start, zone))
    while (found := next(times).timestamp()) <= start:
        pass  # in an hour that comes twice, cronsim names times of its first half
    return found + schedule.delay
