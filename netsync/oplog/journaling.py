"""A standby's journal at work: what is queued is written, and flushed when somebody asks.

If nobody asks, what is queued is written. If somebody does it is written and flushed, in one thread
hop: those who wait share a flush (*group commit*). What comes while a flush is under way is written
beside it, and shares the next one, so that a stream of data is received, written and flushed at the
same time. What must hold: nothing is called durable before the flush has returned that began after
it was written, and numbers never fall. A failed flush or write ends everything.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

import trio

from netsync.state.journal_record import HEAD_BYTES, JournalRecord, Kind, Position
from netsync.state.operation_journal import OperationJournal
from netsync.tree.quick_threads import QuickThreads

GATHER_BYTES: Final = 4 * 1024 * 1024
"""Bytes that are worth a thread hop of their own."""
GATHER_SECONDS: Final = 0.01
"""How long less than that waits for more, or for a flush that takes it along."""
FLUSHED_WHOLE_BYTES: Final = 64 * 1024
"""Bytes up to which nobody is told that they are written before they are flushed: trio's thread
would take the interpreter's lock from the one that is about to flush."""


class Mark(NamedTuple):
    """A place in the log."""

    seq: int
    chain: bytes


class _Taken(NamedTuple):
    """What goes to the journal at once, and where the log is with it."""

    records: list[JournalRecord]
    target: Mark


class Journaling:
    """Carries records into ``journal``. ``received``, ``written``, ``durable`` are how far it is.

    ``usable`` is where in the journal that ends which is durable and whole. ``is_eager`` says that
    somebody waits for less than a flush. ``tell`` is called when anything has changed. Its two
    tasks are the caller's to run.
    """

    def __init__(self, journal: OperationJournal, at: Mark, tell: Callable[[], None]) -> None:
        self.received = self.written = self.durable = at
        self.usable = journal.position
        self.pending_bytes = 0
        self.is_eager = False
        self.flushed = trio.lowlevel.ParkingLot()
        self._journal = journal
        self._tell = tell
        self._pending: list[JournalRecord] = []
        self._flush_asked = False
        self._abandon = False
        self._begun: Position | None = None
        self._to_write = trio.lowlevel.ParkingLot()
        self._to_flush = trio.lowlevel.ParkingLot()
        self._flushing = trio.Lock()
        self._writing = trio.Semaphore(1)

    # --- what a session does -------------------------------------------------------------------

    def add(self, record: JournalRecord, received: Mark, *, flush: bool = False) -> None:
        """Queue ``record``; with it the log is at ``received``. With ``flush`` somebody waits."""
        self.received = received
        self._pending.append(record)
        self.pending_bytes += HEAD_BYTES + len(record.body)
        self._flush_asked |= flush
        self._wake()

    def ask_flush(self) -> None:
        """Somebody waits until everything received is durable."""
        self._flush_asked = True
        self._wake()

    def abandon(self) -> None:
        """Drop the resync that was begun."""
        self._abandon = True
        self._wake()

    def _wake(self) -> None:
        """Wake who takes what is queued, and not the other."""
        if self._must_flush():
            self._to_flush.unpark_all()
        if self._is_mine():
            self._to_write.unpark_all()

    @property
    def is_settled(self) -> bool:
        """Tell whether everything that was received is durable."""
        return not self._abandon and not self._pending and self.durable == self.received

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncGenerator[None]:
        """Let nobody be at the journal's end while the body runs."""
        async with self._flushing, self._writing:
            yield

    def begin_at(self, mark: Mark) -> None:
        """The journal was emptied, while it was still; the log goes on at ``mark``."""
        self.received = self.written = self.durable = mark
        self.usable = self._journal.position

    # --- the two tasks -------------------------------------------------------------------------

    async def keep_writing(self) -> None:
        """Write what arrives while nobody asks for a flush, or while one is under way."""
        with contextlib.closing(QuickThreads("netsync journal")) as thread:
            while True:
                while not self._is_mine():
                    await self._to_write.park()
                with trio.move_on_after(GATHER_SECONDS):
                    while self._is_mine() and self._is_little():
                        await self._to_write.park()
                if not self._is_mine():
                    continue
                async with self._writing:
                    taken = self._take()
                    await thread.run(functools.partial(self._append, taken))
                    self.written = taken.target
                self._tell()

    async def keep_flushing(self) -> None:
        """Flush when somebody asks, and drop a resync that was cut."""
        with contextlib.closing(QuickThreads("netsync flush")) as thread:
            while True:
                while not self._must_flush():
                    await self._to_flush.park()
                async with self._flushing:
                    await self._write_and_flush(thread)
                self.flushed.unpark_all()
                self._tell()

    def _is_mine(self) -> bool:
        """Tell whether there is something that no flush takes along, or much to do beside one."""
        if self._must_flush() and (self._is_little() or not self._flushing.locked()):
            return False
        return bool(self._pending)

    def _is_little(self) -> bool:
        return self.pending_bytes < GATHER_BYTES and not self.is_eager

    def _must_flush(self) -> bool:
        return self._flush_asked or self._abandon

    async def _write_and_flush(self, thread: QuickThreads) -> None:
        """Once it has written, others may write beside the flush, if there was much."""
        await self._writing.acquire()
        is_writing = True
        token = trio.lowlevel.current_trio_token()
        self._flush_asked, abandon = False, self._abandon
        is_told = self.is_eager or not 0 < self.pending_bytes <= FLUSHED_WHOLE_BYTES
        taken = self._take()

        def written() -> None:
            nonlocal is_writing
            if not is_writing:
                return  # the end of all was heard of first
            is_writing = False
            self._writing.release()
            self._abandon = self._abandon and not abandon
            self.written = taken.target
            self._wake()
            if is_told:
                self._tell()

        def work() -> Position:
            self._append(taken)
            if abandon and self._begun is not None:
                self._journal.cut(self._begun)
                self._begun = None
            usable = self._begun or self._journal.position
            if is_told:
                token.run_sync_soon(written)
            self._journal.sync()
            return usable

        try:
            self.usable = await thread.run(work)
        except BaseException:
            if is_writing:
                is_writing = False
                self._writing.release()
            raise
        written()
        self.durable = taken.target

    def _take(self) -> _Taken:
        taken = _Taken(self._pending, self.received)
        self._pending, self.pending_bytes = [], 0
        return taken

    def _append(self, taken: _Taken) -> None:
        batch: list[JournalRecord] = []
        for record in taken.records:
            if record.kind is Kind.RESYNC_BEGIN:
                self._journal.append(batch, self.durable.seq)
                batch, self._begun = [], self._journal.position
            elif record.kind is Kind.RESYNC_END:
                self._begun = None
            batch.append(record)
        self._journal.append(batch, self.durable.seq)
