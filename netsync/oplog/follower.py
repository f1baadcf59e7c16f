"""One standby as the primary's log sees it: what it has, and whether it counts."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import trio

from netsync.errors import NetsyncError, ProtocolError
from netsync.operation import Level
from netsync.oplog.owed import FileNames, Owed
from netsync.wire.mirroring import Acked


class State(enum.StrEnum):
    """Where a standby is. Only a degraded one is not waited for.

    ``REFUSING`` is only told (``Follower.fence``).
    """

    STARTING = "starting"
    SYNC = "sync"
    LOST = "lost"
    DEGRADED = "degraded"
    RESYNC = "resync"
    REFUSING = "refusing"


@dataclass(frozen=True)
class FollowerStatus:
    """What is told of a standby. ``lag`` counts operations that are not durable there."""

    name: str
    state: State
    durable: int
    applied: int
    lag: int
    owed_operations: int = 0
    owed_bytes: int = 0
    words: str = ""


class Follower:
    """``received``, ``written``, ``durable`` and ``applied`` are the last numbers it has told.

    ``since`` is when it entered its state (trio's time).
    ``sent`` is the last operation sent in the present session. ``owed`` is what is kept in place of
    the operations since it was lost, while it is degraded and until it has made up for that;
    ``names`` are those of owed files now, while they are being sent.
    ``fence`` is why it will have nothing more of us, ever.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.STARTING
        self.received = self.written = self.durable = self.applied = 0
        self.sent = 0
        self.owed: Owed | None = None
        self.names: FileNames | None = None
        self.fence: NetsyncError | None = None
        self.words = ""
        self.since = trio.current_time()

    def enter(self, state: State, words: str = "") -> None:
        """Be in ``state`` from now on, because of ``words``."""
        if state is not self.state:
            self.since = trio.current_time()
        self.state, self.words = state, words

    @property
    def is_degraded(self) -> bool:
        """Tell whether nobody waits for it, nor keeps operations for it."""
        return self.state is State.DEGRADED

    @property
    def is_waited_for(self) -> bool:
        """Tell whether an acknowledgement needs this standby's."""
        return self.owed is None

    def has(self, seq: int, level: Level) -> bool:
        """Tell whether it has everything up to ``seq`` at ``level``."""
        if level is Level.DURABLE:
            return self.durable >= seq
        return (self.written if level is Level.WRITTEN else self.received) >= seq

    def begins_at(self, seq: int) -> None:
        """A session begins: all up to ``seq`` is durable, and what is behind is sent anew."""
        self.received = self.written = self.durable = self.sent = seq
        self.applied = min(self.applied, seq)

    def check(self, acked: Acked) -> None:
        """Raise ``ProtocolError`` if what it says it has cannot be."""
        told = (acked.received, acked.written, acked.durable, acked.applied)
        before = (self.received, self.written, self.durable, self.applied)
        if any(new < old for new, old in zip(told, before, strict=True)):
            raise ProtocolError("the standby has less than it said before", op="mirror to",
                                where=self.name)  # fmt: skip
        if not self.sent >= acked.received >= acked.written >= acked.durable >= acked.applied:
            raise ProtocolError("the standby says that it has what was not sent", op="mirror to",
                                where=self.name)  # fmt: skip

    def take(self, acked: Acked) -> None:
        """Believe what it says it has, which was checked."""
        told = (acked.received, acked.written, acked.durable, acked.applied)
        self.received, self.written, self.durable, self.applied = told

    def status(self, head: int) -> FollowerStatus:
        """Return what is known of it now."""
        owed = self.owed
        state = State.REFUSING if self.fence else self.state
        return FollowerStatus(
            self.name, state, self.durable, self.applied, head - self.durable,
            owed.operations if owed else 0, owed.bytes if owed else 0, self.words,
        )  # fmt: skip
