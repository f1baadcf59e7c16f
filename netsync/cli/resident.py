"""A resident helper: keeps a session, so that a commit costs one round trip and one flush.

Started by a first commit, one for each identity and server; a lock decides between two starters.
It serves the commands of its own user, ends after ``IDLE_SECONDS`` without one, and as soon as
the identity's files are others: then the next command goes its own way and starts a new one.

Commits that come while one is under way are done together when it has ended: they share a flush.
All is idempotent, so a session that turns out to be dead is replaced and asked again; what a
command is told is about its own files only. A command that has gone has its commit done all the
same: it could not know.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from netsync.cli.commit import told
from netsync.errors import IndeterminateError, NetsyncError, StateError, is_cut
from netsync.identity import files
from netsync.model import Report
from netsync.modes import commit as mode
from netsync.modes.address import Remote, parse_address
from netsync.modes.session import Connection, session
from netsync.net.channel import StreamChannel
from netsync.net.private import listen_in
from netsync.net.resident import (
    ALIVE,
    ANSWER,
    FILES_MAX,
    LENGTH,
    PEER,
    REQUEST_MAX,
    Asked,
    Key,
    framed,
    unpacked,
)
from netsync.state import locks
from netsync.transfer.commit_source import Answered, send_files
from netsync.wire.committing import COMMIT_FILES_MAX, Commit

IDLE_SECONDS: Final = 300.0
_ALIVE_SECONDS: Final = 1.0
_REQUEST_SECONDS: Final = 5.0
"""How long a command may take to say what it wants."""
_ANSWER_SECONDS: Final = 5.0
"""How long a command may take to read its answer."""
_CLIENTS_MAX: Final = 64
"""Commands at a time; more do their work themselves."""
_BACKLOG: Final = 64
_IDENTITY_FILES: Final = (files.CA, files.CERTIFICATE, files.KEY, files.REVOKED)


@dataclass(eq=False)
class Waiting:
    """A command's commit: what it wants, since when, and what it came to once ``done``."""

    asked: Asked
    wish: mode.Wish
    since: float
    done: trio.Event = field(default_factory=trio.Event)
    result: Report | NetsyncError | None = None

    def settle(self, result: Report | NetsyncError) -> None:
        """Let the command hear of it."""
        self.result = result
        self.done.set()


class Resident:
    """The helper for ``key``."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._files = _state_of(key.identity)
        self._queue: list[Waiting] = []
        self._news = trio.Event()
        self._clients = 0

    async def serve(self, listener: trio.socket.SocketType, *, idle: float = IDLE_SECONDS) -> None:
        """Serve commands until none has come for ``idle`` seconds, or the identity has changed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept, listener)
            await self._work(idle)
            nursery.cancel_scope.cancel()

    @property
    def _is_outdated(self) -> bool:
        return _state_of(self._key.identity) != self._files

    # --- commands ------------------------------------------------------------------------------

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                client, _ = await listener.accept()
                if self._clients < _CLIENTS_MAX:
                    nursery.start_soon(self._serve_one, client)
                else:
                    client.close()

    async def _serve_one(self, client: trio.socket.SocketType) -> None:
        """Hear one command and answer it; hang up where it has to do its work itself."""
        fds: list[int] = []
        self._clients += 1
        try:
            waiting = None
            with contextlib.suppress(OSError, ValueError, NetsyncError):
                with trio.move_on_after(_REQUEST_SECONDS):
                    waiting = await self._hear(client, fds)
            if waiting is not None and not self._is_outdated:
                self._queue.append(waiting)
                self._news.set()
                await self._answer(client, waiting)
            self._news.set()  # the identity may be another
        finally:
            self._clients -= 1
            client.close()
            for fd in fds:
                os.close(fd)

    async def _hear(self, client: trio.socket.SocketType, fds: list[int]) -> Waiting | None:
        """Return what a command wants; ``fds`` gets its files. None for what is not for us."""
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
        if PEER.unpack(credentials)[1] != os.geteuid():
            return None
        data = b""
        while len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
            if len(data) > LENGTH.size + REQUEST_MAX:
                return None
            piece, found = await _received(client)
            fds += found
            if not piece:
                return None
            data += piece
        asked = unpacked(data[LENGTH.size :])
        if asked is None or asked.key.words != self._key.words or len(asked.files) != len(fds):
            return None
        target = parse_address(asked.target)
        if not isinstance(target, Remote):
            return None
        given = tuple(map(mode.Given, map(os.fsencode, asked.files), fds))
        place = target.place
        wish = mode.Wish(given, place.module, place.path, asked.overwrite)
        wish.committed()
        return Waiting(asked, wish, time.monotonic())

    async def _answer(self, client: trio.socket.SocketType, waiting: Waiting) -> None:
        """Show life until the commit is done, then tell the command.

        One that has gone is waited for too: its files are being read.
        """
        stream = trio.SocketStream(client)
        is_there = True
        while not waiting.done.is_set():
            with trio.move_on_after(_ALIVE_SECONDS):
                await waiting.done.wait()
            if is_there and not waiting.done.is_set():
                is_there = await _said(stream, ALIVE)
        assert waiting.result is not None
        asked, seconds = waiting.asked, time.monotonic() - waiting.since
        answer = told(waiting.result, seconds, as_json="j" in asked.shows, quiet="q" in asked.shows)
        if is_there:
            await _said(stream, ANSWER + framed(answer.packed()))

    # --- the server ----------------------------------------------------------------------------

    async def _work(self, idle: float) -> None:
        while await self._something(idle):
            await self._converse(self._taken(), idle)

    async def _something(self, idle: float) -> bool:
        """Wait for a commit; return False if none comes any more."""
        with trio.move_on_after(idle):
            while not self._queue and not self._is_outdated:
                self._news = trio.Event()
                await self._news.wait()
        return bool(self._queue)

    def _taken(self) -> list[Waiting]:
        """Take the first commit from the queue, and those that can be done together with it."""
        first = self._queue[0].wish
        batch: list[Waiting] = []
        files = 0
        for waiting in list(self._queue):
            wish = waiting.wish
            files += len(wish.files)
            if (wish.module, wish.overwrite) != (first.module, first.overwrite):
                break
            if batch and files > COMMIT_FILES_MAX:
                break
            batch.append(waiting)
            self._queue.remove(waiting)
        return batch

    async def _converse(self, batch: list[Waiting], idle: float) -> None:
        """Hold a session from ``batch`` on, until it breaks or nothing comes any more."""
        unclear: IndeterminateError | None = None
        while batch:
            proven = False
            try:
                async with _session(batch[0].asked) as channel:
                    while batch:
                        channel.timeout = batch[0].asked.times[1]
                        await _commit(channel, batch)
                        batch, proven, unclear = [], True, None
                        if await self._something(idle):
                            batch = self._taken()
            except NetsyncError as error:
                if not proven or not is_cut(error):
                    _settle(batch, unclear if unclear is not None and is_cut(error) else error)
                    return
                unclear = error if isinstance(error, IndeterminateError) else None


