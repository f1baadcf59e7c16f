"""The primary's log: operations in one order, and what standbys have of them.

Whoever changes the backing directory appends each change here in the same step, without an await
between, so the order of the log is the order of the disk. ``append`` never waits; ``room`` does,
before a change is made. ``wait`` returns once all standbys have what was appended, as safely as
asked. Without a standby the log only counts.

Operations are kept until they are durable on every standby that counts. A standby counts until it
is *degraded*: ``keep`` does that after the loss timeout, if the policy says so, and only after
``note_stale`` has made durable that the standby is behind; from then on it is owed what changes,
and nobody waits for it. It counts again when it has made up for that. What must hold: no ``wait``
returns for a standby that counts before it has said that it has the operation and all before it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import trio

from netsync.errors import IndeterminateError, NetsyncError
from netsync.operation import Level, Loss, Operation, written_by
from netsync.oplog.awaited import Awaited
from netsync.oplog.entry import Entry, written_in
from netsync.oplog.follower import Follower, FollowerStatus, State
from netsync.oplog.owed import Owed
from netsync.wire.mirroring import BATCH_OPERATIONS, OPERATIONS_MAX
from netsync.wire.operations import NO_CHAIN, chained, packed_parts

QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of operations that are not durable everywhere; with more, writers wait."""
GATHER_BYTES: Final = 64 * 1024
"""Bytes of operations that are worth a message of their own, though nobody waits for them."""
GATHER_OPERATIONS: Final = 64
"""So many are worth one as well, and are soon counted."""


@dataclass(frozen=True)
class LogPolicy:
    """What is waited for, and what is done about a lost standby after ``timeout`` seconds."""

    level: Level = Level.DURABLE
    loss: Loss = Loss.BLOCK
    timeout: float = 30.0


NoteStale = Callable[[str, int], Awaitable[None]]
"""Makes durable that a standby has nothing behind an operation."""


async def _note_nothing(name: str, seq: int) -> None:
    del name, seq


