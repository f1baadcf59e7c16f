"""What is known of all jobs, judged: one view for ``status``, ``check`` and the metrics.

It is made by whoever asks, from the state directory alone, so a daemon that is stuck or gone cannot
make things look better than they are. Blocks, and belongs into a worker thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from netsync.monitor.mirrors import MirrorView
from netsync.names import as_text
from netsync.plan import reception
from netsync.plan.reception import Reception
from netsync.plan.standing import (
    Heartbeat,
    Level,
    Standing,
    State,
    Verdict,
    daemon_trouble,
    damage,
    lag_of,
    span,
    state_of,
    verdict_of,
)
from netsync.state import locks
from netsync.state.jobs import JobStates
from netsync.state.receptions import Receptions

SCHEMA: Final = "netsync.status/1"
NO_JOBS: Final = "no job is configured (add a [job.NAME] section and reload the daemon)"


class JobView(NamedTuple):
    """One job, as of one moment. ``lag`` is in seconds, None where nothing was ever saved."""

    standing: Standing
    state: State
    lag: float | None
    verdict: Verdict
    why: str


class View(NamedTuple):
    """All jobs, as of ``now``, and what is wrong with the daemon."""

    now: float
    jobs: Sequence[JobView]
    trouble: str


def heartbeat_of(directory: Path) -> Heartbeat:
    """Return what is known of the daemon. Raises ``StateError``."""
    held = locks.is_held(directory, locks.DAEMON)
    return Heartbeat(held, JobStates(directory).last_beat())


def view_of(directory: Path, now: float, configured: Sequence[Standing] = ()) -> View:
    """Return what there is to know. Raises ``StateError``.

    Jobs that are ``configured`` and of which nothing is known have never run.
    """
    heart = heartbeat_of(directory)
    known = {standing.name: standing for standing in JobStates(directory).standings()}
    for each in configured:
        known.setdefault(each.name, each)
    jobs = [_judged(known[name], now, heart) for name in sorted(known)]
    received = [_received(each, now) for each in Receptions(directory).all()]
    needs_daemon = bool(jobs) or not received  # what is received falls silent by itself
    return View(now, jobs + received, daemon_trouble(heart, now) if needs_daemon else "")


def _received(known: Reception, now: float) -> JobView:
    """Return how one client's tree stands here, as far as this side can tell alone."""
    verdict = reception.verdict(known, now)
    why = "" if verdict.level is Level.OK else verdict.why
    state, lag = reception.state(known, now), reception.lag(known, now)
    return JobView(reception.as_standing(known), state, lag, verdict, why)


def _judged(standing: Standing, now: float, heart: Heartbeat) -> JobView:
    trouble = daemon_trouble(heart, now)
    state = State.DEGRADED if trouble else state_of(standing)
    why = standing.failure or standing.unwatched or standing.trouble or trouble
    why = why or damage(standing, now)
    return JobView(standing, state, lag_of(standing, now), verdict_of(standing, now, heart), why)


def as_json(view: View) -> dict[str, Any]:
    """Return the object of ``status --json``."""
    return {"schema": SCHEMA, "jobs": [_job_as_json(each) for each in view.jobs]}


def _job_as_json(view: JobView) -> dict[str, Any]:
    standing = view.standing
    return {
        "name": standing.name,
        "mode": standing.mode,
        "source": standing.source,
        "target": standing.target,
        "state": view.state.value,
        "since": instant(standing.since),
        "lag_seconds": None if view.lag is None else round(view.lag, 3),
        "rpo_seconds": standing.rpo,
        "backlog_files": standing.backlog_files,
        "backlog_bytes": standing.backlog_bytes,
        "last_point": instant(standing.last_point),
        "current_until": instant(standing.current_until),
        "next_run": instant(standing.next_run),
        "last_error": view.why or None,
        "exit_code": standing.exit_code,
        "scrub": _scrub_as_json(standing),
        "verdict": view.verdict.level.name.lower(),
        "why": view.verdict.why,
    }


def _scrub_as_json(standing: Standing) -> dict[str, Any] | None:
    scrub = standing.scrub
    if scrub is None:
        return None
    return {
        "part": scrub.part,
        "parts": scrub.parts,
        "rounds": scrub.rounds,
        "bytes": scrub.bytes,
        "next": instant(scrub.due),
        "last": instant(scrub.done),
        "last_error": scrub.failure or None,
        "wrong": scrub.wrong,
        "found": [{"path": as_text(each.path), "what": each.what} for each in scrub.found],
    }


def instant(moment: float | None) -> str | None:
    """Return a moment as ISO 8601 has it, in UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def check_line(
    view: View, only: str | None = None, mirrored: Sequence[MirrorView] = ()
) -> tuple[Level, str]:
    """Return the verdict on all jobs and mirrors, or on one, as monitoring plugins print it."""
    jobs = [each for each in view.jobs if only in (None, each.standing.name)]
    mirrors = [each for each in mirrored if only in (None, each.name)]
    judged = [(each.standing.name, each.verdict) for each in jobs]
    if jobs and view.trouble:
        judged = [("", Verdict(max(verdict.level for _, verdict in judged), view.trouble))]
    judged += [(each.name, each.verdict) for each in mirrors]
    if not judged:
        return Level.UNKNOWN, f"UNKNOWN: {NO_JOBS if only is None else f'there is no job {only}'}"
    level = max(verdict.level for _, verdict in judged)
    if level is Level.OK and len(judged) > 1:
        words = _all_is_well(jobs, mirrors)
    else:
        worst = ((name, verdict.why) for name, verdict in judged if verdict.level is level)
        words = "; ".join(": ".join(filter(None, pair)) for pair in worst)
    return level, f"{level.name}: {words} | {_measured(jobs, mirrors)}".rstrip(" |")


def _all_is_well(jobs: Sequence[JobView], mirrors: Sequence[MirrorView]) -> str:
    parts = []
    if jobs:
        lag = span(max(each.lag or 0.0 for each in jobs))
        parts.append(f"{counted(len(jobs), 'job')}, the last of them {lag} behind")
    if mirrors:
        parts.append(f"{counted(len(mirrors), 'mirror')} in order")
    return ", ".join(parts)


def counted(number: int, word: str) -> str:
    """Return how many there are of what ``word`` names."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _measured(jobs: Sequence[JobView], mirrors: Sequence[MirrorView]) -> str:
    """Return the lags in the notation that graphs are drawn from."""
    measured = []
    for each in jobs:
        if each.lag is not None:
            bound = f";;{each.standing.rpo:.0f}" if each.standing.rpo else ""
            measured.append(f"'{each.standing.name} lag'={each.lag:.0f}s{bound}")
    measured += [f"'{each.name} {each.peer} lag'={each.lag}" for each in mirrors]
    return " ".join(measured)
