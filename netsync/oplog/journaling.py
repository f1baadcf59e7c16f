"""A standby's journal at work: what is queued is written, and flushed when somebody asks.

If nobody asks, what is queued is written. If somebody does it is written and flushed, in one thread
hop: those who wait share a flush (*group commit*). What comes while a flush is under way is written
beside it, and shares the next one, so that a stream of data is received, written and flushed at the
same time. What must hold: nothing is called durable before the flush has returned that began after
it was written, and numbers never fall. A failed flush or write ends everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

import trio

from netsync.state.journal_record import HEAD_BYTES, JournalRecord, Kind, Position
from netsync.state.operation_journal import OperationJournal

GATHER_BYTES: Final = 4 * 1024 * 1024
"""Bytes that are worth a thread hop of their own."""
GATHER_SECONDS: Final = 0.01
"""How long less than that waits for more, or for a flush that takes it along."""


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
        self._arrived = trio.lowlevel.ParkingLot()
        self._flushing = trio.Lock()
        self._writing = trio.Semaphore(1)

    # --- what a session does -------------------------------------------------------------------

    def add(self, record: JournalRecord, received: Mark) -> None:
        """Queue ``record``; with it the log is at ``received``."""
        self.received = received
        self._pending.append(record)
        self.pending_bytes += HEAD_BYTES + len(record.body)
        self._arrived.unpark_all()

    def ask_flush(self) -> None:
        """Somebody waits until everything received is durable."""
        self._flush_asked = True
        self._arrived.unpark_all()

    def abandon(self) -> None:
        """Drop the resync that was begun."""
        self._abandon = True
        self._arrived.unpark_all()

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
        while True:
            while not self._is_mine():
                await self._arrived.park()
            with trio.move_on_after(GATHER_SECONDS):
                while self._is_mine() and self._is_little():
                    await self._arrived.park()
            if not self._is_mine():
                continue
            async with self._writing:
                taken = self._take()
                await trio.to_thread.run_sync(self._append, taken)
                self.written = taken.target
            self._tell()

    async def keep_flushing(self) -> None:
        """Flush when somebody asks, and drop a resync that was cut."""
        while True:
            while not self._must_flush():
                await self._arrived.park()
            async with self._flushing:
                await self._write_and_flush()
            self._arrived.unpark_all()
            self.flushed.unpark_all()
            self._tell()

    def _is_mine(self) -> bool:
        """Tell whether there is something that no flush will take along."""
        is_taken_along = self._must_flush() and not self._flushing.locked()
        return bool(self._pending) and not is_taken_along

    def _is_little(self) -> bool:
        return self.pending_bytes < GATHER_BYTES and not self.is_eager

    def _must_flush(self) -> bool:
        return self._flush_asked or self._abandon

    async def _write_and_flush(self) -> None:
        """Once it has written, others may write beside the flush."""
        await self._writing.acquire()
        is_writing = True
        token = trio.lowlevel.current_trio_token()
        self._flush_asked, abandon = False, self._abandon
        taken = self._take()

        def written() -> None:
            nonlocal is_writing
            is_writing = False
            self._writing.release()
            self._abandon = self._abandon and not abandon
            self.written = taken.target
            self._arrived.unpark_all()
            self._tell()

        def work() -> Position:
            self._append(taken)
            if abandon and self._begun is not None:
                self._journal.cut(self._begun)
                self._begun = None
            usable = self._begun or self._journal.position
            token.run_sync_soon(written)  # trio does it before it hears that this has returned
            self._journal.sync()
            return usable

        try:
            self.usable = await trio.to_thread.run_sync(work)
        finally:
            if is_writing:
                self._writing.release()
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
