"""What a standby knows by itself of a primary that sends as it happens.

The primary says from time to time that all up to so many seconds before is here: a ``Beat``. The
standby notes when that came, by its own clock, and computes the rest when somebody asks. So a
primary that is gone shows as a lag that grows, with nobody there to tell it. Spans travel, moments
never do: what a beat says was true when it was sent, and that was not before our answer to the one
before, plus the time it says it rested. So a beat that was long on its way proves nothing false.
Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from netsync.model import Options, Report
from netsync.plan.guards import Changes
from netsync.plan.standing import (
    BEAT_SECONDS,
    Level,
    Standing,
    State,
    Verdict,
    span,
)

GRACE_SECONDS: Final = 15.0
"""How much longer than it should a primary may be silent: a restart of its daemon, a lost beat."""
PATIENCE_SECONDS: Final = 900.0
"""How long silence is only a warning where nobody has said how much may be lost."""
WINDOW_SECONDS: Final = 3600.0
"""Deletes of so long count together against a limit."""
MODE: Final = "received"


class Reception(Struct, frozen=True, kw_only=True):
    """The facts about one client that sends to one place. Times are the standby's own clock's.

    ``heard`` is when the last beat came, ``until`` up to when all is here (None: not all ever was).
    ``objective`` is the module's own ``rpo``, which comes before what the client says it holds.
    ``entries`` are those of the whole tree, ``deleted`` those that changes took away since
    ``window``; with ``held`` a guard keeps the rest, and the window does not end by itself.
    """

    name: str
    client: str = ""
    target: str = ""
    heard: float | None = None
    every: float = BEAT_SECONDS
    until: float | None = None
    rpo: float | None = None
    objective: float | None = None
    files: int | None = None
    size: int | None = None
    trouble: str = ""
    entries: int = 0
    deleted: int = 0
    window: float = 0.0
    held: bool = False


def changes_of(reception: Reception, now: float) -> Changes:
    """Return what limits on deletes refer to, for a transfer of what changed."""
    return Changes(reception.entries, deleted_lately(reception, now), reception.held)


def booked(reception: Reception, report: Report, options: Options, now: float) -> Reception:
    """Return what is known after a transfer that came to ``report``.

    One of the whole tree counts its entries, and begins the account of deletes anew unless it was
    held. Deletes of changes add up; once they are held, all is until a look at the whole passes.
    What no guard was asked about (nothing is deleted) begins nothing anew.
    """
    files = report.files
    if options.changes:
        return msgspec.structs.replace(
            reception,
            entries=max(0, reception.entries + files.created - files.deleted),
            deleted=deleted_lately(reception, now) + files.deleted,
            window=now if _is_over(reception, now) else reception.window,
            held=reception.held or bool(report.held),
        )
    if options.paths is not None or options.dry_run or options.verify or not options.delete:
        return reception
    held = bool(report.held)
    if held:
        return msgspec.structs.replace(reception, entries=files.considered, held=True)
    return msgspec.structs.replace(
        reception, entries=files.considered, deleted=0, window=now, held=False
    )


def deleted_lately(reception: Reception, now: float) -> int:
    """Return how many entries changes have taken away of late."""
    return 0 if _is_over(reception, now) else reception.deleted


def _is_over(reception: Reception, now: float) -> bool:
    """Tell whether deletes are counted anew from now on."""
    return not reception.held and not 0 <= now - reception.window < WINDOW_SECONDS


def silence_of(reception: Reception, now: float) -> float:
    """Return for how long nothing was heard that should have been, in seconds."""
    if reception.heard is None:
        return 0.0
    silent = max(0.0, now - reception.heard)
    return silent if silent > reception.every + GRACE_SECONDS else 0.0


def lag(reception: Reception, now: float) -> float | None:
    """Return how many seconds of the primary's changes may be missing here."""
    if reception.until is None:
        return None
    behind = max(0.0, now - reception.until)
    return 0.0 if behind <= 2 * reception.every + 1.0 else behind


def verdict(reception: Reception, now: float) -> Verdict:
    """Return what an administrator of the standby must know."""
    rpo = reception.rpo if reception.objective is None else reception.objective
    silence, behind = silence_of(reception, now), lag(reception, now)
    why = f"{reception.client} has been silent for {span(silence)}" if silence else ""
    trouble = why or reception.trouble
    if behind is None:
        words = "this side never had all of it"
        return Verdict(Level.CRITICAL, f"{words}: {trouble}" if trouble else words)
    late = f"{span(behind)} behind"
    if rpo is not None and behind > rpo + GRACE_SECONDS:
        words = f"{late}, the objective is {span(rpo)}"
        return Verdict(Level.CRITICAL, f"{words}: {trouble}" if trouble else words)
    if trouble:
        worst = rpo is None and behind > PATIENCE_SECONDS
        level = Level.CRITICAL if worst else Level.WARNING
        return Verdict(level, f"{late}: {trouble}")
    return Verdict(Level.OK, late)


def state(reception: Reception, now: float) -> State:
    """Return where the standby stands."""
    if silence_of(reception, now) or reception.trouble:
        return State.DEGRADED
    behind = lag(reception, now)
    return State.IN_SYNC if behind == 0.0 else State.CATCHING_UP


def as_standing(reception: Reception) -> Standing:
    """Return the facts in the form that status, check and metrics show."""
    return Standing(
        name=reception.name,
        mode=MODE,
        source=reception.client,
        target=reception.target,
        rpo=reception.rpo if reception.objective is None else reception.objective,
        live=True,
        failure=reception.trouble,
        last_point=reception.until,
        current_until=reception.until,
        backlog_files=reception.files,
        backlog_bytes=reception.size,
    )
