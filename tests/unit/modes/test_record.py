"""The one writer of what is known: in order, not needlessly, and over a disk that is full."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.testing import MockClock

from netsync.errors import StateError
from netsync.modes.pinging import Pinger, told
from netsync.modes.record import Record
from netsync.plan.standing import Standing
from netsync.state.jobs import Event
from tests.support.monitor import monitoring


class Disk:
    """Keeps what it is given, slowly, unless it is full."""

    def __init__(self) -> None:
        self.full = False
        self.writes: list[tuple[Standing, list[str]]] = []

    async def save(self, standing: Standing, events: Sequence[Event]) -> None:
        """Keep it."""
        await trio.sleep(1)
        if self.full:
            raise StateError("database or disk is full", op="use state in", where="/state")
        self.writes.append((standing, [event.text for event in events]))

    def record(self) -> Record:
        """Return a record on this disk."""
        return Record(Standing(name="web"), self.save, lambda: 1000 + trio.current_time())


async def test_what_is_not_new_is_not_written(autojump_clock: MockClock) -> None:
    disk = Disk()
    record = disk.record()
    await record.keep()
    await record.keep(rpo=60.0)
    await record.keep(rpo=60.0)
    assert [standing.rpo for standing, _ in disk.writes] == [None, 60.0]


async def test_a_state_that_changes_is_dated(autojump_clock: MockClock) -> None:
    record = Disk().record()
    await record.keep(running=True)
    since = record.standing.since
    await record.keep(backlog_bytes=5)
    assert record.standing.since == since
    await record.keep(running=False, failure="cut")
    assert since is not None
    assert record.standing.since is not None
    assert record.standing.since > since


async def test_what_could_not_be_kept_is_kept_later(autojump_clock: MockClock) -> None:
    """Nobody is stopped by it, no event is lost, and all are in order."""
    disk = Disk()
    record = disk.record()
    disk.full = True
    await record.note("started", "one")
    await record.note("failed", "two", failure="cut")
    assert record.standing.failure == "cut"
    assert disk.writes == []
    disk.full = False
    await record.keep()
    assert disk.writes == [(record.standing, ["one", "two"])]


async def test_writers_do_not_overtake_each_other(autojump_clock: MockClock) -> None:
    disk = Disk()
    record = disk.record()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(record.note, "k", str(number))
    told_texts = [text for _, texts in disk.writes for text in texts]
    assert sorted(told_texts) == ["0", "1", "2", "3", "4"]
    assert disk.writes[-1][0] == record.standing


async def test_a_word_that_is_no_utf_8_can_be_kept(autojump_clock: MockClock) -> None:
    disk = Disk()
    await disk.record().note("k", "a\udcff")
    assert disk.writes[0][1] == ["a\\udcff"]


async def saved_at_once(standing: Standing, events: Sequence[Event]) -> None:
    await trio.lowlevel.checkpoint()


async def test_pings_arrive_in_order_and_the_last_ones_too() -> None:
    with monitoring() as monitor, trio.fail_after(20):
        pinger = Pinger(monitor.url, Record(Standing(name="web"), saved_at_once, lambda: 0.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pinger.work)
            for phase in ("start", "", "start", "fail"):
                pinger.tell(phase)
            told(pinger, nursery)
        assert monitor.paths == ["/ping/start", "/ping", "/ping/start", "/ping/fail"]


async def test_nobody_is_pinged_without_a_url_and_a_full_queue_holds_up_nobody() -> None:
    record = Record(Standing(name="web"), saved_at_once, lambda: 0.0)
    for url in ("", "http://127.0.0.1:1/x"):
        pinger = Pinger(url, record)
        for _ in range(100):
            pinger.tell("start")
        pinger.close()
