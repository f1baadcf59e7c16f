"""The primary's log: who waits for whom, and what is done about the lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import cast

import pytest
import trio
import trio.testing

from netsync import operation as o
from netsync.errors import (
    IndeterminateError,
    NetworkError,
    ProtocolError,
    RefusedError,
    unwrapped,
)
from netsync.net.channel import Channel, memory_channels
from netsync.operation import Level, Loss
from netsync.oplog import log as log_module
from netsync.oplog import streaming as streaming_module
from netsync.oplog.awaited import Awaited
from netsync.oplog.follower import Follower, State
from netsync.oplog.log import Log, LogPolicy
from netsync.oplog.resyncing import Resyncing
from netsync.oplog.streaming import Streaming
from netsync.wire import order
from netsync.wire.mirroring import Acked, Operations, ResyncEnd, Sync
from netsync.wire.operations import NO_CHAIN

OPERATION = o.Unlink(b"f")


def in_step(log: Log) -> Log:
    for follower in log.followers:
        follower.enter(State.SYNC)
    return log


def ack(log: Log, seq: int, level: Level = Level.DURABLE, standby: int = 0) -> None:
    follower = log.followers[standby]
    follower.sent = log.head
    levels = [seq if level >= each else 0 for each in Level]
    received, written, durable = (
        max(new, old)
        for new, old in zip(
            levels, (follower.received, follower.written, follower.durable), strict=True
        )
    )
    follower.check(acked := Acked(received, written, durable, 0, NO_CHAIN))
    follower.take(acked)
    log.trim()


async def returns(log: Log, seq: int, level: Level = Level.DURABLE) -> bool:
    """Tell whether waiting is over at once."""
    with trio.move_on_after(0.001):
        await log.wait(seq, level)
        return True
    return False


class Noting:
    """A channel that only notes what is sent, and what the follower has by then."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.ends: list[tuple[int, int, bool]] = []

    async def send(self, message: object, tail: object = ()) -> None:
        if isinstance(message, ResyncEnd):
            assert self.follower.owed is not None
            known = self.follower.owed.chains.get(message.seq) == message.chain
            self.ends.append((message.seq, self.follower.sent, known))


