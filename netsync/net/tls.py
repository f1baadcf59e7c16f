"""A trio stream over TLS, as fast as the cipher.

Theory of operation
-------------------
``trio.SSLStream`` moves every byte through two memory buffers and a stream below. Here OpenSSL
owns the socket: an ``ssl.SSLSocket`` that does not block. A call either works at once, or raises
``SSLWantReadError`` / ``SSLWantWriteError``, after which the task sleeps until the kernel says
that the socket is readable / writable, and calls again.

*Who may sleep.* Usually a sender wants to write and a receiver wants to read. But TLS mixes the
directions: reading a KeyUpdate may oblige the reader to answer, and so to want to write, while
a sender is asleep waiting for just that. trio allows one sleeper per socket and direction, so
each direction is a ``_Readiness``: the first task to come sleeps in the kernel, those who come
later sleep until the first wakes, and then every one of them tries its own call again. If the first
is cancelled the others wake too, and one of them takes its place.

*Records.* OpenSSL reads and writes one TLS record (at most 16 KiB) per call. Both ways we loop
without visiting the scheduler (some 30 µs a visit, more than encrypting a record) as long as the
socket keeps up, but never for more than ``STRETCH`` bytes, so that other tasks are served; the loop
itself is ``records.Records``, in C where it can be. Reading stops when the socket is drained, which
is remembered: the next read goes to sleep directly instead of asking a socket known to be empty.

*Packets.* Each record is a write of its own, and with Nagle's delay off a packet of its own,
however many of them a packet could hold. So bulk data is sent through a corked socket: the kernel
fills its packets, and sends what is left as soon as the cork is out. On loopback that spares a
receiver a seventh of its processor time, and costs the sender nothing.

*Ends.* A close_notify is a clean end, ``b""``. An end of file without one is a cut (or a
truncation attack) and raises ``BrokenResourceError``. After a failure OpenSSL may report a clean
end on the next read, so the first failure is kept and raised again for ever. A send that was
cancelled halfway leaves half a record in OpenSSL's hands; nothing sensible can follow, so the
sending side is broken then, and closing leaves out the close_notify.

Errors of the peer or the network are ``BrokenResourceError`` with the ``ssl.SSLError`` or
``OSError`` as its cause; ``dial.map_stream_error`` turns them into words.
"""

from __future__ import annotations

import contextlib
import operator
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from netsync.net.byte_count import ByteCount
from netsync.net.records import ENDED, WANTS_READ, WANTS_WRITE, records_of
from netsync.net.turns import Turns

STRETCH: Final = 1 << 20
"""Bytes moved without a checkpoint: about 0.6 ms, the longest we keep other tasks waiting."""

BULK: Final = 1 << 17
"""Bytes asked to be moved at once that are worth a turn, where there are turns, and a cork."""

RECEIVE_SOME: Final = 1 << 16
"""Bytes ``receive_some`` offers to read when the caller does not care: trio's own figure."""


class _Readiness:
    """One direction of one socket: one sleeper in the kernel, any number behind it."""

    def __init__(self, wait: Callable[[ssl.SSLSocket], Awaitable[None]]) -> None:
        self._wait = wait
        self._occupied = False
        self._followers = trio.lowlevel.ParkingLot()

    async def wait(self, sock: ssl.SSLSocket) -> None:
        """Sleep until the socket may be ready; the caller tries again in any case."""
        if self._occupied:
            await self._followers.park()
            return
        self._occupied = True
        try:
            await self._wait(sock)
        finally:
            self._occupied = False
            self._followers.unpark_all()


