"""What is known of this host's mirrors, both its copies of others and those that it writes to.

Read from the state directory alone, like what is known of jobs. A mirror that nobody holds open is
*at rest*: its numbers are those of its last life.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from netsync.errors import StateError
from netsync.names import shown
from netsync.plan.standing import Level, Verdict
from netsync.state import locks
from netsync.state.live import CopyLive, FollowerLive, PrimaryLive, read_live
from netsync.state.mirror_record import PRIMARY, Record, directory_of, known_places
from netsync.state.primary_record import PrimaryRecord, known_primaries, primary_directory
from netsync.state.slots import FILE

AT_REST = "at rest"


class MirrorView(NamedTuple):
    """One mirror from one side. ``lag`` counts operations, on a standby those not applied yet.

    ``role`` is that of this host, ``peer`` the other side.
    """

    name: str
    role: str
    peer: str
    state: str
    epoch: int
    lag: int
    owed_bytes: int
    applied: int
    words: str

    @property
    def verdict(self) -> Verdict:
        """What an administrator must know: whether a copy protects what is written now."""
        level, what = _VERDICTS.get(self.state, (Level.UNKNOWN, _STRANGE.format(self.state)))
        way_out = ""
        if self.state == AT_REST and self.role == "primary":
            way_out = _GIVEN_UP.format(self.name)
            if not self.words:
                level = Level.WARNING  # it ended in order, and all is there
        owed = f"{self.owed_bytes} bytes are owed" if self.owed_bytes else ""
        parts = (what, owed, self.words, way_out)
        return Verdict(level, ": ".join(part for part in parts if part))


_GIVEN_UP: Final = "start it again, or if it is given up: netsync mirror {} --forget"
_VERDICTS: Final = {
    "receiving": (Level.OK, ""),
    "waiting": (Level.WARNING, "its primary is not connected"),
    "incomplete": (Level.CRITICAL, "it is no whole copy"),
    "promoted": (Level.OK, ""),
    "starting": (Level.CRITICAL, "nothing can be written until the standby is in step"),
    "sync": (Level.OK, "in step"),
    "lost": (Level.CRITICAL, "the standby is lost"),
    "degraded": (Level.CRITICAL, "the standby is stale, and writes are safe on this host alone"),
    "resync": (Level.WARNING, "the standby is back, and is sent what it lacks"),
    "refusing": (Level.CRITICAL, "the standby follows another, and nothing can be written here"),
    AT_REST: (Level.CRITICAL, "nothing mirrors it"),
}
"""How bad each state is, and what it is in words for somebody who was woken up."""
STATES: Final = tuple(_VERDICTS)
"""All that a mirror can be in, of either side."""


def mirrors_of(state: Path) -> list[MirrorView]:
    """Return all mirrors of this host. Blocks; raises ``StateError``."""
    views = [_copy_view(state, record) for record in known_places(state)]
    for record in known_primaries(state):
        views += _primary_views(state, record)
    return views


_STRANGE: Final = "it says that it is {}, and this version does not know what that is"
_UNCLEAN: Final = "it was ended without order, or before all was there"


def _is_open(directory: Path) -> bool:
    try:
        return locks.is_held(directory, FILE)
    except StateError:
        return False


def _copy_view(state: Path, record: Record) -> MirrorView:
    directory = directory_of(state, record.place)
    live = read_live(directory, CopyLive)
    is_open = _is_open(directory)
    if record.role == PRIMARY:
        how, words = "promoted", f"a primary of its own since epoch {record.epoch}"
    elif not record.complete:
        how, words = "incomplete", record.words or "the first comparison has not ended"
    elif not is_open or live is None:
        how, words = AT_REST, "no server holds it; what its journal holds is not counted"
    else:
        how = "receiving" if live.writer else "waiting"
        words = f"{live.refused} settings refused: {live.refusal}" if live.refused else ""
    applied = max(record.seq, live.applied) if live and is_open else record.seq
    lag = max(0, live.durable - applied) if live and is_open else 0
    role = "primary" if record.role == PRIMARY else "standby"
    return MirrorView(
        shown(record.place), role, record.identity, how, record.epoch, lag, 0, applied, words
    )


def _primary_views(state: Path, record: PrimaryRecord) -> Iterable[MirrorView]:
    directory = primary_directory(state, record.source)
    live = read_live(directory, PrimaryLive)
    is_open = live is not None and _is_open(directory)
    for follower in live.standbys if live else ():
        yield _follower_view(record, follower, is_open=is_open)


def _follower_view(record: PrimaryRecord, follower: FollowerLive, *, is_open: bool) -> MirrorView:
    stale = record.stale.get(follower.name)
    words = follower.words if is_open else "" if record.clean else _UNCLEAN
    if stale is not None:
        words = f"stale since operation {stale.seq}{': ' if words else ''}{words}"
    return MirrorView(
        shown(record.source), "primary", follower.name, follower.state if is_open else AT_REST,
        record.epoch, follower.lag, follower.owed_bytes, follower.applied, words,
    )  # fmt: skip


def mirrors_as_json(views: Iterable[MirrorView]) -> list[dict[str, Any]]:
    """Return the list of ``status --json``."""
    return [
        {
            "name": view.name,
            "role": view.role,
            "peer": view.peer,
            "state": view.state,
            "epoch": view.epoch,
            "lag_operations": view.lag,
            "owed_bytes": view.owed_bytes,
            "applied": view.applied,
            "verdict": view.verdict.level.name.lower(),
            "why": view.words or None,
        }
        for view in views
    ]