@contextlib.asynccontextmanager
async def _session(asked: Asked) -> AsyncGenerator[StreamChannel]:
    remote = parse_address(asked.target)
    assert isinstance(remote, Remote)
    connection = Connection(Path(asked.key.identity), *asked.times)
    async with session(remote, connection) as channel:
        yield channel


async def _commit(channel: StreamChannel, batch: list[Waiting]) -> None:
    """Commit what is in ``batch`` together, and settle it."""
    before = channel.wire
    first = batch[0].wish
    files = [file for waiting in batch for file in waiting.wish.committed()]
    answered = await send_files(channel, Commit(first.module, first.overwrite), files)
    sent, received = (now - then for now, then in zip(channel.wire, before, strict=True))
    start = 0
    for waiting in batch:
        end = start + len(waiting.wish.files)
        try:
            part = _part(answered, start, end, {file.path for file in waiting.wish.files})
            result: Report | NetsyncError = mode.report_of(waiting.wish, [part], sent, received)
        except NetsyncError as error:
            result = error
        waiting.settle(result)
        start = end


def _part(answered: Answered, start: int, end: int, paths: set[bytes]) -> Answered:
    """Return what of an answer is about the files from ``start`` to ``end``."""
    given_up = {n - start: problem for n, problem in answered.given_up.items() if start <= n < end}
    problems = [problem for problem in answered.problems if problem.path in paths]
    results, sizes = answered.results[start:end], answered.sizes[start:end]
    return Answered(results, sizes, given_up, problems, answered.notices)


def _settle(batch: list[Waiting], error: NetsyncError) -> None:
    for waiting in batch:
        waiting.settle(error)


async def _said(stream: trio.SocketStream, data: bytes) -> bool:
    """Send ``data`` to a command; return False if it is not there any more."""
    with trio.move_on_after(_ANSWER_SECONDS):
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            return False
        return True
    return False


async def _received(client: trio.socket.SocketType) -> tuple[bytes, list[int]]:
    """Return the next bytes of a request, and the descriptors that came with them."""
    size = struct.calcsize("i")
    data, messages, flags, _ = await client.recvmsg(65536, socket.CMSG_SPACE(FILES_MAX * size))
    fds: list[int] = []
    for level, kind, packed in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            count = len(packed) // size
            fds += struct.unpack(f"{count}i", packed[: count * size])
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise ValueError("too many descriptors")
    return data, fds


def _state_of(identity: str) -> list[tuple[int, ...] | None]:
    """Return what changes when a file of an identity does."""
    found: list[tuple[int, ...] | None] = []
    for name in _IDENTITY_FILES:
        try:
            status = os.stat(os.path.join(identity, name))
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found


@contextlib.contextmanager
def listening(state: Path, name: str) -> Iterator[trio.socket.SocketType]:
    """Listen on a socket that only its owner may use, and that is gone at the end."""
    with listen_in(state, name, _BACKLOG) as own:
        try:
            yield trio.socket.from_stdlib_socket(own)
        finally:
            (state / name).unlink()


def main(arguments: list[str]) -> None:
    """Serve the helper that ``arguments`` name, unless there is one."""
    state, *key = arguments
    wanted = Key(*key)
    with contextlib.suppress(StateError, OSError):
        lock = locks.take(Path(state), f"{wanted.name}.lock")
        if lock is not None:
            with listening(Path(state), wanted.name) as listener:
                trio.run(Resident(wanted).serve, listener)


if __name__ == "__main__":
    main(sys.argv[1:])
