"""Whole transfers in memory, with a hand on the wire.

Every message is encoded and decoded on its way, as on a socket, so that a message over its own
limits is found here too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from netsync.errors import NetsyncError, NetworkError, unwrapped
from netsync.model import Item, Options, Report
from netsync.net.channel import Channel, MemoryChannel, Received, memory_channels
from netsync.plan.compare import Policy, policy_for
from netsync.transfer.guarding import UNGUARDED, Guarding
from netsync.transfer.source import send_tree
from netsync.transfer.target import receive_tree
from netsync.tree.ahead import Ahead
from netsync.tree.capability import capability
from netsync.tree.roots import SourceRoot, TargetRoot
from netsync.wire.codec import LIMITS, Buffer, decode, encode
from netsync.wire.frames import FrameDecoder
from netsync.wire.messages import Message, Start
from netsync.wire.order import State

Sent = tuple[Message, bytes]
Meddle = Callable[[Message, bytes], Sequence[Sent]]
"""Called with each message on its way; returns what goes on instead."""


def without_digests(message: Message, tail: bytes) -> Sequence[Sent]:
    """Let the target offer no digests, as one that has nothing yet: every entry is listed."""
    if isinstance(message, Start):
        message = Start(message.credit, message.name)
    return [(message, tail)]


PATIENCE = 20.0
"""Seconds after which a transfer has hung: a guard, never waited for."""


class Watch:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.lines: list[Item] = []
        self.settled_bytes = 0
        self.furthest = 0
        self.listings: list[tuple[int, int, bool]] = []

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        self.listings.append((files, size, complete))

    def under_way(self, size: int) -> None:
        self.furthest = max(self.furthest, size)

    def settled(self, size: int) -> None:
        self.settled_bytes += size

    def items(self, items: Sequence[Item]) -> None:
        self.lines += items


class Meddled:
    """One end of a memory channel whose sent messages go through the codec and a test's hands."""

    def __init__(self, inner: MemoryChannel, meddle: Meddle | None) -> None:
        self.order = inner.order
        self.compression = 0
        self.pace = inner.pace
        self.sent: list[Message] = []
        self._inner = inner
        self._meddle = meddle

    @property
    def wire(self) -> tuple[int, int]:
        return self._inner.wire

    async def send(self, message: Message, tail: Sequence[Buffer] = ()) -> None:
        (frame,) = FrameDecoder(LIMITS).feed(b"".join(encode(message, tail)))
        decoded = decode(frame)
        self.sent.append(decoded)
        plain: Sent = (decoded, bytes(frame.tail))
        for each, data in self._meddle(*plain) if self._meddle else [plain]:
            await self._inner.send(each, [data])

    async def receive(self) -> Received:
        return await self._inner.receive()


@contextlib.contextmanager
def source_roots(paths: Sequence[Path]) -> Iterator[list[SourceRoot]]:
    """Open the contents of directories as source roots."""
    roots = [SourceRoot(os.open(path, os.O_DIRECTORY | os.O_RDONLY), b"", b"") for path in paths]
    try:
        yield roots
    finally:
        for root in roots:
            os.close(root.fd)


def target_opener(path: Path, *, exists: bool = True) -> Callable[[bool], TargetRoot]:
    """Return what opens the directory ``path`` as the destination.

    If that is not there (``exists``), a dry run takes an empty directory for it.
    """

    def open_root(single_file: bool) -> TargetRoot:
        del single_file
        return TargetRoot(os.open(path, os.O_DIRECTORY | os.O_RDONLY), b"", exists=exists)

    return open_root


def policy(options: Options) -> Policy:
    return policy_for(options, capability(), special=True)


@dataclass
class Transfer:
    """One transfer to be run, and what went over the wire."""

    source: Path
    target: Path
    options: Options = field(default_factory=Options)
    from_source: Meddle | None = None
    from_target: Meddle | None = None
    special: bool = True
    watch: Watch = field(default_factory=Watch)
    sent_by_source: list[Message] = field(default_factory=list)
    sent_by_target: list[Message] = field(default_factory=list)
    guarding: Guarding = UNGUARDED
    exists: bool = True
    ahead: Ahead | None = None

    async def run(self) -> Report:
        """Run both roles; return the report they agree on, or raise what ended the session."""
        near, far = memory_channels(State.CLIENT_ASKS, State.SERVER_ANSWERS)
        ours, theirs = Meddled(near, self.from_source), Meddled(far, self.from_target)
        self.sent_by_source, self.sent_by_target = ours.sent, theirs.sent
        reports: list[Report] = []

        async def send() -> None:
            with source_roots([self.source]) as opened:
                roots = [root._replace(ahead=self.ahead) for root in opened]
                reports.append(await send_tree(ours, roots, self.options, Watch()))

        with trio.fail_after(PATIENCE), unwrapped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                open_root = target_opener(self.target, exists=self.exists)
                allowed = policy_for(self.options, capability(), special=self.special)
                report = await receive_tree(theirs, open_root, allowed, self.watch, self.guarding)
        assert reports == [report]
        return report


async def transfer(
    source: Path,
    target: Path,
    options: Options | None = None,
    *,
    from_source: Meddle | None = None,
    from_target: Meddle | None = None,
) -> Report:
    """Copy the contents of ``source`` into ``target``."""
    given = options or Options()
    return await Transfer(source, target, given, from_source, from_target).run()


class Peer:
    """The other end, played by a test message by message."""

    def __init__(self, channel: MemoryChannel) -> None:
        self._channel = channel

    async def say(self, message: Message, tail: bytes = b"") -> None:
        await self._channel.send(message, [tail])

    async def hear(self, kind: type[Message]) -> Message:
        """Return the next message of this kind; others before it are passed over."""
        while True:
            message = (await self._channel.receive()).message
            if isinstance(message, kind):
                return message


Script = Callable[[Peer], Awaitable[None]]


async def ends_with(
    role: Callable[[Channel], Awaitable[Report]], script: Script, hears: State
) -> NetsyncError | None:
    """Play ``script`` against ``role``; return the error that ended the role, if one did."""
    ours, theirs = memory_channels(State.CLIENT_ASKS, State.SERVER_ANSWERS)
    theirs.order.begin(hears)
    failure: NetsyncError | None = None

    async def play() -> None:
        with contextlib.suppress(NetworkError):
            await script(Peer(theirs))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        with trio.fail_after(5):
            try:
                with unwrapped():
                    await role(ours)
            except NetsyncError as error:
                failure = error
        nursery.cancel_scope.cancel()
    return failure
