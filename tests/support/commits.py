"""Commits in memory, with a hand on the wire; and helpers that a test can find and end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import trio
from blake3 import blake3

from netsync.cli.commit import HELPER
from netsync.errors import unwrapped
from netsync.model import Entry, Kind
from netsync.modes.commit import Wish, opened, over, report_of
from netsync.net.channel import MemoryChannel, Received, memory_channels
from netsync.net.resident import PEER, Key
from netsync.transfer.commit_source import Answered
from netsync.transfer.commit_target import take_files
from netsync.tree.roots import Anchor
from netsync.wire.committing import Commit, CommitData, CommitEnd, CommitFile, CommitResults
from netsync.wire.messages import Message
from netsync.wire.order import State
from tests.support.transfers import PATIENCE, Sent
from tests.support.trees import opened as directory

Touch = Callable[[Message], None]
"""Called with each message of the source before it is taken."""


def entry(name: bytes, size: int, **more: int) -> Entry:
    """Return a plain file's entry."""
    return Entry(name, Kind.FILE, more.get("mode", 0o640), 0, 0, size, more.get("mtime_ns", 5))


def said(name: bytes, data: bytes, path: bytes = b"", *, single: bool = False) -> list[Sent]:
    """Return what an honest source says of one file."""
    return [
        (CommitFile(path, entry(name, len(data)), single), b""),
        (CommitData(digest=blake3(data).digest()), data),
    ]


class _Touched(MemoryChannel):
    """A channel whose messages a test sees as they arrive."""

    def __init__(self, own: MemoryChannel, touch: Touch) -> None:
        self.__dict__.update(own.__dict__)
        self._touch = touch

    async def receive(self) -> Received:
        received = await super().receive()
        self._touch(received.message)
        return received


async def commit(
    root: Path,
    files: Sequence[Path],
    path: bytes = b"",
    *,
    overwrite: bool = False,
    touch: Touch = lambda _: None,
) -> list[Answered]:
    """Commit ``files`` to ``path`` below ``root``; return what became of them."""
    ours, theirs = memory_channels(State.SERVER_ANSWERS, State.CLIENT_ASKS)
    touched = _Touched(theirs, touch)
    answers: list[Answered] = []
    with opened([bytes(file) for file in files]) as (given, missing), directory(root) as fd:
        wish = Wish(given, "m", path, overwrite, missing)

        async def serve() -> None:
            while True:
                request = (await touched.receive()).message
                assert isinstance(request, Commit)
                await take_files(touched, request, Anchor(fd, "m"), special=True)

        with trio.fail_after(PATIENCE), unwrapped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                answers = await over(ours, wish)
                nursery.cancel_scope.cancel()
        report_of(wish, answers)
    return answers


async def told(
    root: Path, messages: Sequence[Sent], *, overwrite: bool = False, ends: bool = True
) -> CommitResults:
    """Be a source that says just this; return the answer, or raise what ends the session."""
    ours, theirs = memory_channels(State.SERVER_ANSWERS, State.CLIENT_COMMITS)
    answer: CommitResults | None = None

    async def speak() -> None:
        for message, tail in messages:
            await ours.send(message, [tail] if tail else ())
        if ends:
            await ours.send(CommitEnd())

    with directory(root) as fd, trio.fail_after(PATIENCE), unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            request = Commit("m", overwrite)
            answer = await take_files(theirs, request, Anchor(fd, "m"), special=True)
            assert (await ours.receive()).message == answer
    assert answer is not None
    return answer


def helpers(state: Path) -> list[tuple[str, int]]:
    """Return the sockets in ``state`` and the processes that listen on them."""
    found = []
    for path in sorted(state.glob("commit-*")):
        if path.suffix == ".lock":
            continue
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with sock, contextlib.suppress(OSError):
            sock.connect(f"{path}")
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
            found.append((path.name, PEER.unpack(credentials)[0]))
    return found


def _serving(state: Path) -> list[int]:
    """Return the helpers of ``state`` that live, or are about to."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if HELPER.encode() in words and bytes(state) in words:
                found.append(int(place.name))
    return found


@contextlib.contextmanager
def helping(state: Path) -> Iterator[Path]:
    """Let commits start helpers in ``state``; end them with the block."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield state
    finally:
        while processes := _serving(state):  # one that dies may make way for one that starts
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def key(identity: Path, server: str) -> Key:
    """Return the key of a helper."""
    return Key(os.path.realpath(identity), server)