class Asked:
    """A channel that notes how far each message goes, and whether it asks for a flush."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bool]] = []

    async def send(self, message: object, tail: object = ()) -> None:
        if isinstance(message, Operations):
            self.sent.append((message.first + message.count - 1, message.sync))
        elif isinstance(message, Sync):
            self.sent.append((message.seq, True))


async def note_nothing(paths: Iterable[bytes]) -> None:
    del paths


async def test_the_end_of_a_resync_may_be_answered_at_once_or_never() -> None:
    """The answer is no lie then, and a standby that got there before a cut need not be compared."""
    log = in_step(Log(["a"]))
    (follower,) = log.followers
    for _ in range(3):
        log.append(OPERATION)
    follower.enter(State.LOST)
    log.owe(follower)
    channel = Noting(follower)
    resyncing = Resyncing(cast("Channel", channel), log, follower, -1, note_nothing)
    assert await resyncing.run() == 3
    assert channel.ends == [(3, 3, True)]


async def test_without_standbys_it_only_counts() -> None:
    log = Log()
    assert [log.append(OPERATION), log.append(OPERATION)] == [1, 2]
    await log.room()
    await log.wait(2, Level.DURABLE)


async def test_waiting_is_for_all_standbys_at_the_level(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a", "b"]))
    seq = log.append(OPERATION)
    ack(log, seq, Level.WRITTEN)
    assert not await returns(log, seq, Level.WRITTEN), "only one has it"
    ack(log, seq, Level.WRITTEN, 1)
    assert await returns(log, seq, Level.WRITTEN)
    assert not await returns(log, seq, Level.DURABLE)
    assert log.sync_wanted == seq, "a flush is asked for"
    ack(log, seq)
    assert log.first == seq, "kept until all have it durably"
    ack(log, seq, standby=1)
    assert await returns(log, seq)
    assert log.queued_bytes == 0


async def test_a_full_log_lets_writers_wait(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "QUEUE_BYTES", 100)
    log = in_step(Log(["a"]))
    await log.room()
    seq = log.append(o.Write(b"f", 0, bytes(200), 0))
    with trio.move_on_after(1) as waiting:
        await log.room()
    assert waiting.cancelled_caught
    ack(log, seq)
    await log.room()


@contextlib.asynccontextmanager
async def streaming_to(channel: Asked, log: Log) -> AsyncIterator[Streaming]:
    """A session of a log's only standby at work."""
    session = Streaming(cast("Channel", channel), log, log.followers[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.send_all)
        yield session
        nursery.cancel_scope.cancel()


async def test_a_flush_is_asked_for_after_some_megabytes_or_a_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for one: a full log gets room by itself, and no message asks in vain."""
    monkeypatch.setattr(streaming_module, "SYNC_BYTES", 1000)
    monkeypatch.setattr(log_module, "GATHER_BYTES", 1)
    log = in_step(Log(["a"]))
    channel = Asked()
    async with streaming_to(channel, log):
        for _ in range(12):
            log.append(o.Write(b"f", 0, bytes(300), 0))
            await trio.testing.wait_all_tasks_blocked()
        assert [seq for seq, is_asked in channel.sent if is_asked] == [4, 8, 12]
        log.append(OPERATION)
        begin = trio.current_time()
        while channel.sent[-1] != (13, True):
            await trio.sleep(0.1)
        assert trio.current_time() - begin == pytest.approx(1, abs=0.2)


async def test_what_is_written_and_flushed_at_once_goes_in_one_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"]))
    channel = Asked()
    async with streaming_to(channel, log):
        log.append(OPERATION)
        await trio.testing.wait_all_tasks_blocked()
        assert channel.sent == [], "somebody may soon wait for it"
        log.want(log.append(OPERATION), Level.DURABLE)
        await trio.testing.wait_all_tasks_blocked()
        assert channel.sent == [(2, True)]
        log.append(OPERATION)
        await trio.sleep(0.1)
        assert channel.sent == [(2, True), (3, False)], "nobody did"
        log.append(OPERATION)
        await trio.testing.wait_all_tasks_blocked()
        log.want(4, Level.WRITTEN)
        await trio.testing.wait_all_tasks_blocked()
        assert channel.sent[2:] == [(4, False)]
        for _ in range(100):
            log.append(OPERATION)
        await trio.testing.wait_all_tasks_blocked()
        assert channel.sent[3:], "much of it waits for nobody"


async def test_what_only_the_next_but_one_flush_could_take_gathers_until_there_is_an_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"]))
    channel = Asked()
    async with streaming_to(channel, log) as streaming:
        for seq in (1, 2, 3, 4):
            log.want(log.append(OPERATION), Level.DURABLE)
            await trio.testing.wait_all_tasks_blocked()
            assert channel.sent == [(1, True), (2, True)][:seq]
        streaming.believe(Acked(1, 1, 1, 0, chain_at(log, 1)))
        await trio.testing.wait_all_tasks_blocked()
        assert channel.sent[2:] == [(4, True)]


async def test_who_waits_for_less_than_a_flush_is_held_up_by_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"], LogPolicy(level=Level.WRITTEN)))
    channel = Asked()
    async with streaming_to(channel, log):
        for seq in (1, 2, 3, 4):
            log.want(log.append(OPERATION), Level.DURABLE if seq < 3 else Level.WRITTEN)
            await trio.testing.wait_all_tasks_blocked()
            assert channel.sent[-1][0] == seq


async def test_many_small_operations_wait_for_nobody_either(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"]))
    channel = Asked()
    async with streaming_to(channel, log):
        for seq in range(1, log_module.GATHER_OPERATIONS + 1):
            assert channel.sent == []
            assert log.append(OPERATION) == seq
            await trio.testing.wait_all_tasks_blocked()
        assert channel.sent == [(log_module.GATHER_OPERATIONS, False)]


async def test_a_session_whose_standby_is_given_up_meanwhile_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What comes from then on is owed, not kept: the next session makes up for it."""
    log = in_step(Log(["a"]))
    (follower,) = log.followers
    log.append(OPERATION)
    follower.enter(State.LOST)
    follower.begins_at(0)
    streaming = Streaming(cast("Channel", Asked()), log, follower)

    async def given_up() -> None:
        with trio.fail_after(10), unwrapped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(streaming.send_all)
                await trio.testing.wait_all_tasks_blocked()
                log.owe(follower)

    with pytest.raises(NetworkError, match="given up"):
        await given_up()
    acked = Acked(1, 1, 1, 0, chain_at(log, 1))
    log.append(OPERATION)
    with pytest.raises(NetworkError, match="given up"):
        streaming.believe(acked)
    assert follower.owed is not None
    assert follower.is_degraded


def chain_at(log: Log, seq: int) -> bytes:
    chain = log.chain_at(seq)
    assert chain is not None
    return chain


async def test_who_waits_is_woken_by_the_answer_and_not_by_that_of_others() -> None:
    """With many writers each answer is some's: the others sleep on."""
    awaited = Awaited()
    woken: list[int] = []
    there = 0

    async def wait(seq: int) -> None:
        while there < seq:
            await awaited.until(lambda: there >= seq)
            woken.append(seq)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for seq in (1, 2, 3):
                nursery.start_soon(wait, seq)
            await trio.testing.wait_all_tasks_blocked()
            there = 2
            awaited.look()
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(woken) == [1, 2]
            awaited.wake()
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(woken) == [1, 2, 3], "it looks for itself, and waits again"
            there = 3
            awaited.look()


async def test_nobody_writes_while_trees_are_compared(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"]))
    log.pause()
    with trio.move_on_after(1) as waiting:
        await log.room()
    assert waiting.cancelled_caught
    log.go_on()
    await log.room()


async def test_block_waits_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    log = in_step(Log(["a"], LogPolicy(timeout=1)))
    seq = log.append(OPERATION)
    log.followers[0].enter(State.LOST, "cut")
    with trio.move_on_after(100_000) as waiting:
        await log.wait(seq, Level.DURABLE)
    assert waiting.cancelled_caught


async def test_error_gives_up_after_the_timeout_and_heals(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"], LogPolicy(loss=Loss.ERROR, timeout=5)))
    seq = log.append(OPERATION)
    began = trio.current_time()
    log.followers[0].enter(State.LOST, "the cable is out")
    with pytest.raises(IndeterminateError, match="the cable is out"):
        await log.wait(seq, Level.DURABLE)
    assert trio.current_time() - began == pytest.approx(5)
    with pytest.raises(IndeterminateError):
        await log.room()
    log.followers[0].enter(State.SYNC)
    ack(log, seq)
    await log.room()
    await log.wait(seq, Level.DURABLE)


async def test_degrade_is_on_record_before_anybody_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    noted: list[tuple[str, int]] = []

    async def note(name: str, seq: int) -> None:
        assert not log.is_everywhere(3, Level.DURABLE)
        await trio.sleep(1)
        assert not log.is_everywhere(3, Level.DURABLE)
        noted.append((name, seq))

    log = in_step(Log(["a"], LogPolicy(loss=Loss.DEGRADE, timeout=5), note))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.keep)
        for _ in range(3):
            log.append(OPERATION)
        ack(log, 1)
        log.followers[0].enter(State.LOST)
        log.tell()
        await log.wait(3, Level.DURABLE)
        assert noted == [("a", 1)]
        log.append(OPERATION)
        status = log.status()[0]
        assert (status.state, status.owed_operations, status.lag) == (State.DEGRADED, 3, 3)
        assert log.queued_bytes == 0
        nursery.cancel_scope.cancel()


async def test_a_standby_that_is_back_in_time_is_not_degraded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = in_step(Log(["a"], LogPolicy(loss=Loss.DEGRADE, timeout=5)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.keep)
        log.append(OPERATION)
        log.followers[0].enter(State.LOST)
        log.tell()
        await trio.sleep(4)
        log.followers[0].enter(State.SYNC)
        log.tell()
        await trio.sleep(100)
        assert log.followers[0].owed is None
        nursery.cancel_scope.cancel()


async def test_who_is_refused_for_good_writes_no_more() -> None:
    log = in_step(Log(["a"]))
    seq = log.append(OPERATION)
    log.followers[0].fence = RefusedError("it was promoted")
    for wait in (log.room(), log.wait(seq, Level.DURABLE)):
        with pytest.raises(IndeterminateError, match="it was promoted"):
            await wait


def streaming(log: Log) -> Streaming:
    ours, _ = memory_channels(order.State.SERVER_ANSWERS, order.State.CLIENT_STREAMS)
    return Streaming(ours, log, log.followers[0])


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (Acked(9, 9, 9, 0, NO_CHAIN), "what was not sent"),
        (Acked(2, 3, 2, 0, NO_CHAIN), "what was not sent"),
        (Acked(3, 2, 3, 0, NO_CHAIN), "what was not sent"),
        (Acked(3, 3, 2, 3, NO_CHAIN), "what was not sent"),
        (Acked(1, 1, 0, 0, NO_CHAIN), "less than it said before"),
        (Acked(2, 2, 2, 0, b"x" * 16), "diverged"),
    ],
)
async def test_a_standby_that_lies_is_believed_nothing(lie: Acked, words: str) -> None:
    """Beyond what was sent, levels in the wrong order, less than before, another chain."""
    log = in_step(Log(["a"]))
    for _ in range(3):
        log.append(OPERATION)
    stream = streaming(log)
    log.followers[0].sent = 3
    one = log.chain_at(1)
    assert one is not None
    stream.believe(Acked(1, 1, 1, 0, one))
    with pytest.raises(ProtocolError, match=words):
        stream.believe(lie)
    assert not log.is_everywhere(2, Level.DURABLE)


async def test_what_all_trees_show_is_waited_for_with_the_stale_ones(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Durable in a journal is too little, and being left behind is no excuse."""
    log = in_step(Log(["a", "stale"]))
    log.followers[1].enter(State.LOST)
    seq = log.append(OPERATION)
    log.owe(log.followers[1])
    shown = False

    async def wait() -> None:
        nonlocal shown
        await log.wait_shown(seq)
        shown = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for follower in log.followers:
            for applied in (0, seq):
                await trio.testing.wait_all_tasks_blocked()
                assert not shown
                follower.sent = seq
                follower.take(Acked(seq, seq, seq, applied, NO_CHAIN))
                log.tell()
        await trio.testing.wait_all_tasks_blocked()
        assert shown


async def test_who_refuses_us_is_told_as_such() -> None:
    log = in_step(Log(["a"]))
    log.followers[0].enter(State.LOST, "it was promoted")
    log.followers[0].fence = RefusedError("it was promoted")
    assert log.status()[0].state is State.REFUSING
