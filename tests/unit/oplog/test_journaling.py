"""A journal at work: what comes during a flush is written beside it, and is not called durable."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from netsync.errors import StateError
from netsync.oplog import journaling
from netsync.oplog.journaling import Journaling, Mark
from netsync.state.journal_record import JournalRecord, Kind
from netsync.state.operation_journal import OperationJournal
from netsync.wire.operations import NO_CHAIN


class SlowJournal(OperationJournal):
    """Its flushes wait until they are let go on; ``flushing`` counts those that have begun."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, key=1)
        self.go_on = threading.Semaphore(0)
        self.flushing = 0
        self.failure: Exception | None = None

    def sync(self) -> None:
        self.flushing += 1
        if not self.go_on.acquire(timeout=50):
            raise AssertionError("nobody let it go on")
        if self.failure is not None:
            raise self.failure
        super().sync()


class CountingJournal(OperationJournal):
    """Counts how many write at once. ``most`` is the most that did."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, key=1)
        self._inside = self.most = 0

    def append(self, records: list[JournalRecord], durable: int) -> None:
        self._inside += 1
        self.most = max(self.most, self._inside)
        super().append(records, durable)
        self._inside -= 1


class Bench:
    """A journal, who works at it, and a way to wait until something holds."""

    def __init__(self, directory: Path) -> None:
        self.journal = SlowJournal(directory)
        self.journal.open_after(0, NO_CHAIN)
        self._changed = trio.lowlevel.ParkingLot()
        self.journaling = Journaling(self.journal, Mark(0, NO_CHAIN), self._tell)

    def _tell(self) -> None:
        self._changed.unpark_all()

    def add(self, seq: int, kind: Kind = Kind.OPERATIONS) -> None:
        count = 1 if kind is Kind.OPERATIONS else 0
        record = JournalRecord(kind, seq, count, NO_CHAIN, b"x" * 50)
        received = seq if kind is Kind.OPERATIONS else self.journaling.received.seq
        self.journaling.add(record, Mark(received, NO_CHAIN))

    async def until(self, written: int, durable: int, flushing: int) -> None:
        now = self.journaling
        with trio.fail_after(50):
            while (now.written.seq, now.durable.seq, self.journal.flushing) != (
                written, durable, flushing
            ):  # fmt: skip
                with trio.move_on_after(0.01):
                    await self._changed.park()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.journaling.keep_writing)
            nursery.start_soon(self.journaling.keep_flushing)
            yield
            self.journal.go_on.release(9)
            nursery.cancel_scope.cancel()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record counts as much: it is worth a write of its own, beside a flush."""
    monkeypatch.setattr(journaling, "GATHER_BYTES", 1)
    monkeypatch.setattr(journaling, "FLUSHED_WHOLE_BYTES", 0)


async def test_a_little_that_comes_during_a_flush_is_written_and_flushed_by_the_next(
    bench: Bench,
) -> None:
    async with bench.working():
        bench.add(1)
        bench.journaling.ask_flush()
        await bench.until(written=0, durable=0, flushing=1)
        bench.add(2)
        bench.journaling.ask_flush()
        bench.add(3)
        bench.journal.go_on.release()
        await bench.until(written=1, durable=1, flushing=2)
        bench.journal.go_on.release()
        await bench.until(written=3, durable=3, flushing=2)
        assert bench.journaling.is_settled
        bench.add(4)  # nobody asks for a flush
        await bench.until(written=4, durable=3, flushing=2)


@pytest.mark.usefixtures("much")
async def test_much_that_comes_during_a_flush_is_written_and_waits_for_the_next(
    bench: Bench,
) -> None:
    async with bench.working():
        bench.add(1)
        bench.journaling.ask_flush()
        await bench.until(written=1, durable=0, flushing=1)
        bench.add(2)
        bench.journaling.ask_flush()
        bench.add(3)
        await bench.until(written=3, durable=0, flushing=1)
        bench.journal.go_on.release()
        await bench.until(written=3, durable=1, flushing=2)
        bench.journal.go_on.release()
        await bench.until(written=3, durable=3, flushing=2)
        assert bench.journaling.is_settled
        assert bench.journaling.usable == bench.journal.position


async def test_one_writes_at_a_time_and_no_number_falls(tmp_path: Path) -> None:
    """Word that something is written, and word that it is flushed, come in either order."""
    journal = CountingJournal(tmp_path)
    journal.open_after(0, NO_CHAIN)
    told: list[tuple[int, int]] = []

    def tell() -> None:
        told.append((at_work.written.seq, at_work.durable.seq))

    at_work = Journaling(journal, Mark(0, NO_CHAIN), tell)
    at_work.is_eager = True
    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at_work.keep_writing)
            nursery.start_soon(at_work.keep_flushing)
            for seq in range(1, 1001):
                record = JournalRecord(Kind.OPERATIONS, seq, 1, NO_CHAIN, b"x" * 50)
                at_work.add(record, Mark(seq, NO_CHAIN), flush=seq % 2 == 0)
                await trio.lowlevel.checkpoint()
            while not at_work.is_settled:
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    journal.close()
    assert journal.most == 1
    assert told == sorted(told)
    assert all(durable <= written for written, durable in told)
    assert told[-1] == (1000, 1000)


async def test_a_failed_flush_makes_nothing_durable(bench: Bench) -> None:
    bench.journal.failure = StateError("the disk", op="flush")
    bench.add(1)
    bench.journaling.ask_flush()
    bench.journal.go_on.release()
    with pytest.raises(ExceptionGroup) as caught:
        async with bench.working():
            await trio.sleep_forever()
    assert caught.group_contains(StateError)
    assert bench.journaling.durable.seq == 0
    with trio.fail_after(50):
        async with bench.journaling.still():
            pass  # it is left behind with nobody at it


@pytest.mark.usefixtures("much")
async def test_a_resync_that_is_cut_during_a_flush_is_dropped(bench: Bench) -> None:
    async with bench.working():
        bench.add(1)
        bench.journaling.ask_flush()
        await bench.until(written=1, durable=0, flushing=1)
        end = bench.journal.position
        bench.add(0, Kind.RESYNC_BEGIN)
        bench.add(0, Kind.RESYNC_OPERATIONS)
        with trio.fail_after(50):
            while bench.journaling.pending_bytes or bench.journal.position == end:
                await trio.sleep(0.01)
        bench.journaling.abandon()
        assert not bench.journaling.is_settled
        bench.journal.go_on.release(2)
        await bench.until(written=1, durable=1, flushing=2)
        assert bench.journaling.is_settled
        assert bench.journal.position == end == bench.journaling.usable
