"""One contract, two ways to move the records of a TLS connection: in C, and by Python's ``ssl``."""

from __future__ import annotations

import _ssl
import ctypes
import errno
import importlib
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netsync.identity.contexts import client_context, server_context
from netsync.net import records
from netsync.net.records import ENDED, FAILED, MOVED, WANTS_READ, WANTS_WRITE, Moved, Records
from tests.support.certificates import certificates
from tests.support.twins import WISHED

MODULES = {"pure": "netsync.net._plain_records", "compiled": "netsync.net._records"}

BULK = 8 << 20
"""Bytes that fill every socket buffer several times over."""
RECORD = 16 * 1024
"""Bytes in the longest TLS record."""

SSL_LIBRARY = 20
"""What OpenSSL calls itself in its errors (``ERR_LIB_SSL``)."""

Take = Callable[[ssl.SSLSocket], Records | None]


@pytest.fixture(params=WISHED)
def take(request: pytest.FixtureRequest) -> Take:
    return cast("Take", importlib.import_module(MODULES[request.param]).take)


class Pair:
    """Two ends of a connection that shook hands, neither of which blocks."""

    def __init__(self, near: socket.socket, far: socket.socket, client: ssl.SSLContext) -> None:
        server = server_context(certificates().server)
        for sock in (near, far):
            sock.setblocking(False)
        self.tap = near.dup()
        self.near = _wrapped(near, client, server_hostname="localhost")
        self.far = _wrapped(far, server, server_side=True)
        waiting = [self.near, self.far]
        while waiting:
            try:
                waiting[0].do_handshake()
            except ssl.SSLWantReadError:
                waiting.reverse()
            else:
                del waiting[0]

    def close(self) -> None:
        for sock in (self.tap, self.near, self.far):
            sock.close()


def _wrapped(sock: socket.socket, context: ssl.SSLContext, **options: object) -> ssl.SSLSocket:
    return context.wrap_socket(
        sock,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
        **options,  # type: ignore[arg-type]
    )


Connect = Callable[..., Pair]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects over a Unix socket, or TCP, with the client's certificate or another context."""
    with ExitStack() as stack:

        def made(*, tcp: bool = False, client: ssl.SSLContext | None = None) -> Pair:
            near, far = _tcp() if tcp else socket.socketpair()
            pair = Pair(near, far, client or client_context(certificates().client))
            stack.callback(pair.close)
            return pair

        yield made


def _tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def taken(take: Take, sock: ssl.SSLSocket) -> Records:
    found = take(sock)
    assert found is not None
    return found


def room(size: int = BULK) -> memoryview:
    return memoryview(bytearray(size))


def failure(moved: Moved) -> OSError:
    count, stopped, error = moved
    assert (count, stopped) == (0, FAILED)
    assert error is not None
    return error


def is_what_the_system_says(take: Take, error: OSError, expected: type[OSError]) -> None:
    """Python's own ``ssl`` took each for the end of file, until 3.12.3 mended that."""
    is_old = take.__module__ == MODULES["pure"] and sys.version_info < (3, 12, 3)
    assert isinstance(error, ssl.SSLEOFError if is_old else expected)


def test_many_records_are_moved_in_one_call(take: Take, connect: Connect) -> None:
    pair = connect(tcp=True)
    data = os.urandom(5 * RECORD + 17)
    assert taken(take, pair.near).write(data) == (len(data), MOVED, None)
    buffer = room(len(data))
    assert taken(take, pair.far).read(buffer) == (len(data), MOVED, None)
    assert buffer == data


def test_nothing_to_move_is_nothing_moved(take: Take, connect: Connect) -> None:
    pair = connect()
    assert taken(take, pair.near).write(b"") == (0, MOVED, None)
    assert taken(take, pair.near).read(room(0)) == (0, MOVED, None)