class Log:
    """``head`` is the number of the last operation, ``chain`` the digest of all; the first gets 1.

    ``keep`` must run beside whatever waits.
    """

    def __init__(
        self,
        standbys: Sequence[str] = (),
        policy: LogPolicy = LogPolicy(),
        note_stale: NoteStale = _note_nothing,
    ) -> None:
        self.head = 0
        self.chain = NO_CHAIN
        self.policy = policy
        self.wanted = self.sync_wanted = 0
        self.followers = [Follower(name) for name in standbys]
        self._note_stale = note_stale
        self._entries: deque[Entry] = deque()
        self._base = NO_CHAIN
        self._bytes = 0
        self._paused = 0
        self._gathered = 0
        self._answers = Awaited()
        self._changed = trio.lowlevel.ParkingLot()
        self._sending = trio.lowlevel.ParkingLot()
        self._gathering = trio.lowlevel.ParkingLot()

    # --- writers -------------------------------------------------------------------------------

    def append(self, operation: Operation, file: int = 0, left: int = 0) -> int:
        """Add what was just done to the backing directory, and return its number.

        ``file`` is the inode that it was done to: of operations that write data or give a file a
        name. ``left`` is how many names the file still has that just lost one, by ``Unlink`` or
        in the way of ``Rename``. Never waits, never fails.
        """
        self.head += 1
        if not self.followers:
            return self.head
        parts = packed_parts(operation)
        size = sum(map(len, parts))
        self.chain = chained(self.chain, *parts)
        is_kept = False
        for follower in self.followers:
            if follower.is_degraded:
                assert follower.owed is not None
                follower.owed.add(self.head, operation, parts, file, left)
            else:
                is_kept = True
                if follower.names is not None:
                    follower.names.follow(operation)
        if is_kept:
            entry = Entry(self.head, parts, size, self.chain, file, left, written_by(operation))
            self._entries.append(entry)
            self._bytes += size
        else:
            self._base = self.chain
        self._sending.unpark_all()
        self._gathered += max(size, GATHER_BYTES // GATHER_OPERATIONS)
        if self._gathered >= GATHER_BYTES:
            self._gathered = 0
            self.hurry()
        return self.head

    async def room(self) -> None:
        """Wait, before a change is made, until the log can take it. No await may come between.

        Raises ``IndeterminateError`` where the stream is closed to writers.
        """
        if not self.followers:
            return
        while self._paused or self._bytes > QUEUE_BYTES or self._failure() is not None:
            if (failure := self._failure()) is not None:
                raise failure
            # Links ask for flushes in time.
            await self._wait_or_give_up(lambda: self._bytes <= QUEUE_BYTES)

    async def wait(self, seq: int, level: Level) -> None:
        """Return when all standbys have everything up to ``seq`` at ``level``.

        Raises ``IndeterminateError`` if the answer does not come: then it may be there or not.
        """
        self.want(seq, level)
        while not self.is_everywhere(seq, level):
            if (failure := self._failure()) is not None:
                raise failure
            await self._wait_or_give_up(lambda: self.is_everywhere(seq, level))

    def is_everywhere(self, seq: int, level: Level) -> bool:
        """Tell whether all standbys that count have everything up to ``seq`` at ``level``."""
        return all(each.has(seq, level) for each in self.followers if each.is_waited_for)

    async def wait_shown(self, seq: int) -> None:
        """Return when the trees of all standbys show everything up to ``seq``. Raises as ``wait``.

        Also those that do not count: it is over when they have caught up.
        """
        self.want(seq, Level.DURABLE)
        while not self._is_shown(seq):
            if (failure := self._failure()) is not None:
                raise failure
            await self._wait_or_give_up(lambda: self._is_shown(seq))

    def _is_shown(self, seq: int) -> bool:
        return all(each.applied >= seq for each in self.followers)

    def want(self, seq: int, level: Level) -> None:
        """Have the standbys get everything up to ``seq`` now, and flush it if that is the level."""
        is_more = seq > self.wanted
        self.wanted = max(self.wanted, seq)
        if level is Level.DURABLE and seq > self.sync_wanted:
            self.sync_wanted, is_more = seq, True
        if is_more:
            self._sending.unpark_all()
            self.hurry()

    async def ready(self) -> None:
        """Return when all standbys are in step. Raises why one refuses us for good."""
        while any(each.state is not State.SYNC for each in self.followers):
            for follower in self.followers:
                if follower.fence is not None:
                    raise follower.fence
            await self._changed.park()

    async def _wait_or_give_up(self, is_so: Callable[[], bool]) -> None:
        """Wait until ``is_so``, for a change, or till the moment when a standby is given up."""
        if (end := self._patience_ends()) == math.inf:
            await self._answers.until(is_so)
        else:
            with trio.move_on_at(end):
                await self._answers.until(is_so)

    def _patience_ends(self) -> float:
        if self.policy.loss is not Loss.ERROR:
            return math.inf
        return min(map(self._gives_up_at, self._lost()), default=math.inf)

    def _lost(self) -> list[Follower]:
        return [each for each in self.followers if each.state is State.LOST and not each.owed]

    def _gives_up_at(self, follower: Follower) -> float:
        return follower.since + self.policy.timeout

    def _failure(self) -> NetsyncError | None:
        """Return why the stream is closed to writers, if it is."""
        if (fence := self._fence()) is not None:
            return fence
        if self.policy.loss is Loss.ERROR:
            for follower in self._lost():
                if trio.current_time() >= self._gives_up_at(follower):
                    return IndeterminateError(
                        f"no answer since {self.policy.timeout:g} seconds and more: "
                        f"{follower.words or 'the connection was lost'}",
                        op="mirror to", where=follower.name,
                        hint="what was written may be there or not; writing goes on by itself "
                        "when the standby is back",
                    )  # fmt: skip
        return None

    def _fence(self) -> NetsyncError | None:
        for follower in self.followers:
            if follower.fence is not None:
                return IndeterminateError(
                    follower.fence.why, op="mirror to", where=follower.name,
                    hint=follower.fence.hint,
                )  # fmt: skip
        return None

    # --- links ---------------------------------------------------------------------------------

    def tell(self) -> None:
        """A standby has changed: whoever waits for one looks again."""
        self._changed.unpark_all()
        self._answers.wake()

    async def wait_work(self) -> None:
        """Return when there is something to send."""
        await self._sending.park()

    def hurry(self) -> None:
        """Let those who wait for more to send look again."""
        self._gathering.unpark_all()

    async def wait_more(self) -> None:
        """Return when there is much more to send, or somebody waits for it."""
        await self._gathering.park()

    @property
    def written(self) -> set[bytes]:
        """The files of which content is kept, that a standby may not have yet."""
        return written_in(self._entries)

    @property
    def queued_bytes(self) -> int:
        """Bytes of operations that are not durable everywhere."""
        return self._bytes

    @property
    def first(self) -> int:
        """The number of the first operation that is kept, or will be."""
        return self._entries[0].seq if self._entries else self.head + 1

    def chain_at(self, seq: int) -> bytes | None:
        """Return the chain after operation ``seq``, or None if it is not known any more."""
        if seq == self.first - 1:
            return self._base
        if self.first <= seq <= self.head:
            return self._entries[seq - self.first].chain
        return None

    def after(self, seq: int) -> list[Entry]:
        """Return the operations behind ``seq``, as many as fit one message."""
        assert seq >= self.first - 1
        batch: list[Entry] = []
        size = 0
        start = seq + 1 - self.first
        for entry in islice(self._entries, start, start + BATCH_OPERATIONS):
            size += entry.size
            if batch and size > OPERATIONS_MAX:
                break
            batch.append(entry)
        return batch

    def is_much(self, seq: int) -> bool:
        """Tell whether what is behind ``seq`` is worth a message that nobody waits for."""
        count = self.head - seq
        last = islice(reversed(self._entries), count)
        return count >= GATHER_OPERATIONS or sum(each.size for each in last) >= GATHER_BYTES

    def trim(self) -> None:
        """Drop what is durable on every standby that counts, and tell those who wait."""
        self._drop()
        self.tell()

    def heard(self) -> None:
        """The same if nothing has changed but that a standby has more: tell those it is for."""
        self._drop()
        self._answers.look()

    def _drop(self) -> None:
        kept = min((f.durable for f in self.followers if not f.is_degraded), default=self.head)
        while self._entries and self._entries[0].seq <= kept:
            entry = self._entries.popleft()
            self._base = entry.chain
            self._bytes -= entry.size

    def pause(self) -> None:
        """Let no writer begin anything until ``go_on``: the trees are being compared."""
        self._paused += 1

    def go_on(self) -> None:
        """See ``pause``."""
        self._paused -= 1
        self.tell()

    # --- losses --------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Degrade standbys that are lost for too long, if that is the policy. Runs until cancelled.

        Raises ``StateError`` if it cannot be noted that one is stale.
        """
        while True:
            degrades = self.policy.loss is Loss.DEGRADE
            lost = self._lost() if degrades else []
            due = min(map(self._gives_up_at, lost), default=math.inf)
            with trio.move_on_at(due) as waiting:
                await self._changed.park()
            if waiting.cancelled_caught:
                for follower in self._lost():
                    if trio.current_time() >= self._gives_up_at(follower):
                        await self._degrade(follower)

    async def _degrade(self, follower: Follower) -> None:
        """Go on without ``follower``, but only once it is on record that it is stale."""
        await self._note_stale(follower.name, follower.durable)
        if follower.state is State.LOST:
            self.owe(follower)

    def owe(self, follower: Follower) -> None:
        """Keep what changes for ``follower`` as debts, from what it is known to have."""
        owed = Owed(follower.durable)
        owed.chains[follower.durable] = self.chain_at(follower.durable) or NO_CHAIN
        for entry in self._entries:
            if entry.seq <= follower.sent:
                owed.chains[entry.seq] = entry.chain
        self._owe_behind(owed, follower.durable)
        follower.owed = owed
        follower.enter(State.DEGRADED, follower.words)
        self.trim()
        self._sending.unpark_all()  # a session that was to bring it into step is over
        self.hurry()

    def _owe_behind(self, owed: Owed, seq: int) -> None:
        for entry in self._entries:
            if entry.seq > seq:
                owed.add(entry.seq, entry.operation, entry.parts, entry.file, entry.left)

    def owe_again(self, follower: Follower) -> None:
        """What ``follower`` is owed has not arrived, and what came since is owed too."""
        owed = follower.owed
        assert owed is not None
        if follower.state is State.RESYNC:
            self._owe_behind(owed, owed.until)
        follower.enter(State.DEGRADED, follower.words)
        self.trim()

    def status(self) -> list[FollowerStatus]:
        """Return what is known of the standbys now."""
        return [each.status(self.head) for each in self.followers]
