"""The TLS stream: trio's own conformance suite, and what it does not cover.

Real sockets, real certificates. Pairs are made over Unix sockets, whose buffers behave the same
every time, or over TCP on the loopback where the test is about TCP.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from netsync.identity.contexts import client_context, server_context
from netsync.net.records import WANTS_READ, Buffer, Moved, Records
from netsync.net.tls import STRETCH, TlsStream
from tests.support.certificates import certificates

BULK = 8 << 20
"""Bytes that fill every socket buffer several times over."""
RECORD = 16 * 1024
"""Bytes in the longest TLS record."""
DATA_PACKETS_AT = 156
"""Where ``struct tcp_info`` counts packets with data sent (``tcpi_data_segs_out``)."""


def tcp_socketpair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def unshaken(near: socket.socket, far: socket.socket) -> tuple[TlsStream, TlsStream]:
    made = certificates()
    return (
        TlsStream(near, client_context(made.client), hostname="localhost"),
        TlsStream(far, server_context(made.server), server_side=True),
    )


async def shaken(near: socket.socket, far: socket.socket) -> tuple[TlsStream, TlsStream]:
    client, server = unshaken(near, far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        nursery.start_soon(server.handshake)
    return client, server


async def make_pair() -> tuple[TlsStream, TlsStream]:
    return await shaken(*socket.socketpair())


async def make_tcp_pair() -> tuple[TlsStream, TlsStream]:
    return await shaken(*tcp_socketpair())


async def make_clogged_pair() -> tuple[TlsStream, TlsStream]:
    """Fill both sockets with one-byte records: a longer send may then take over the last."""
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    client, server = await shaken(near, far)
    for stream in (client, server):
        with contextlib.suppress(ssl.SSLWantWriteError):
            while True:
                stream.tls.send(b"x")
    return client, server


@asynccontextmanager
async def pair(*, tcp: bool = False) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    client, server = await (make_tcp_pair() if tcp else make_pair())
    try:
        yield client, server
    finally:
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


async def receive_exactly(stream: TlsStream, count: int) -> bytes:
    parts: list[bytes | bytearray] = []
    while count:
        part = await stream.receive_some(count)
        assert part, "ended early"
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


async def test_it_passes_trios_stream_checks_on_unix_sockets() -> None:
    await trio.testing.check_two_way_stream(make_pair, make_clogged_pair)


async def test_it_passes_trios_stream_checks_on_tcp() -> None:
    await trio.testing.check_two_way_stream(make_tcp_pair, None)


@pytest.mark.parametrize("tcp", [False, True])
async def test_large_transfers_both_ways_at_once_arrive_whole(tcp: bool) -> None:
    there, back = bytes(range(256)) * (BULK // 256), bytes(range(255, -1, -1)) * (BULK // 256)

    async def swap(stream: TlsStream, out: bytes, expected: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, out)
            assert await receive_exactly(stream, BULK) == expected

    async with pair(tcp=tcp) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(swap, client, there, back)
        nursery.start_soon(swap, server, back, there)


async def test_receive_into_fills_the_buffer_with_all_that_is_there() -> None:
    async with pair() as (client, server):
        for size in (1, 16384, 20000):
            await client.send_all(b"a" * size)
        buffer = bytearray(100_000)
        assert await server.receive_into(memoryview(buffer)) == 1 + 16384 + 20000
        await client.send_all(b"bc")
        assert await server.receive_into(memoryview(buffer)[5:6]) == 1
        assert await server.receive_into(memoryview(buffer)[:1]) == 1
        assert (buffer[5], buffer[0]) == (ord("b"), ord("c"))


async def test_an_empty_buffer_is_an_error_because_0_means_the_end() -> None:
    async with pair() as (_, server):
        with pytest.raises(ValueError, match="empty"):
            await server.receive_into(memoryview(b""))


async def test_a_clean_end_is_0_for_ever_and_the_other_direction_still_works() -> None:
    async with pair() as (client, server):
        await client.send_all(b"last words")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.unwrap()
        assert await server.receive_some() == b"last words"
        buffer = memoryview(bytearray(10))
        assert [await server.receive_into(buffer) for _ in range(3)] == [0, 0, 0]
        await server.send_all(b"still here")


async def test_an_end_without_close_notify_is_a_cut_for_ever() -> None:
    async with pair() as (client, server):
        await client.send_all(b"some")
        socket.socket(fileno=client.tls.detach()).close()
        assert await server.receive_some() == b"some"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await server.receive_some()
            assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


async def test_a_damaged_record_breaks_the_stream_for_ever() -> None:
    near, far = socket.socketpair()
    tap = near.dup()
    client, server = await shaken(near, far)
    with tap:
        tap.send(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.receive_some()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
    await client.aclose()
    await server.aclose()


async def test_a_send_that_was_cancelled_halfway_breaks_the_sending_side_only() -> None:
    async with pair() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x" * BULK)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"y")
        await server.send_all(b"z")
        assert await client.receive_some() == b"z"
        await client.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await receive_exactly(server, BULK)


async def test_what_goes_without_waiting_is_sent_now_and_the_rest_follows_it() -> None:
    async with pair() as (client, server):
        data = bytes(range(256)) * 16
        sent = 0
        while client.send_now(data) == len(data):
            sent += 1
        assert sent > 1, "until no more fits"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, data)
            await trio.testing.wait_all_tasks_blocked()
            assert client.send_now(b"x") == 0, "another is sending"
            assert await receive_exactly(server, (sent + 1) * len(data)) == data * (sent + 1)
        assert client.bytes_sent >= (sent + 1) * len(data)
        await client.aclose()
        assert client.send_now(b"x") == 0


async def test_a_record_that_was_begun_and_cancelled_breaks_the_sending_side() -> None:
    async with pair() as (client, server):
        data = b"x" * 4096
        while client.send_now(data):
            pass
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send_all(data)
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"y")
        del server


async def test_a_receive_that_was_cancelled_loses_nothing() -> None:
    async with pair() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await client.send_all(b"x")
        assert await server.receive_some() == b"x"


async def test_a_second_task_in_the_same_role_is_told_so() -> None:
    async with pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"x" * BULK)
        nursery.start_soon(client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await client.send_all(b"")
        with pytest.raises(trio.BusyResourceError):
            await client.wait_send_all_might_not_block()
        with pytest.raises(trio.BusyResourceError):
            await client.receive_some()
        nursery.cancel_scope.cancel()
        del server


async def test_closing_wakes_both_a_sender_and_a_receiver() -> None:
    async def expect_closed(call: object, *args: object) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await call(*args)  # type: ignore[operator]

    async with pair() as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed, client.send_all, b"x" * BULK)
        nursery.start_soon(expect_closed, client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()


class CrossedRecords:
    """Records whose writes want to read: what a KeyUpdate in flight can do.

    ``wants`` writes fail before one goes through.
    """

    def __init__(self, real: Records, wants: int) -> None:
        self.read = real.read
        self.real = real
        self.wants = wants

    def write(self, data: Buffer) -> Moved:
        if self.wants:
            self.wants -= 1
            return 0, WANTS_READ, None
        return self.real.write(data)


def cross(stream: TlsStream, wants: int = 1) -> None:
    stream._records = CrossedRecords(stream._records, wants)


async def test_a_send_that_wants_to_read_waits_behind_the_reader() -> None:
    async with pair() as (client, server):
        cross(client)
        received = []

        async def receive() -> None:
            received.append(await client.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.send_all, b"crossed")
            await trio.testing.wait_all_tasks_blocked()
            await server.send_all(b"x")
        assert received == [b"x"]
        assert await server.receive_some() == b"crossed"


async def test_a_reader_that_comes_second_waits_behind_the_sender() -> None:
    async with pair() as (client, server):
        cross(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"crossed")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            await server.send_all(b"x")
        assert await server.receive_some() == b"crossed"


async def test_a_cancelled_leader_wakes_those_behind_it() -> None:
    async with pair() as (client, server):
        cross(client)
        leader = trio.CancelScope()

        async def lead() -> None:
            with leader:
                await client.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.send_all, b"crossed")
            await trio.testing.wait_all_tasks_blocked()
            leader.cancel()
        assert await server.receive_some() == b"crossed"


async def test_a_follower_takes_the_place_of_a_cancelled_leader() -> None:
    async with pair() as (client, server):
        cross(client, wants=2)
        leader = trio.CancelScope()

        async def lead() -> None:
            with leader:
                await client.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.send_all, b"crossed")
            await trio.testing.wait_all_tasks_blocked()
            leader.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await server.send_all(b"x")
        assert await server.receive_some() == b"crossed"


async def test_bytes_are_counted_on_the_socket_with_tls_included() -> None:
    async with pair(tcp=True) as (client, server):
        handshake = client.bytes_sent, client.bytes_received
        assert all(1000 < count < 10_000 for count in handshake)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x" * BULK)
            await receive_exactly(server, BULK)
        overhead = BULK // 16384 * 22
        assert client.bytes_sent == handshake[0] + BULK + overhead
        assert client.bytes_sent == server.bytes_received
        assert client.bytes_received == server.bytes_sent
        await client.aclose()
        assert await server.receive_some() == b""
        await server.aclose()
        # Each end closes with a close_notify of 24 bytes, of which the client's was not counted.
        assert client.bytes_sent + 24 == server.bytes_received


async def test_bytes_still_in_the_buffer_count_as_sent() -> None:
    async with pair(tcp=True) as (client, _):
        before = client.bytes_sent
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x" * (64 << 20))
            await trio.testing.wait_all_tasks_blocked()
            taken = client.bytes_sent - before
            await trio.testing.wait_all_tasks_blocked()
            assert client.bytes_sent - before == taken > 100_000
            nursery.cancel_scope.cancel()


async def test_what_is_no_tcp_is_counted_in_plain_bytes() -> None:
    async with pair() as (client, server):
        await client.send_all(b"x" * 1000)
        await server.receive_some()
        assert (client.bytes_sent, server.bytes_received) == (1000, 1000)


async def test_others_are_served_during_a_long_send() -> None:
    async with pair() as (client, server):
        visits = 0

        async def count_visits() -> None:
            nonlocal visits
            while True:
                await trio.lowlevel.checkpoint()
                visits += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_visits)
            nursery.start_soon(client.send_all, b"x" * BULK)
            await receive_exactly(server, BULK)
            nursery.cancel_scope.cancel()
        assert visits >= BULK // STRETCH


async def test_lingering_lets_the_last_words_arrive_past_unread_data() -> None:
    async with pair(tcp=True) as (client, server):
        await client.send_all(b"x" * 100_000)
        await server.send_all(b"you may not")

        async def read_slowly() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert await client.receive_some() == b"you may not"
            assert await client.receive_some() == b""
            await client.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.linger, 30)
            nursery.start_soon(read_slowly)
        with pytest.raises(trio.ClosedResourceError):
            await server.send_all(b"more")


async def test_lingering_ends_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(tcp=True) as (_, server):
        before = trio.current_time()
        await server.linger(5)
        assert trio.current_time() - before == 5


def data_packets(stream: TlsStream) -> int:
    info = stream.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, DATA_PACKETS_AT + 4)
    return int.from_bytes(info[DATA_PACKETS_AT:], sys.byteorder)


def is_corked(stream: TlsStream) -> bool:
    return bool(stream.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


async def test_bulk_data_fills_packets_although_nagles_delay_is_off() -> None:
    records = 16
    async with pair(tcp=True) as (client, server):
        client.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = data_packets(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, bytes(records * RECORD))
            received = 0
            while received < records * RECORD:
                received += len(await server.receive_some())
        assert data_packets(client) - before <= records // 2


async def test_no_cork_is_left_behind_by_a_send_that_ended_or_was_cancelled() -> None:
    async with pair(tcp=True) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, bytes(STRETCH + 1))
            received = 0
            while received < STRETCH + 1:
                received += len(await server.receive_some())
        assert not is_corked(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, bytes(BULK))
            await trio.testing.wait_all_tasks_blocked()
            assert is_corked(client)
            nursery.cancel_scope.cancel()
        assert not is_corked(client)