def test_bytes_left_in_a_record_come_with_the_next_call(take: Take, connect: Connect) -> None:
    pair = connect()
    pair.near.send(b"abc")
    far, buffer = taken(take, pair.far), room(2)
    assert far.read(buffer) == (2, MOVED, None)
    assert far.read(buffer) == (1, WANTS_READ, None)
    assert bytes(buffer) == b"cb"


def test_a_full_socket_and_a_drained_one_say_so_until_all_is_through(
    take: Take, connect: Connect
) -> None:
    pair = connect()
    near, far = taken(take, pair.near), taken(take, pair.far)
    assert far.read(room()) == (0, WANTS_READ, None)
    data, buffer = memoryview(os.urandom(BULK)), room()
    sent = received = 0
    stops = set()
    while received < BULK:
        count, stopped, _ = near.write(data[sent:])
        sent += count
        stops.add(stopped)
        count, stopped, _ = far.read(buffer[received:])
        received += count
        stops.add(stopped)
    assert buffer == data
    assert stops == {MOVED, WANTS_WRITE, WANTS_READ}


def test_what_came_before_a_close_notify_is_told_with_the_end(take: Take, connect: Connect) -> None:
    pair = connect()
    pair.near.send(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        pair.near.unwrap()
    far = taken(take, pair.far)
    assert far.read(room()) == (10, ENDED, None)
    assert [far.read(room()) for _ in range(2)] == [(0, ENDED, None)] * 2
    assert far.write(b"still here") == (10, MOVED, None)


def test_what_came_before_a_cut_is_told_with_the_failure(take: Take, connect: Connect) -> None:
    pair = connect()
    pair.near.send(b"some")
    pair.tap.shutdown(socket.SHUT_RDWR)
    count, stopped, error = taken(take, pair.far).read(room())
    assert (count, stopped) == (4, FAILED)
    assert isinstance(error, ssl.SSLEOFError)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\x17\x03\x03\x00\x20" + b"\0" * 32, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        (b"\x17\x03\x03\xff\xff", "PACKET_LENGTH_TOO_LONG"),
        (b"\x63\x03\x03\x00\x20" + b"\0" * 32, "BAD_RECORD_TYPE"),
        (b"GET / HTTP/1.1\r\n", "WRONG_VERSION_NUMBER"),
    ],
    ids=["damaged", "too long", "of no kind", "no TLS at all"],
)
def test_a_bad_record_is_a_failure_with_its_reason(
    take: Take, connect: Connect, record: bytes, reason: str
) -> None:
    pair = connect()
    pair.near.send(b"good")
    pair.tap.send(record)
    count, stopped, error = taken(take, pair.far).read(room())
    assert (count, stopped) == (4, FAILED)
    assert isinstance(error, ssl.SSLError)
    assert error.reason == reason


def test_a_cut_within_a_record_is_no_end(take: Take, connect: Connect) -> None:
    pair = connect()
    pair.tap.send(b"\x17\x03\x03\x00\x20" + b"\0" * 12)
    pair.tap.shutdown(socket.SHUT_RDWR)
    assert isinstance(failure(taken(take, pair.far).read(room())), ssl.SSLEOFError)


