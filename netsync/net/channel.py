"""Channels: messages both ways, over TLS or in memory, so that the roles cannot tell.

A channel checks each received message against the order table, turns a peer's ``Fault`` into
the exception it stands for, and never waits without a deadline: receiving fails when the peer
was silent for ``timeout`` seconds, sending when nothing was accepted and nothing heard for as
long. ``heartbeat`` keeps the other end from thinking so of us. Closing waits briefly for the
peer to read our last words, since data left unread would make the kernel reset the connection
and throw them away.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple, Protocol

import trio

from netsync import __version__
from netsync.errors import (
    NetsyncError,
    NetworkError,
    StalledError,
    error_for_exit_code,
)
from netsync.model import Options
from netsync.net.failures import map_stream_error
from netsync.net.pace import Pace
from netsync.wire.codec import LIMITS, Buffer, compress, decode, encode, plain_tail
from netsync.wire.frames import FrameDecoder
from netsync.wire.messages import Fault, Message, Ping
from netsync.wire.mirroring import MIRROR_FEATURE
from netsync.wire.order import Order, State

_BULK: Final = 512 * 1024
"""Bytes of a buffer that is sent as it is: copying it would cost more than sending once more."""
COMPRESSION_FEATURE: Final = "zstd"
"""The feature of peers that understand compressed tails."""
WATCH_FEATURE: Final = "watch"
"""The feature of servers that take what changed, and beats between."""
FEATURES: Final = [COMPRESSION_FEATURE, WATCH_FEATURE, MIRROR_FEATURE]
"""What this version can do beyond the protocol's first version; unknown ones are ignored."""
SOFTWARE: Final = f"netsync {__version__}"
FAULT_TEXT: Final = 2048
"""Characters of each text of a ``Fault``: four of them fit a control frame in any script."""
_SEND_SLICE: Final = 2 * 1024 * 1024
"""Bytes sent under one deadline: a full frame, since each slice visits the scheduler anew."""
_AT_ONCE_BYTES: Final = 16 * 1024
"""Bytes of a message that may go without a visit to the scheduler: one record of TLS."""
_AT_ONCE_COUNT: Final = 16
"""How many of these may follow each other, until other tasks have their turn."""
_LINGER_SECONDS: Final = 2.0
"""How long a closing side waits for the peer to take its last words."""
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
MEMORY_QUEUE: Final = 4
"""Frames in flight each way on a memory channel; times 2 MiB bounds its memory."""


class Received(NamedTuple):
    """A message and its raw tail."""

    message: Message
    tail: memoryview


class ByteStream(Protocol):
    """What a channel needs of a stream; ``net.tls.TlsStream`` is one."""

    def send_now(self, data: Buffer) -> int: ...
    async def send_all(self, data: Buffer) -> None: ...
    async def receive_into(self, buffer: memoryview) -> int: ...
    async def aclose(self) -> None: ...
    async def linger(self, seconds: float) -> None: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...


class Channel(Protocol):
    """Messages both ways. One task receives; any number may send."""

    order: Order
    compression: int
    pace: Pace

    async def send(self, message: Message, tail: Sequence[Buffer] = ()) -> None:
        """Send one message; returns when the transport has taken it."""

    async def receive(self) -> Received:
        """Return the next message that is not a ``Ping``; raises what a ``Fault`` says."""

    @property
    def wire(self) -> tuple[int, int]:
        """Bytes sent and received on the socket so far, TLS included."""


def equip(channel: Channel, options: Options) -> None:
    """Let the channel compress and pace what it sends as the options say."""
    channel.compression = options.compress
    channel.pace.rate = options.rate


def fault_from(error: NetsyncError) -> Fault:
    """Return ``error`` as a message."""
    text = [
        part.encode("utf-8", "backslashreplace").decode()[:FAULT_TEXT]
        for part in (error.why, error.op, error.where, error.hint)
    ]
    return Fault(error.exit_code, *text)


def error_from(fault: Fault) -> NetsyncError:
    """Return the exception that a peer's ``Fault`` stands for."""
    cls = error_for_exit_code(fault.code)
    return cls(fault.why, op=fault.op, where=fault.where, hint=fault.hint)


