"""What every channel does, in memory and over real TLS: the roles cannot tell them apart."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest
import trio

from netsync.errors import NetworkError, ProtocolError, RefusedError, RootError, StalledError
from netsync.identity.contexts import client_context, server_context
from netsync.net.channel import (
    COMPRESSION_FEATURE,
    MemoryChannel,
    StreamChannel,
    fault_from,
    memory_channels,
)
from netsync.net.tls import TlsStream
from netsync.wire import messages as m
from netsync.wire.codec import Buffer
from netsync.wire.frames import TAIL_MAX
from netsync.wire.messages import Message
from netsync.wire.order import State
from tests.support.certificates import certificates
from tests.support.messages import OPTIONS

Ends: TypeAlias = tuple[MemoryChannel | StreamChannel, MemoryChannel | StreamChannel]
"""Two ends of one channel. The first hears a source, the second a target."""

HEARS = (State.SOURCE_SENDS, State.TARGET_WANTS)
PATIENCE = 30.0


@asynccontextmanager
async def in_memory() -> AsyncIterator[Ends]:
    yield memory_channels(*HEARS)


@asynccontextmanager
async def over_tls(*, compression: int = 0) -> AsyncIterator[Ends]:
    near, far = socket.socketpair()
    made = certificates()
    client = TlsStream(near, client_context(made.client), hostname="localhost")
    server = TlsStream(far, server_context(made.server), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        nursery.start_soon(server.handshake)
    first = StreamChannel(client, peer="server", expects=HEARS[0], timeout=PATIENCE)
    second = StreamChannel(server, peer="client", expects=HEARS[1], timeout=PATIENCE)
    first.compression = second.compression = compression
    for channel in (first, second):
        channel.heed(PATIENCE, [COMPRESSION_FEATURE])
    try:
        yield first, second
    finally:
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


def over_compressed_tls() -> AbstractAsyncContextManager[Ends]:
    return over_tls(compression=1)


MAKERS = [in_memory, over_tls, over_compressed_tls]
Maker: TypeAlias = Callable[[], AbstractAsyncContextManager[Ends]]


@pytest.fixture(params=MAKERS, ids=lambda make: str(make.__name__))
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[Ends]:
    make: Maker = request.param
    async with make() as pair:
        yield pair


def piece(number: int) -> Message:
    return m.Piece(number, [-1, 5])


async def test_messages_and_tails_arrive_in_order_and_equal(ends: Ends) -> None:
    first, second = ends
    tails: list[list[Buffer]] = [
        [], [b""], [b"one"], [bytearray(b"two"), memoryview(b"parts")], [bytes(200_000), b"x"],
        [b"y" * (TAIL_MAX - 1), b"z"],
    ]  # fmt: skip

    async def send() -> None:
        for number, tail in enumerate(tails):
            await second.send(piece(number), tail)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        for number, tail in enumerate(tails):
            message, arrived = await first.receive()
            assert message == piece(number)
            assert bytes(arrived) == b"".join(tail)


async def test_megabytes_go_both_ways_at_once(ends: Ends) -> None:
    count = 24

    async def send(end: MemoryChannel | StreamChannel, kind: Callable[[int], Message]) -> None:
        for number in range(count):
            await end.send(kind(number), [bytes([number]) * TAIL_MAX])

    async def receive(end: MemoryChannel | StreamChannel, kind: Callable[[int], Message]) -> None:
        for number in range(count):
            message, tail = await end.receive()
            assert message == kind(number)
            assert tail == bytes([number]) * TAIL_MAX

    first, second = ends
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, first, m.Signature)
            nursery.start_soon(send, second, piece)
            nursery.start_soon(receive, first, piece)
            nursery.start_soon(receive, second, m.Signature)


async def test_many_tasks_may_send_and_frames_do_not_mix(ends: Ends) -> None:
    first, second = ends

    async def send(number: int) -> None:
        await second.send(piece(number), [bytes([number]) * 150_000, b"end"])

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(send, number)
        seen = set()
        for _ in range(20):
            message, tail = await first.receive()
            assert isinstance(message, m.Piece)
            assert bytes(tail) == bytes([message.number]) * 150_000 + b"end"
            seen.add(message.number)
    assert seen == set(range(20))


@pytest.mark.parametrize(
    "cls", [RefusedError, RootError, StalledError, NetworkError, ProtocolError]
)
async def test_a_fault_is_raised_as_the_error_the_peer_had(
    ends: Ends, cls: type[RefusedError]
) -> None:
    first, second = ends
    told = cls("no space", op="write", where="/srv/häuser", hint="free some")
    await second.send(fault_from(told))
    with pytest.raises(cls) as caught:
        await first.receive()
    assert str(caught.value) == str(told)
    assert caught.value.exit_code == told.exit_code


async def test_an_exit_code_nobody_knows_is_a_protocol_error(ends: Ends) -> None:
    first, second = ends
    await second.send(m.Fault(99, "from the future"))
    with pytest.raises(ProtocolError, match="from the future"):
        await first.receive()


async def test_a_message_out_of_order_is_a_protocol_error_for_ever(ends: Ends) -> None:
    first, second = ends
    await second.send(m.Open(m.Direction.PUSH, [m.Place("web", b"")], OPTIONS))
    await second.send(piece(1), [b"12345"])
    for _ in range(2):
        with pytest.raises(ProtocolError, match="may not come now"):
            await first.receive()


async def test_the_end_after_the_last_message_is_a_network_error(ends: Ends) -> None:
    first, second = ends
    await second.send(piece(1), [b"last"])
    await second.aclose()
    assert bytes((await first.receive()).tail) == b"last"
    with pytest.raises(NetworkError):
        await first.receive()


async def test_sending_to_a_peer_that_has_gone_is_a_network_error(ends: Ends) -> None:
    first, second = ends
    await second.aclose()

    async def send_on() -> None:
        while True:
            await first.send(m.Signature(1), [bytes(TAIL_MAX)])

    with pytest.raises(NetworkError):
        await send_on()


async def test_after_a_transfer_the_peer_speaks_again_as_before(ends: Ends) -> None:
    first, second = ends
    first.order.begin(State.SOURCE_OFFERS)
    await second.send(m.Offer(False))
    await first.receive()
    first.order.finish()
    await second.send(m.End())
    assert (await first.receive()).message == m.End()


async def test_a_memory_channels_queue_is_bounded() -> None:
    first, second = memory_channels(*HEARS)
    sent = 0
    with trio.move_on_after(0):
        while True:
            await second.send(piece(sent))
            sent += 1
    assert sent < 20
    assert first.wire == second.wire == (0, 0)


async def test_the_wire_counts_what_went_over_the_socket() -> None:
    async with over_tls() as (first, second):
        before = second.wire[0]
        await second.send(piece(1), [bytes(50_000)])
        await first.receive()
        assert 50_000 < second.wire[0] - before < 52_000
        assert first.wire[1] >= 50_000


async def test_compression_shrinks_what_goes_over_the_socket() -> None:
    async with over_compressed_tls() as (first, second):
        before = second.wire[0]
        await second.send(piece(1), [bytes(500_000)])
        assert (await first.receive()).tail == bytes(500_000)
        assert second.wire[0] - before < 5_000