class TlsStream(trio.abc.Stream):
    """One TLS connection over a connected, non-blocking socket.

    Takes ownership of ``sock``. ``hostname`` is what the server's certificate must name (clients
    only). ``turns``, if a server sets them, are what its streams wait for with bulk data. Call
    ``handshake`` first. One task may send and another receive at the same time;
    a second one in the same role gets ``trio.BusyResourceError``.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        hostname: str | None = None,
    ) -> None:
        sock.setblocking(False)
        try:
            self._socket = context.wrap_socket(
                sock,
                server_side=server_side,
                server_hostname=hostname,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except BaseException:
            sock.close()
            raise
        self._records = records_of(self._socket)
        self._readable = _Readiness(trio.lowlevel.wait_readable)
        self._writable = _Readiness(trio.lowlevel.wait_writable)
        self._sending = False
        self._has_begun = False
        self._receiving = False
        self._closed = False
        self._blocked_on: _Readiness | None = None
        self._ended = False
        self._receive_failure: OSError | None = None
        self._send_failure: OSError | None = None
        self._bytes = ByteCount(self._socket)
        self._is_tcp = self._socket.family in (socket.AF_INET, socket.AF_INET6)
        self.turns: Turns | None = None

    @property
    def tls(self) -> ssl.SSLSocket:
        """The TLS socket below, to ask it for the peer's certificate. Not for moving bytes."""
        return self._socket

    @property
    def bytes_sent(self) -> int:
        """Bytes put on the socket so far, TLS included; not on TCP: what was sent."""
        return self._bytes.totals()[0]

    @property
    def bytes_received(self) -> int:
        """Bytes that arrived on the socket so far, TLS included; not on TCP: what was read."""
        return self._bytes.totals()[1]

    async def handshake(self) -> None:
        """Shake hands; raises ``ssl.SSLError`` or ``OSError`` for ``dial`` to put into words.

        With TLS 1.3 this succeeds on a client even if the server then rejects its certificate.
        """
        await trio.lowlevel.checkpoint()
        while not self._closed:
            try:
                self._socket.do_handshake()
            except ssl.SSLWantReadError:
                await self._readable.wait(self._socket)
            except ssl.SSLWantWriteError:
                await self._writable.wait(self._socket)
            else:
                return
        raise trio.ClosedResourceError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; if cancelled on the way, nothing can be sent any more."""
        with self._one_sender():
            has_begun, self._has_begun = self._has_begun, False
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled:
                if has_begun:
                    self._send_failure = InterruptedError("an earlier send was cancelled halfway")
                raise
            self._check_open()
            if self._send_failure is not None:
                raise _broken(self._send_failure) from self._send_failure
            view = memoryview(data).cast("B")
            if len(view) == 0:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
            await self._wait_for_turn(len(view))
            try:
                with self._full_packets(len(view)):
                    await self._send(view)
            except OSError as error:
                self._send_failure = _kept(error)
                raise _broken(error) from error
            except BaseException:
                self._send_failure = InterruptedError("an earlier send was cancelled halfway")
                raise

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send what goes without waiting; return how much that was.

        The rest, and all of it after a failure, belongs to ``send_all``, which must come next:
        OpenSSL may hold the record already.
        """
        if self._sending or self._closed or self._send_failure is not None:
            return 0
        count, _, error = self._records.write(data)
        self._bytes.sent += count
        if error is not None:
            self._send_failure = _kept(error)
        else:
            self._has_begun = count < len(data)
        return count

    async def _send(self, view: memoryview) -> None:
        done = 0
        slept = False
        while done < len(view):
            count, stopped, error = self._records.write(view[done : done + STRETCH])
            done += count
            self._bytes.sent += count
            if error is not None:
                raise error
            if stopped == WANTS_WRITE:
                await self._writable.wait(self._socket)
            elif stopped == WANTS_READ:
                await self._readable.wait(self._socket)
            elif done < len(view):
                await trio.lowlevel.checkpoint()
            else:
                break
            self._check_open()
            slept = True
        if not slept:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @contextlib.contextmanager
    def _full_packets(self, size: int) -> Iterator[None]:
        """Have the kernel fill its packets with what is sent meanwhile, if it is much."""
        if size < BULK or not self._is_tcp:
            yield
            return
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # closed meanwhile
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    async def wait_send_all_might_not_block(self) -> None:
        """Sleep until there may be room in the socket's buffer."""
        with self._one_sender():
            await trio.lowlevel.checkpoint()
            self._check_open()
            await self._writable.wait(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at most ``max_bytes``; ``b""`` at a clean end."""
        size = RECEIVE_SOME if max_bytes is None else operator.index(max_bytes)
        if size < 1:
            raise ValueError("max_bytes must be at least 1")
        buffer = bytearray(min(size, STRETCH))
        with memoryview(buffer) as view:
            count = await self.receive_into(view)
            return bytes(view[:count])

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with what has arrived; return its length, 0 at a clean end.

        Waits for the first byte only. Cancelling loses nothing.
        """
        if not len(buffer):
            raise ValueError("the buffer is empty")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._check_open()
            slept = await self._sleep_if_blocked()
            await self._wait_for_turn(len(buffer))
            while (count := self._read(buffer)) is None:
                slept = await self._sleep_if_blocked()
            if not slept:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return count
        finally:
            self._receiving = False

    async def _wait_for_turn(self, size: int) -> None:
        """Let others go first who have waited longer, if ``size`` bytes would hold them up."""
        if size >= BULK and self.turns is not None:
            await self.turns.wait()
            self._check_open()

    async def _sleep_if_blocked(self) -> bool:
        """Sleep if the last read found the socket empty; tell whether it did."""
        if self._blocked_on is None:
            return False
        await self._blocked_on.wait(self._socket)
        self._blocked_on = None
        self._check_open()
        return True

    def _read(self, buffer: memoryview) -> int | None:
        """Read until ``buffer`` is full or the socket empty; None if there was nothing at all."""
        if self._receive_failure is not None:
            raise _broken(self._receive_failure) from self._receive_failure
        if self._ended:
            return 0
        filled, stopped, error = self._records.read(buffer[:STRETCH])
        if stopped == WANTS_READ:
            self._blocked_on = self._readable
        elif stopped == WANTS_WRITE:
            self._blocked_on = self._writable
        elif stopped == ENDED:
            self._ended = True
        elif error is not None:
            self._receive_failure = _kept(error)
            if not filled:
                raise _broken(error) from error
        self._bytes.received += filled
        return filled if filled or self._ended else None

    async def aclose(self) -> None:
        """Say goodbye if that takes no waiting, and close; tasks asleep here wake up."""
        if not self._closed:
            self._say_goodbye()
            self._socket.close()
        await trio.lowlevel.checkpoint()

    async def linger(self, seconds: float) -> None:
        """Close so that what was sent last arrives, for whoever ends the session first.

        Closing a socket that holds unread bytes resets the connection, and the reset may overtake
        an alert or an error message. So we end our direction only and read the peer's away,
        until it ends too or ``seconds`` have passed.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._say_goodbye()
        with socket.socket(fileno=self._socket.detach()) as plain, contextlib.suppress(OSError):
            plain.setblocking(False)
            plain.shutdown(socket.SHUT_WR)
            with trio.move_on_after(seconds):
                await _read_away(plain)

    def _say_goodbye(self) -> None:
        """Mark the stream closed, wake its tasks, and send close_notify if there is room."""
        self._bytes.freeze()
        whole = not self._sending and self._send_failure is None
        self._closed = True
        trio.lowlevel.notify_closing(self._socket)
        if whole and self._receive_failure is None:
            # It also looks for the peer's close_notify, which need not be there.
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")

    @contextlib.contextmanager
    def _one_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False


def _broken(cause: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(str(cause))


def _kept(error: OSError) -> OSError:
    """Return ``error`` without its traceback, which would keep the caller's buffer alive."""
    return error.with_traceback(None)


async def _read_away(plain: socket.socket) -> None:
    while True:
        await trio.lowlevel.wait_readable(plain)
        with contextlib.suppress(BlockingIOError):
            if not plain.recv(RECEIVE_SOME):
                return