class StreamChannel:
    """A channel over a byte stream. ``peer`` names the other end in errors."""

    def __init__(self, stream: ByteStream, *, peer: str, expects: State, timeout: float) -> None:
        self.order = Order(expects)
        self.compression = 0
        self.pace = Pace()
        self.peer = peer
        self.features: frozenset[str] = frozenset()
        self.timeout = timeout
        self._stream = stream
        self._decoder = FrameDecoder(LIMITS)
        self._sending = trio.Lock()
        self._send_scope = trio.CancelScope()
        self._last_sent = -math.inf
        self._at_once = 0
        self._heard = -math.inf
        self._ping_every = timeout / 3
        self._welcomed = False
        self._send_failure: NetsyncError | None = None

    @property
    def wire(self) -> tuple[int, int]:
        """Bytes sent and received on the socket so far, TLS included."""
        return self._stream.bytes_sent, self._stream.bytes_received

    async def send(self, message: Message, tail: Sequence[Buffer] = ()) -> None:
        """Send one frame. Raises ``StalledError`` or ``NetworkError``."""
        flags = 0
        if tail and self.compression and COMPRESSION_FEATURE in self.features:
            tail, flags = await trio.to_thread.run_sync(compress, tail, self.compression)
        buffers = _joined(encode(message, tail, flags=flags))
        if self._sending.locked():
            await self._sending.acquire()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._sending.acquire_nowait()
        try:
            await self._send_buffers(buffers)
        finally:
            self._sending.release()

    def _may_go_at_once(self, buffer: Buffer) -> bool:
        """Tell whether the transport may take something without a visit to the scheduler.

        For little that visit, and a scope with a deadline, take as long as all the rest.
        """
        few = len(buffer) <= _AT_ONCE_BYTES and self._at_once < _AT_ONCE_COUNT
        return few and not self.pace.rate

    async def _send_buffers(self, buffers: list[Buffer]) -> None:
        if self._send_failure is not None:
            raise self._send_failure  # what broke the stream, not that it is broken
        at_once = True
        try:
            for buffer in buffers:
                done = self._stream.send_now(buffer) if self._may_go_at_once(buffer) else 0
                if done < len(buffer):
                    await self._send_buffer(memoryview(buffer)[done:])
                    at_once = False
        except NetsyncError as error:
            self._send_failure = error
            raise
        except trio.Cancelled:
            self._send_failure = NetworkError("the session is ending", op="send")
            raise
        self._at_once = self._at_once + 1 if at_once else 0
        self._last_sent = trio.current_time()

    async def _send_buffer(self, buffer: memoryview) -> None:
        step = self.pace.slice(_SEND_SLICE)
        for start in range(0, len(buffer), step):
            piece = buffer[start : start + step]
            await self.pace.spend(len(piece))
            with trio.CancelScope(deadline=trio.current_time() + self.timeout) as scope:
                self._send_scope = scope
                try:
                    await self._stream.send_all(piece)
                except _BROKEN as error:
                    raise self._put_into_words(error) from error
            if scope.cancelled_caught:
                raise self._stalled("took nothing")

    async def receive(self) -> Received:
        """Return the next message that is not a ``Ping``."""
        while True:
            frame = self._decoder.next_frame()
            if frame is None:
                await self._fill()
                continue
            message = decode(frame)
            self.order.check(message)
            if isinstance(message, Fault):
                raise error_from(message)
            if not isinstance(message, Ping):
                return Received(message, plain_tail(frame))

    async def _fill(self) -> None:
        room = self._decoder.writable()
        with trio.move_on_after(self.timeout) as scope:
            try:
                count = await self._stream.receive_into(room)
            except _BROKEN as error:
                raise self._put_into_words(error) from error
        if scope.cancelled_caught:
            raise self._stalled("was silent")
        if count == 0:
            raise NetworkError(
                "the peer closed the connection before the work was finished",
                op="receive from",
                where=self.peer,
                hint="see the other side's log; what was finished stays",
            )
        self._decoder.wrote(count)
        self._heard = trio.current_time()
        self._send_scope.deadline = trio.current_time() + self.timeout

    def _put_into_words(self, error: Exception) -> NetsyncError:
        return map_stream_error(error, self.peer, welcomed=self._welcomed)

    def _stalled(self, what: str) -> StalledError:
        return StalledError(
            f"the peer {what} for {self.timeout:g} seconds",
            op="talk to",
            where=self.peer,
            hint="check the network and the other host; --timeout allows more",
        )

    def heed(self, peer_timeout: float, features: Sequence[str]) -> None:
        """The peer is there, bears ``peer_timeout`` seconds of silence, and has ``features``.

        We ping in time for it; our own patience stays as it is.
        """
        self._welcomed = True
        self.features = frozenset(features)
        self._ping_every = min(self.timeout, peer_timeout) / 3

    @property
    def is_heard(self) -> bool:
        """Tell whether the peer was heard as lately as one that lives, and pings, must be."""
        return trio.current_time() - self._heard < 2 * self._ping_every

    async def heartbeat(self) -> None:
        """Ping whenever nothing was sent for a while. Runs until cancelled."""
        while True:
            await trio.sleep(self._ping_every)
            if trio.current_time() - self._last_sent >= self._ping_every:
                await self.send(Ping())

    async def fail(self, error: NetsyncError) -> None:
        """Tell the peer why the session ends; best effort, a dead peer is no new error."""
        with contextlib.suppress(NetsyncError), trio.move_on_after(_LINGER_SECONDS):
            await self.send(fault_from(error))

    async def aclose(self, *, linger: bool = False) -> None:
        """Close; with ``linger`` give the peer a moment to read our last words first."""
        if linger:
            with trio.CancelScope(shield=True):
                await self._stream.linger(_LINGER_SECONDS)
        else:
            await self._stream.aclose()