def test_an_alert_of_the_peer_is_a_failure_and_never_an_end(take: Take, connect: Connect) -> None:
    """After an alert OpenSSL takes the connection for ended: only the first call says why."""
    pair = connect()
    pair.tap.send(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
    with pytest.raises(ssl.SSLError):
        pair.far.recv(1)  # and tells the other side of the damage
    error = failure(taken(take, pair.near).read(room()))
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "SSLV3_ALERT_BAD_RECORD_MAC"


def test_a_client_that_is_rejected_reads_why(take: Take, connect: Connect) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    near, far = socket.socketpair()
    with near, far:
        for sock in (near, far):
            sock.setblocking(False)
        client = _wrapped(near, stranger, server_hostname="localhost")
        server = _wrapped(far, server_context(certificates().server), server_side=True)
        with client, server:
            for end in (client, server):
                with pytest.raises(ssl.SSLWantReadError):
                    end.do_handshake()
            client.do_handshake()
            with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
                server.do_handshake()
            error = failure(taken(take, client).read(room()))
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_a_reset_is_what_the_system_says(take: Take, connect: Connect) -> None:
    pair = connect(tcp=True)
    pair.tap.close()
    pair.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.near.close()
    is_what_the_system_says(take, failure(taken(take, pair.far).read(room())), ConnectionResetError)


def test_a_write_to_a_peer_that_is_gone_is_what_the_system_says(
    take: Take, connect: Connect
) -> None:
    pair = connect()
    pair.tap.close()
    pair.near.close()
    is_what_the_system_says(
        take, failure(taken(take, pair.far).write(b"x" * RECORD)), BrokenPipeError
    )


def test_a_closed_socket_is_a_failure_though_its_number_names_another(
    take: Take, connect: Connect
) -> None:
    pair = connect()
    far = taken(take, pair.far)
    number = pair.far.fileno()
    pair.far.close()
    os.dup2(pair.tap.fileno(), number)
    try:
        assert failure(far.write(b"x")).errno == errno.EBADF
        assert failure(far.read(room())).errno == errno.EBADF
    finally:
        os.close(number)


def test_what_cannot_be_moved_is_refused(take: Take, connect: Connect) -> None:
    near = taken(take, connect().near)
    with pytest.raises((TypeError, BufferError)):
        near.write("text")  # type: ignore[arg-type]
    with pytest.raises((TypeError, BufferError)):
        near.read(memoryview(b"constant"))


class TestTheCompiledOne:
    """What only the compiled one could get wrong."""

    def take(self, sock: object) -> Any:
        return importlib.import_module(MODULES["compiled"]).take(sock)

    def test_it_is_what_the_stream_takes(self) -> None:
        assert WISHED[-1] == records.load().NAME

    def test_an_object_that_is_not_what_python_makes_is_left_to_python(
        self, connect: Connect
    ) -> None:
        pair = connect()
        near, far = pair.near, pair.far
        inside, other = vars(near)["_sslobj"], vars(far)["_sslobj"]
        assert self.take(near) is not None
        try:
            for stranger in (object(), None, other):
                vars(near)["_sslobj"] = stranger
                assert self.take(near) is None
        finally:
            vars(near)["_sslobj"] = inside

    def test_a_connection_over_no_socket_is_left_to_python(self) -> None:
        made = client_context(certificates().client)
        inside = made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
        assert self.take(inside) is None

    def test_who_is_left_to_python_is_served_all_the_same(self, connect: Connect) -> None:
        pair = connect()
        real = self.take(pair.far)
        stranger = SimpleNamespace(_sslobj=None, send=pair.near.send)
        found = records.records_of(cast("ssl.SSLSocket", stranger))
        assert type(found).__module__ == MODULES["pure"]
        assert found.write(b"served") == (6, MOVED, None)
        assert real.read(room()) == (6, WANTS_READ, None)

    def test_an_error_that_somebody_left_in_the_queue_is_not_ours(self, connect: Connect) -> None:
        found = self.take(connect().near)
        openssl = ctypes.CDLL(_ssl.__file__)
        openssl.ERR_new()
        openssl.ERR_set_error(SSL_LIBRARY, 1, None)
        assert openssl.ERR_peek_error()
        assert found.read(room()) == (0, WANTS_READ, None)

    @pytest.mark.parametrize("stopped", [1, 5, 6])
    @pytest.mark.parametrize("answer", [0, 7, ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
    def test_a_failure_of_which_python_knows_nothing_stays_one(
        self, connect: Connect, stopped: int, answer: object
    ) -> None:
        def call(rest: object) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        error = self.take(connect().near)._failure(call, b"", stopped, 0)
        assert (error is None) == (stopped == ENDED and answer == 0)
        assert error is None or type(error) is ssl.SSLError
