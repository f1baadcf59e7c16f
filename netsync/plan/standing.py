"""What is known about a job, and what follows from it: its state, its lag, the verdict on it.

A ``Standing`` holds facts only: what the job's runner saw, when. Everything that is *said* about
a job is computed from them here, by whoever asks, so that it cannot grow stale: a job whose runner
has died goes on to fall behind. Whatever is new about a mode is a new fact with a default; old
records go on to be read. Times are seconds since 1970 by the clock of the host that keeps the
record; no other host's clock is ever compared with it. Pure.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from msgspec import Struct

from netsync.plan.scrub import Scrubbing, found_words, late_words

BEAT_SECONDS: Final = 10.0
"""How often a daemon says that it is alive."""
BEATS_MISSED: Final = 6
"""Heartbeats after which a daemon that holds its lock counts as stuck."""


LATE_SECONDS: Final = 900.0
"""How long something may be due, where no objective says it, before it is told as a warning."""
STUCK_SECONDS: Final = 6 * 3600.0
"""The same for a run under way: most first copies are done by then, and a hanging one is found."""


class State(enum.StrEnum):
    """Where a job stands. Never a word for "the process runs": always one about the data."""

    NEW = "NEW"
    CATCHING_UP = "CATCHING_UP"
    WAITING = "WAITING"
    IN_SYNC = "IN_SYNC"
    DEGRADED = "DEGRADED"


class Level(enum.IntEnum):
    """A verdict as an exit code of ``netsync check``."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Verdict(NamedTuple):
    """How bad it is, and why, in words for somebody who was woken up."""

    level: Level
    why: str = ""


class Totals(Struct, frozen=True):
    """What all runs of a job came to since it is known. Counters: they only rise."""

    runs: int = 0
    failures: int = 0
    literal: int = 0
    matched: int = 0
    wire_sent: int = 0
    wire_received: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    missed: int = 0


class Standing(Struct, frozen=True, kw_only=True):
    """The facts about one job.

    ``handled`` is when its last run began that ended by itself (see ``plan/schedule.py``).
    ``last_point`` is the recovery point: when the scan began that found the newest data which is
    all here. ``current_until`` is up to when nothing more is known to have been written, which
    only a live watch can tell beyond ``last_point``. ``failure`` says why the last run made no
    recovery point, ``trouble`` what else was wrong with it (a hook), ``unwatched`` why a watch that
    the job asks for is not there. ``live`` says that one tells of changes, ``behind`` that it has
    told of some. ``since`` is when the state last became another. ``scrub`` is about reading it all
    again, None where nobody asked for that.
    """

    name: str
    mode: str = ""
    source: str = ""
    target: str = ""
    rpo: float | None = None
    running: bool = False
    live: bool = False
    behind: bool = False
    failure: str = ""
    trouble: str = ""
    unwatched: str = ""
    since: float | None = None
    handled: float | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    last_point: float | None = None
    current_until: float | None = None
    next_run: float | None = None
    backlog_files: int | None = None
    backlog_bytes: int | None = None
    totals: Totals = Totals()
    scrub: Scrubbing | None = None


class Heartbeat(NamedTuple):
    """What is known of the daemon: whether its lock is held, and its last sign of life."""

    held: bool
    beat: float | None = None


def daemon_trouble(heart: Heartbeat, now: float) -> str:
    """Return what is wrong with the daemon, or nothing."""
    if not heart.held:
        since = "" if heart.beat is None else f" since {span(now - heart.beat)}"
        return f"the daemon is not running{since} (start it: systemctl start netsync)"
    if heart.beat is not None and abs(now - heart.beat) > BEAT_SECONDS * BEATS_MISSED:
        passed = now - heart.beat  # below 0 the clock was set back, and it has not beaten since
        since = f"for {span(passed)}" if passed > 0 else "since the clock was set back"
        return (
            f"the daemon has shown no life {since} "
            "(is the disk of its state directory full or hanging? see its log)"
        )
    return ""


def state_of(standing: Standing) -> State:
    """Return where the job stands, if its daemon is well.

    What failed stays failed until a run has succeeded: trying again is no state of the data.
    """
    if standing.failure or standing.trouble or standing.unwatched or found_words(standing.scrub):
        return State.DEGRADED
    if standing.running or standing.behind:
        return State.CATCHING_UP
    if standing.current_until is None:
        return State.NEW
    return State.IN_SYNC if standing.live else State.WAITING


def lag_of(standing: Standing, now: float) -> float | None:
    """Return how many seconds of changes would be lost now; None if nothing was ever saved."""
    if standing.current_until is None:
        return None
    lag = max(0.0, now - standing.current_until)
    if state_of(standing) is State.IN_SYNC and lag <= BEAT_SECONDS:
        return 0.0  # nothing has changed up to the watch's last answer, and the next is not due
    return lag


def verdict_of(standing: Standing, now: float, heart: Heartbeat) -> Verdict:
    """Return what an administrator must know about the job.

    A job that never made a recovery point is a breach, not a mystery. Without an objective
    nobody has said how long a failure may last, so the first one is critical.
    """
    failure = f": {standing.failure}" if standing.failure else ""
    if dead := daemon_trouble(heart, now):
        return Verdict(Level.CRITICAL, dead)
    lag = lag_of(standing, now)
    if lag is None:
        return Verdict(Level.CRITICAL, f"no recovery point was ever made{failure}")
    if standing.rpo is not None and lag > standing.rpo:
        words = f"{span(lag)} behind, the objective is {span(standing.rpo)}"
        return Verdict(Level.CRITICAL, f"{words}{failure or _also(standing)}")
    if standing.failure:
        level = Level.CRITICAL if standing.rpo is None else Level.WARNING
        return Verdict(level, f"the last run failed{failure}")
    trouble = damage(standing, now) or standing.trouble or standing.unwatched
    if trouble := trouble or _overdue(standing, lag, now):
        return Verdict(Level.WARNING, trouble)
    return Verdict(Level.OK, f"{span(lag)} behind")


def damage(standing: Standing, now: float) -> str:
    """Return what scrubs found, or why there are none, or nothing."""
    return found_words(standing.scrub) or late_words(standing.scrub, now)


def _overdue(standing: Standing, lag: float, now: float) -> str:
    """Return what takes too long to be well where nobody has said how long it may take."""
    if standing.rpo is not None:
        return ""
    since = standing.started
    if standing.running and since is not None and now - since > STUCK_SECONDS:
        return f"the run under way began {span(now - since)} ago (rpo says how long is too long)"
    if standing.running:
        return ""
    due = standing.next_run
    if due is not None and now - due > LATE_SECONDS:
        return f"it should have run {span(now - due)} ago"
    if (standing.live or standing.behind) and lag > LATE_SECONDS:
        return f"{span(lag)} behind, and nothing is being done about it"
    return ""


def _also(standing: Standing) -> str:
    if trouble := standing.unwatched or standing.trouble:
        return f": {trouble}"
    return "; a run is under way" if standing.running else ""


def span(seconds: float) -> str:
    """Return a time span as people say it: two units at most, none too fine."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount}{unit}")
        if len(parts) == 2 or (parts and not amount):
            break
    return " ".join(parts)
