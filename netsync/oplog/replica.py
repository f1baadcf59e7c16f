"""A standby's copy of one log: takes operations, makes them durable, lets the tree follow.

*Journal first.* What arrives is checked, counted and handed to ``journaling``.
*Apply behind.* The apply task carries what is durable into the tree. What must hold: nothing is
called durable before its flush has returned, nothing is applied before it is durable, a failed
flush or an operation that does not fit ends everything, and a number that was told never falls.

The replica lives as long as the server; primaries come and go. It knows nothing of channels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from netsync.errors import NetsyncError, NetworkError, ProtocolError, unwrapped
from netsync.operation import Level
from netsync.oplog.applying import Applying
from netsync.oplog.journaling import Journaling, Mark
from netsync.state.journal_record import JournalRecord, Kind
from netsync.state.live import CopyLive
from netsync.state.mirror_record import PRIMARY, Record, RecordFile
from netsync.state.operation_journal import End, OperationJournal
from netsync.wire.mirroring import Acked, Operations, ResyncEnd
from netsync.wire.operations import NO_CHAIN, chained, unpack

PENDING_BYTES: Final = 16 * 1024 * 1024
"""Bytes that wait for the journal; with more, nothing is received."""
UNAPPLIED_BYTES: Final = 1024 * 1024 * 1024
"""Bytes in the journal that the tree does not show yet; with more, nothing is received."""
GATHER_SECONDS: Final = 0.02
"""How long what is durable gathers before it is applied: a thread hop for each would cost more."""
IDLE_SECONDS: Final = 5.0
"""How long after the last operation a checkpoint is made, so that the journal can go."""


class Replica:
    """One place's log and tree.

    ``failure`` is what ended it. Methods without ``async`` return at once.
    """

    def __init__(
        self, records: RecordFile, journal: OperationJournal, applying: Applying, end: End
    ) -> None:
        self.failure: NetsyncError | None = None
        self.has_writer = False
        self._refusal: NetsyncError | None = None
        self._scope = trio.CancelScope()
        self._records = records
        self._journal = journal
        self._journaling = Journaling(journal, Mark(end.seq, end.chain), self._tell)
        self._applying = applying
        self._resync: Mark | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        self._doing = trio.Lock()

    @property
    def received(self) -> Mark:
        """How far the log is here."""
        return self._journaling.received

    @property
    def durable(self) -> Mark:
        """How far the log is flushed."""
        return self._journaling.durable

    @property
    def record(self) -> Record:
        """What is known of the place, durably."""
        return self._applying.record

    @property
    def applied(self) -> int:
        """The last operation that the tree shows."""
        return self._applying.seq

    @property
    def unapplied_bytes(self) -> int:
        """Bytes of journal that the tree does not show yet."""
        return self._journal.size_from(self._applying.position)

    def live(self) -> CopyLive:
        """Return what there is to know of it now."""
        refused, words = self._applying.refusals
        return CopyLive(self.durable.seq, self.applied, self.has_writer, refused, words)

    # --- what a session does -------------------------------------------------------------------

    def begin(self, level: Level) -> None:
        """A primary streams from now on, whose writers wait for ``level``."""
        self.has_writer = True
        self._journaling.is_eager = level < Level.DURABLE

    def take(self, batch: Operations, tail: memoryview) -> None:
        """Take operations that arrived. Raises ``ProtocolError`` if they do not continue the log.

        Those that are here already are passed over.
        """
        if self._refusal is not None:
            raise self._refusal
        count, chain = self._resync or self.received
        if batch.first > count + 1:
            raise _wrong(f"operations {count + 1} to {batch.first - 1} are missing")
        number = batch.first - 1
        for number, unpacked in enumerate(unpack(tail), batch.first):
            if number > count:
                chain = chained(chain, unpacked.packed)
        if number != batch.first + batch.count - 1:
            raise _wrong(f"{number - batch.first + 1} operations where {batch.count} were told")
        if number > count:
            if chain != batch.chain:
                raise _wrong(f"the logs have diverged: other chains at operation {number}")
            self._queue(batch, tail, chain)
        elif batch.sync and self._resync is None:
            self.want_durable(number)

    def _queue(self, batch: Operations, tail: memoryview, chain: bytes) -> None:
        last = batch.first + batch.count - 1
        if self._resync is None:
            kind, received = Kind.OPERATIONS, Mark(last, chain)
        else:
            kind, received = Kind.RESYNC_OPERATIONS, self.received
            self._resync = Mark(last, chain)
        flush = batch.sync and kind is Kind.OPERATIONS
        record = JournalRecord(kind, batch.first, batch.count, chain, tail)
        self._journaling.add(record, received, flush=flush)

    def want_durable(self, seq: int) -> None:
        """Make everything up to ``seq`` durable. Raises ``ProtocolError`` for what is not here."""
        if seq > self.received.seq:
            raise _wrong(f"operation {seq} is to be durable and was not sent")
        if seq > self.durable.seq:
            self._journaling.ask_flush()

    def begin_resync(self) -> None:
        """What follows makes up for what was not kept."""
        if self._resync is not None:
            raise _wrong("a resync within a resync")
        self._resync = Mark(0, NO_CHAIN)
        self._journaling.add(JournalRecord(Kind.RESYNC_BEGIN, 0, 0, NO_CHAIN), self.received)

    def end_resync(self, end: ResyncEnd) -> None:
        """It is complete: the log goes on behind ``end.seq``."""
        if self._resync is None or end.count != self._resync.seq:
            raise _wrong("the end of a resync that did not come like this")
        if end.seq < self.received.seq:
            raise _wrong(f"a resync leads back to operation {end.seq}")
        self._resync = None
        record = JournalRecord(Kind.RESYNC_END, end.seq, 0, end.chain)
        self._journaling.add(record, Mark(end.seq, end.chain), flush=True)

    async def room(self) -> None:
        """Wait until more may be received. Raises what ended the replica."""
        while (
            self._journaling.pending_bytes > PENDING_BYTES or self.unapplied_bytes > UNAPPLIED_BYTES
        ):
            await self.wait_change()

    def acked(self) -> Acked:
        """Return what may be told to the primary now. Raises what ended the replica."""
        self._must_live()
        return Acked(
            self.received.seq, self._journaling.written.seq, self.durable.seq, self.applied,
            self.durable.chain,
        )  # fmt: skip

    def _must_live(self) -> None:
        """Raise what ended the replica, or is about to: its record is another's matter then."""
        if (error := self.failure or self._refusal) is not None:
            raise error

    async def wait_change(self) -> None:
        """Return when anything has changed. Raises what ended the replica."""
        if self.failure is None:
            await self._waiting.park()
        if self.failure is not None:
            raise self.failure

    def release(self) -> None:
        """Nobody sends any more: drop what is incomplete, and make the rest durable."""
        self.has_writer = False
        if self._resync is not None:
            self._resync = None
            self._journaling.abandon()
        self._journaling.ask_flush()

    async def settle(self) -> Mark:
        """Return how far it is, when that is durable, and nothing is under way."""
        self.release()
        while not self._journaling.is_settled:
            await self.wait_change()
        return self.durable

    # --- what changes the record ---------------------------------------------------------------

    async def hold_still(self) -> None:
        """Let the tree show all that is here: others will compare it, and change it."""
        await self.settle()
        async with self._doing:
            self._must_live()
            await self._do(self._catch_up)
        self._tell()

    async def adopt(self, mark: Mark, record: Record) -> None:
        """The tree was made equal to the primary's at ``mark``: flush it, and begin there."""
        async with self._journaling.still(), self._doing:
            self._must_live()
            await self._do(lambda: self._adopt(mark, record))
            self._journaling.begin_at(mark)
        self._tell()

    def _adopt(self, mark: Mark, record: Record) -> None:
        self._applying.checkpoint()
        self._journal.restart()
        now = msgspec.structs.replace(
            record, seq=mark.seq, chain=mark.chain, part=0, complete=True, words="", at=time.time(),
            inode=self._applying.inode,
        )  # fmt: skip
        self._records.save(now)
        self._applying.begin_at(mark.seq, mark.chain)

    def _catch_up(self) -> None:
        while not self._applying.step(self._journaling.usable):
            pass
        self._applying.checkpoint()

    async def _do(self, work: Callable[[], None]) -> None:
        """Do what changes all of the copy, in a thread. If it fails that is the copy's end.

        A second flush would not tell of what the first one lost.
        """
        try:
            await trio.to_thread.run_sync(work)
        except NetsyncError as error:
            self.failure = error
            self._scope.cancel()
            raise

    async def save(self, record: Record) -> None:
        """Let ``record`` be what is known, durably."""
        async with self._doing:
            self._must_live()
            now = msgspec.structs.replace(record, at=time.time())
            await trio.to_thread.run_sync(self._records.save, now)

    async def promote(self, refusal: NetsyncError) -> Record:
        """Finish what is here, and make it the original, durably; ``refusal`` is for its writer.

        The copy is closed after it.
        """
        self._refusal = refusal
        try:
            await self.settle()
            async with self._journaling.still(), self._doing:
                await self._do(self._promote)
        except BaseException:
            self._refusal = None  # it is a standby as before
            raise
        self.failure = refusal
        self._scope.cancel()
        return self.record

    def promote_at_rest(self) -> Record:
        """The same for a copy whose tasks do not run; it was recovered when it was opened."""
        self._promote()
        return self.record

    def _promote(self) -> None:
        self._catch_up()
        self._applying.finish_comparison()
        self._records.save(promoted(self.record))
        self._journal.restart()

    # --- the three tasks -----------------------------------------------------------------------

    async def run(self) -> None:
        """Write, flush and apply until cancelled, or until something fails. Raises that."""
        try:
            with unwrapped():
                async with trio.open_nursery() as nursery:
                    self._scope = nursery.cancel_scope
                    nursery.start_soon(self._journaling.keep_writing)
                    nursery.start_soon(self._journaling.keep_flushing)
                    nursery.start_soon(self._keep_applying)
        except NetsyncError as error:
            self.failure = error
            raise
        finally:
            if self.failure is None:
                self.failure = NetworkError("the server is stopping", hint="try again later")
            self._tell()
            with trio.CancelScope(shield=True):  # a session may have a thread at it still
                async with self._journaling.still(), self._doing:
                    pass

    def _tell(self) -> None:
        self._waiting.unpark_all()

    async def _keep_applying(self) -> None:
        while True:
            is_idle = await self._is_idle()
            async with self._doing:
                if is_idle:
                    await trio.to_thread.run_sync(self._applying.checkpoint)
                else:
                    await trio.to_thread.run_sync(self._applying.step, self._journaling.usable)
            self._tell()
            await trio.sleep(GATHER_SECONDS)

    async def _is_idle(self) -> bool:
        """Return when there is something to apply, or, with True, to make a checkpoint of."""
        while self._applying.position >= self._journaling.usable:
            is_noted = self._applying.seq == self.record.seq
            with trio.move_on_after(math.inf if is_noted else IDLE_SECONDS) as waiting:
                await self._journaling.flushed.park()
            if waiting.cancelled_caught:
                return True
        return False

    def close(self) -> None:
        """Let go of the files."""
        self._applying.close()
        self._journal.close()
        self._records.close()


def promoted(record: Record) -> Record:
    """Return the record of a copy that is the original from now on."""
    return msgspec.structs.replace(
        record, role=PRIMARY, epoch=record.epoch + 1, complete=True, at=time.time()
    )


def _wrong(why: str) -> ProtocolError:
    return ProtocolError(why, op="mirror")
