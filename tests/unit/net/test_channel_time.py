"""A stream channel and the clock: silence, stalls, pings and pace, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
import trio.testing

from netsync.errors import NetworkError, ProtocolError, StalledError, UsageError
from netsync.net.channel import COMPRESSION_FEATURE, StreamChannel, fault_from, kept_alive
from netsync.net.pace import Pace
from netsync.wire import messages as m
from netsync.wire.codec import LIMITS, Buffer, decode, encode
from netsync.wire.frames import COMPRESSED, FrameDecoder
from netsync.wire.order import State

TIMEOUT = 30.0
MIB = 1 << 20


class FakeStream:
    """A byte stream whose peer is the test: it says what comes, and may stop taking."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self.lingered = 0.0
        self.closed = False
        self.failure: Exception | None = None
        self.seconds_per_send = 0.0
        self._tell, self._heard = trio.open_memory_channel[bytes](math.inf)
        self._rest = b""

    def say(self, *messages: m.Message) -> None:
        for message in messages:
            self._tell.send_nowait(b"".join(encode(message)))

    def say_bytes(self, data: bytes) -> None:
        self._tell.send_nowait(data)

    def end(self) -> None:
        self._tell.close()

    @property
    def sent_bytes(self) -> bytes:
        return b"".join(data for _, data in self.sent)

    def sent_messages(self) -> list[m.Message]:
        return [decode(frame) for frame in FrameDecoder(LIMITS).feed(self.sent_bytes)]

    def send_now(self, data: Buffer) -> int:
        return 0  # it waits, always

    async def send_all(self, data: Buffer) -> None:
        if self.failure is not None:
            raise self.failure
        await trio.sleep(self.seconds_per_send)
        self.sent.append((trio.current_time(), bytes(data)))

    async def receive_into(self, buffer: memoryview) -> int:
        if self.failure is not None:
            raise self.failure
        if not self._rest:
            try:
                self._rest = await self._heard.receive()
            except trio.EndOfChannel:
                return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    async def linger(self, seconds: float) -> None:
        self.lingered = seconds
        await self.aclose()

    @property
    def bytes_sent(self) -> int:
        return len(self.sent_bytes)

    @property
    def bytes_received(self) -> int:
        return 0


def channel_over(stream: FakeStream, expects: State = State.TARGET_WANTS) -> StreamChannel:
    return StreamChannel(stream, peer="standby1:7873", expects=expects, timeout=TIMEOUT)


async def test_silence_past_the_timeout_is_a_stall(autojump_clock: trio.testing.MockClock) -> None:
    channel = channel_over(FakeStream())
    with pytest.raises(StalledError, match="silent for 30 seconds") as caught:
        await channel.receive()
    assert trio.current_time() == pytest.approx(TIMEOUT)
    assert caught.value.exit_code == 30
    assert caught.value.retryable
    assert "standby1:7873" in str(caught.value)


