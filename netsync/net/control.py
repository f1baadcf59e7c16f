"""The daemon's Unix socket: one request, any number of notes, one answer.

It lies in the state directory, which only its owner may enter, and may itself only be used by its
owner: who can connect may run every job. A frame is four bytes of length and one msgpack value. A
client that goes away ends the waiting, not a run.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from netsync.errors import NetsyncError, NetworkError, ProtocolError, StateError, reason
from netsync.model import Report
from netsync.net.private import listen_in, reached

SOCKET: Final = "control"
_FRAME_MAX: Final = 16 * 1024 * 1024
"""Bytes of one value: a report with a thousand problems is far below."""
_REQUEST_MAX: Final = 64 * 1024
_REQUEST_SECONDS: Final = 5.0
"""How long a client may take to say what it wants."""
_BACKLOG: Final = 16


class RunJob(Struct, frozen=True, tag=True):
    """Run a job now, after the run that may be under way; or ``scrub`` all of its tree."""

    job: str
    scrub: bool = False


class AwaitJob(Struct, frozen=True, tag=True):
    """Answer when everything written before this is durable on the standby."""

    job: str


class Promote(Struct, frozen=True, tag=True):
    """Make the standby's copy at ``place`` an original; its primary is refused from then on."""

    place: bytes
    force: bool = False


class Note(Struct, frozen=True, tag=True):
    """A line for the user while it goes on."""

    text: str


class Answer(Struct, frozen=True, tag=True):
    """What it came to: an exit code, one line where it is not 0, the report if there is one."""

    code: int
    words: str = ""
    report: Report | None = None
    seconds: float = 0.0


Request = RunJob | AwaitJob | Promote
Reply = Note | Answer
Say = Callable[[Reply], Awaitable[None]]
Handler = Callable[[Request, Say], Awaitable[Answer]]

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final = msgspec.msgpack.Decoder(Request)
_replies: Final = msgspec.msgpack.Decoder(Reply)
Value = TypeVar("Value")


async def open_control(directory: Path) -> trio.SocketListener:
    """Listen in ``directory``; only who holds the daemon's lock may. Raises ``StateError``."""
    try:
        own = listen_in(directory, SOCKET, _BACKLOG)
    except OSError as error:
        where = str(directory / SOCKET)
        raise StateError(reason(error), op="listen on", where=where) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(own))


async def answer(stream: trio.SocketStream, handler: Handler) -> None:
    """Serve one client, from its request to the answer. Never raises for what a client does."""
    async with stream:
        with trio.move_on_after(_REQUEST_SECONDS) as scope:
            try:
                request = await _receive(stream, _REQUEST_MAX, _requests)
            except (trio.BrokenResourceError, NetsyncError):
                return
        if scope.cancelled_caught:
            return

        async def say(reply: Reply) -> None:
            with contextlib.suppress(trio.BrokenResourceError):  # heard by _until_gone too
                await _send(stream, reply)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, stream, nursery.cancel_scope)
            await say(await handler(request, say))
            nursery.cancel_scope.cancel()


async def _until_gone(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """Cancel ``scope`` when the client has gone; it has nothing more to say."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    scope.cancel()


async def ask(directory: Path, request: Request, hear: Callable[[str], None]) -> Answer:
    """Ask the daemon; ``hear`` gets its notes. Raises ``NetworkError`` if it is not there."""
    own = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream = trio.SocketStream(own)
    async with stream:
        try:
            with reached(directory, SOCKET) as path:
                await own.connect(path)
            await _send(stream, request)
            while not isinstance(reply := await _receive(stream, _FRAME_MAX, _replies), Answer):
                hear(reply.text)
        except (OSError, trio.BrokenResourceError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            why = reason(cause) if isinstance(cause, OSError) else "it has ended"
            raise NetworkError(
                why,
                op="ask the daemon in",
                where=str(directory),
                hint="is 'netsync serve' running?",
            ) from error
    return reply


async def _send(stream: trio.SocketStream, value: Request | Reply) -> None:
    data = _encoder.encode(value)
    await stream.send_all(len(data).to_bytes(4) + data)


async def _receive(
    stream: trio.SocketStream, most: int, decoder: msgspec.msgpack.Decoder[Value]
) -> Value:
    length = int.from_bytes(await _exactly(stream, 4))
    if length > most:
        raise ProtocolError(f"{length} bytes are too many", op="read from the control socket")
    try:
        return decoder.decode(await _exactly(stream, length))
    except msgspec.DecodeError as error:
        hint = "is another version of netsync running?"
        raise ProtocolError(str(error), op="read from the control socket", hint=hint) from error


async def _exactly(stream: trio.SocketStream, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = await stream.receive_some(length - len(data))
        if not piece:
            raise NetworkError("it ended before it answered", op="ask the daemon")
        data += piece
    return bytes(data)