def _joined(buffers: list[Buffer]) -> list[Buffer]:
    """Join neighbours that are small: a header with some kilobytes should be one TLS record."""
    joined: list[Buffer] = []
    for is_bulk, run in itertools.groupby(buffers, lambda buffer: len(buffer) >= _BULK):
        part = list(run)
        joined += part if is_bulk else [b"".join(part)]
    return joined


@contextlib.asynccontextmanager
async def kept_alive(channel: StreamChannel) -> AsyncGenerator[None]:
    """Run the channel's heartbeat while the body runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.heartbeat)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


class MemoryChannel:
    """One end of a channel inside one process, for local copies and tests."""

    def __init__(
        self,
        sender: trio.MemorySendChannel[Received],
        receiver: trio.MemoryReceiveChannel[Received],
        expects: State,
    ) -> None:
        self.order = Order(expects)
        self.compression = 0
        self.pace = Pace()
        self._sender = sender
        self._receiver = receiver

    @property
    def wire(self) -> tuple[int, int]:
        """Nothing travels: always 0."""
        return 0, 0

    async def send(self, message: Message, tail: Sequence[Buffer] = ()) -> None:
        """Hand over one message; waits while ``MEMORY_QUEUE`` others wait."""
        joined = tail[0] if len(tail) == 1 else b"".join(tail)
        await self.pace.spend(len(joined))
        try:
            await self._sender.send(Received(message, memoryview(joined)))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NetworkError("the other role has ended", op="send") from error

    async def receive(self) -> Received:
        """Return the next message."""
        try:
            received = await self._receiver.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise NetworkError("the other role has ended", op="receive") from error
        self.order.check(received.message)
        if isinstance(received.message, Fault):
            raise error_from(received.message)
        return received

    async def aclose(self) -> None:
        """Close this end; the other sees the end after what was sent."""
        await self._sender.aclose()
        await self._receiver.aclose()


def memory_channels(first: State, second: State) -> tuple[MemoryChannel, MemoryChannel]:
    """Return two connected ends; ``first`` is what the first expects its peer to say."""
    there = trio.open_memory_channel[Received](MEMORY_QUEUE)
    back = trio.open_memory_channel[Received](MEMORY_QUEUE)
    return MemoryChannel(there[0], back[1], first), MemoryChannel(back[0], there[1], second)