async def test_each_byte_that_comes_starts_the_patience_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    data = b"".join(encode(m.Credit(1)))

    async def drip() -> None:
        for byte in data:
            await trio.sleep(TIMEOUT * 0.9)
            stream.say_bytes(bytes([byte]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        assert (await channel_over(stream).receive()).message == m.Credit(1)
    assert trio.current_time() == pytest.approx(len(data) * TIMEOUT * 0.9)


async def test_pings_keep_a_receiver_waiting_and_are_not_shown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()

    async def ping() -> None:
        for _ in range(10):
            await trio.sleep(TIMEOUT / 3)
            stream.say(m.Ping())
        stream.say(m.Credit(7))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping)
        assert (await channel_over(stream).receive()).message == m.Credit(7)
    assert trio.current_time() == pytest.approx(10 * TIMEOUT / 3)


async def test_a_peer_that_takes_nothing_and_says_nothing_is_a_stall(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    stream.seconds_per_send = math.inf
    with pytest.raises(StalledError, match="took nothing for 30 seconds"):
        await channel_over(stream).send(m.Signature(1), [bytes(10)])
    assert trio.current_time() == pytest.approx(TIMEOUT)


async def test_a_peer_that_takes_nothing_but_talks_is_alive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    stream.seconds_per_send = 4 * TIMEOUT
    channel = channel_over(stream)

    async def talk() -> None:
        for _ in range(6):
            await trio.sleep(TIMEOUT * 0.75)
            stream.say(m.Credit(1))

    async def listen() -> None:
        for _ in range(6):
            await channel.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        nursery.start_soon(listen)
        await channel.send(m.Signature(1), [b"at last"])
    assert len(stream.sent) == 1


async def test_a_slow_peer_that_takes_every_megabyte_in_time_is_no_stall(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    stream.seconds_per_send = TIMEOUT * 0.9
    await channel_over(stream).send(m.Signature(1), [bytes(MIB)])
    assert len(stream.sent) == 2


async def test_an_idle_side_pings_each_third_of_the_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    async with kept_alive(channel_over(stream)):
        await trio.sleep(TIMEOUT + 1)
    assert stream.sent_messages() == [m.Ping()] * 3
    assert [at for at, _ in stream.sent] == pytest.approx([10, 20, 30])


async def test_the_shorter_patience_of_the_two_ends_sets_the_pings(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    channel = channel_over(stream)
    channel.heed(6, [])
    async with kept_alive(channel):
        await trio.sleep(7)
    assert [at for at, _ in stream.sent] == pytest.approx([2, 4, 6])
    assert channel.timeout == TIMEOUT


async def test_a_side_that_talks_does_not_ping(autojump_clock: trio.testing.MockClock) -> None:
    stream = FakeStream()
    channel = channel_over(stream)
    async with kept_alive(channel):
        for _ in range(40):
            await trio.sleep(1)
            await channel.send(m.Credit(1))
    assert stream.sent_messages() == [m.Credit(1)] * 40


async def test_no_silence_reaches_the_timeout_whenever_the_last_message_was_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for pause in range(1, 20):
        stream = FakeStream()
        channel = channel_over(stream)
        async with kept_alive(channel):
            await trio.sleep(pause)
            await channel.send(m.Credit(1))
            await trio.sleep(2 * TIMEOUT)
        times = [at for at, _ in stream.sent]
        assert max(b - a for a, b in pairwise(times)) < TIMEOUT


@pytest.mark.parametrize("rate", [100_000, MIB, 10 * MIB])
async def test_bwlimit_spreads_the_bytes_evenly_over_their_time(
    rate: int, autojump_clock: trio.testing.MockClock
) -> None:
    stream = FakeStream()
    channel = channel_over(stream)
    channel.pace.rate = rate
    start = trio.current_time()
    for number in range(5):
        await channel.send(m.Signature(number), [bytes(MIB)])
    took = trio.current_time() - start
    assert took == pytest.approx(len(stream.sent_bytes) / rate, rel=0.03, abs=0.11)
    for until in range(1, 5):
        moment = start + took * until / 5
        done = sum(len(data) for at, data in stream.sent if at <= moment)
        assert done == pytest.approx(len(stream.sent_bytes) * until / 5, rel=0.15)


async def test_time_not_used_is_not_saved_up(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace(1000)
    await pace.spend(1000)
    await trio.sleep(100)
    start = trio.current_time()
    for _ in range(5):
        await pace.spend(1000)
    assert trio.current_time() - start == pytest.approx(4)


async def test_without_a_rate_nothing_waits(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace()
    assert pace.slice(12345) == 12345
    await pace.spend(10**12)
    assert trio.current_time() == 0


@pytest.mark.parametrize(("rate", "size"), [(1, 1024), (100_000, 10_000), (10**9, MIB)])
def test_slices_are_a_tenth_of_a_second_within_bounds(rate: int, size: int) -> None:
    assert Pace(rate).slice(MIB) == size


@pytest.mark.parametrize("level", [0, 1, 19])
async def test_the_compressed_flag_says_what_the_tail_is(level: int) -> None:
    stream = FakeStream()
    channel = channel_over(stream)
    channel.compression = level
    channel.heed(TIMEOUT, [COMPRESSION_FEATURE])
    await channel.send(m.Signature(1), [b"again " * 1000])
    await channel.send(m.Signature(2), [b"short"])
    flags = [frame.flags for frame in FrameDecoder(LIMITS).feed(stream.sent_bytes)]
    assert flags == [COMPRESSED if level else 0, 0]
    back = FakeStream()
    back.say_bytes(stream.sent_bytes)
    receiver = channel_over(back)
    assert bytes((await receiver.receive()).tail) == b"again " * 1000
    assert bytes((await receiver.receive()).tail) == b"short"


async def test_a_small_message_with_its_tail_is_one_write() -> None:
    stream = FakeStream()
    await channel_over(stream).send(m.Signature(1), [b"a", b"b", b"c"])
    assert len(stream.sent) == 1


class QuickStream(FakeStream):
    """Takes up to ``room`` bytes of each message without waiting, as long as it is told to."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.at_once = 0

    def send_now(self, data: Buffer) -> int:
        taken = bytes(data)[: self.room]
        self.sent.append((trio.current_time(), taken))
        self.at_once += 1
        return len(taken)


async def test_small_messages_go_at_once_and_others_have_their_turn_now_and_then() -> None:
    stream = QuickStream(1 << 20)
    channel = channel_over(stream)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        for number in range(100):
            await channel.send(m.Credit(number + 1))
        nursery.cancel_scope.cancel()
    assert stream.sent_messages() == [m.Credit(number + 1) for number in range(100)]
    assert 80 < stream.at_once < 100
    # One message of seventeen visits the scheduler, once; after the last trio may run us first.
    assert turns >= 100 // 17 - 1


async def test_what_did_not_go_at_once_follows_before_anything_else() -> None:
    stream = QuickStream(3)
    channel = channel_over(stream)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(channel.send, m.Credit(number + 1))
    messages = stream.sent_messages()
    assert sorted(messages, key=repr) == sorted((m.Credit(n + 1) for n in range(10)), key=repr)


async def test_who_is_cancelled_sends_nothing_though_it_would_go_at_once() -> None:
    """What a session that is being ended would say last is not what ended it."""
    stream = QuickStream(1 << 20)
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel_over(stream).send(m.Credit(1))
    assert scope.cancelled_caught
    assert stream.sent == []


async def test_a_clean_end_in_the_middle_of_a_session_is_a_network_error() -> None:
    stream = FakeStream()
    stream.end()
    with pytest.raises(NetworkError, match="before the work was finished") as caught:
        await channel_over(stream).receive()
    assert caught.value.exit_code == 10


FAILURES: list[Callable[[], Exception]] = [
    lambda: trio.BrokenResourceError("cut"),
    lambda: trio.ClosedResourceError("closed"),
    lambda: ConnectionResetError(104, "reset"),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_broken_stream_is_a_network_error_both_ways(
    failure: Callable[[], Exception],
) -> None:
    stream = FakeStream()
    stream.failure = failure()
    channel = channel_over(stream)
    with pytest.raises(NetworkError):
        await channel.receive()
    with pytest.raises(NetworkError):
        await channel.send(m.Credit(1))


async def test_bytes_that_are_no_frame_are_a_protocol_error() -> None:
    stream = FakeStream()
    stream.say_bytes(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(ProtocolError, match="not a netsync frame"):
        await channel_over(stream).receive()


async def test_fail_tells_the_peer_and_survives_a_dead_one() -> None:
    stream = FakeStream()
    channel = channel_over(stream)
    await channel.fail(StalledError("was silent", op="talk to"))
    assert stream.sent_messages() == [m.Fault(30, "was silent", "talk to")]
    stream.failure = trio.BrokenResourceError("cut")
    await channel.fail(StalledError("was silent"))


async def test_fail_gives_up_on_a_peer_that_takes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream = FakeStream()
    stream.seconds_per_send = math.inf
    await channel_over(stream).fail(StalledError("was silent"))
    assert trio.current_time() <= 5


async def test_closing_lingers_only_when_asked_even_when_cancelled() -> None:
    plain, lingering = FakeStream(), FakeStream()
    await channel_over(plain).aclose()
    assert (plain.closed, plain.lingered) == (True, 0.0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await channel_over(lingering).aclose(linger=True)
    assert lingering.closed
    assert lingering.lingered > 0


async def test_an_error_about_undecodable_words_can_still_be_told() -> None:
    stream = FakeStream()
    words = b"*.\xff".decode("utf-8", "surrogateescape")
    await channel_over(stream).fail(UsageError("bad pattern", op="read pattern", where=words))
    (fault,) = stream.sent_messages()
    assert isinstance(fault, m.Fault)
    assert fault.why == "bad pattern"


def test_the_longest_words_fit_a_fault() -> None:
    long = "\N{BUG}" * 5000
    encode(fault_from(UsageError(long, op=long, where=long, hint=long)))


async def test_a_peer_that_cannot_unpack_gets_plain_tails() -> None:
    stream = FakeStream()
    channel = channel_over(stream)
    channel.compression = 1
    channel.heed(TIMEOUT, ["something else"])
    await channel.send(m.Signature(1), [b"again " * 1000])
    assert [frame.flags for frame in FrameDecoder(LIMITS).feed(stream.sent_bytes)] == [0]


async def test_small_parts_of_a_frame_are_sent_at_once_and_bulk_data_as_it_is() -> None:
    """Each sending is a pass of the scheduler: a hundred parts are not a hundred of them."""
    stream = FakeStream()
    channel = channel_over(stream)
    await channel.send(m.Piece(1, [MIB]), [b"x" * (MIB // 100)] * 100)
    assert len(stream.sent) == 1
    stream.sent.clear()
    tail = [b"before", b"y" * MIB, b"behind", b"it"]
    await channel.send(m.Piece(1, [MIB]), tail)
    assert [len(data) for _, data in stream.sent][1:] == [MIB, len(b"behindit")]
    assert stream.sent_bytes.endswith(b"".join(tail))
