"""Lies about digests, by either side: a ProtocolError, nothing touched, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from netsync.errors import NetsyncError, ProtocolError
from netsync.model import Entry, Kind, Options, Report
from netsync.net.channel import Channel
from netsync.transfer.source import send_tree
from netsync.transfer.target import receive_tree
from netsync.transfer.unfolding import ASKED_ENTRIES
from netsync.wire import messages as m
from netsync.wire.listing import DIGEST_BYTES, DIGESTED_MAX
from netsync.wire.messages import Message
from netsync.wire.order import State
from tests.support.confined import needs_root
from tests.support.transfers import (
    Peer,
    Script,
    Watch,
    ends_with,
    policy,
    source_roots,
    target_opener,
)
from tests.support.trees import Value, make_tree, read_tree

THERE: dict[str, Value] = {"kept": b"kept", "dir": {"deep": {"f": b"f"}}}
WRONG = bytes(DIGEST_BYTES)
TERMS = m.Terms(7, 0o7777, 254, True, True, False, False)


def file(name: bytes, *, link: int = 0, xattrs: int = 0) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 0, 0, 3, 5, link=link, xattrs=xattrs)


def directory(name: bytes) -> Entry:
    return Entry(name, Kind.DIRECTORY, 0o755, 0, 0, 0, 5)


def digest(
    number: int = 0,
    count: int = 2,
    told: bytes = WRONG,
    *,
    listed: bool = False,
    final: bool = True,
    partial: bool = False,
) -> m.Listing:
    entries = [file(b"x")] if listed else []
    return m.Listing(number, entries, final, partial, digest=told, count=count)


def relisted(*entries: Entry, number: int = 0, final: bool = True) -> m.Relisted:
    return m.Relisted([m.Listing(number, list(entries), final)])


TOLD = m.List([digest()])
A, B, D = file(b"a"), file(b"b"), directory(b"d")

AT_ONCE: dict[str, Sequence[Message]] = {
    "a short digest": [m.List([digest(told=WRONG[1:])])],
    "a digest of nothing": [m.List([digest(count=0)])],
    "a count without a digest": [m.List([digest(told=b"")])],
    "a digest and entries": [m.List([digest(listed=True)])],
    "a digest that is not the last": [m.List([digest(final=False)])],
    "a digest of a part": [m.List([digest(partial=True)])],
    "a digest twice": [m.List([digest(), digest()])],
    "a digest, then entries": [TOLD, m.List([m.Listing(0, [A], True)])],
    "a digest of a directory that is none": [m.List([digest(7)])],
    "a child past the count": [TOLD, m.List([digest(3)])],
    "a child told twice": [TOLD, m.List([digest(2), digest(2)])],
    "a child told and listed": [TOLD, m.List([digest(2), m.Listing(2, [A], True)])],
    "a child listed past its end": [TOLD, m.List([m.Listing(2, [], True), m.Listing(2, [], True)])],
    "a child listed, then told": [TOLD, m.List([m.Listing(2, [A], False), digest(2)])],
    "more digests than the credit": [m.List([digest()]), *[
        m.List([digest(number) for number in range(2 + n * 4096, 2 + (n + 1) * 4096)])
        for n in range(5)
    ]],
    "the end before what was asked for": [TOLD, m.ListEnd(True), m.End()],
    "entries that were not asked for": [relisted(A, B)],
    "a listing for what was asked for, after the end": [
        TOLD, m.ListEnd(True), m.List([m.Listing(0, [A, B], True)])
    ],
}  # fmt: skip
WHEN_ASKED: dict[str, Sequence[Message]] = {
    "too few": [relisted(A)],
    "too many": [relisted(A, B, D)],
    "too many in parts": [relisted(A, final=False), relisted(B, D)],
    "parts without entries": [relisted(final=False)],
    "another directory": [relisted(A, B, number=1)],
    "twice": [relisted(A, B), relisted(A, B)],
    "a digest once more": [m.Relisted([digest()])],
    "a digest of it once more": [m.List([digest()])],
    "names out of order": [relisted(B, A)],
    "a bad name": [relisted(A, file(b"b/c"))],
    "attributes that were not told": [relisted(A, file(b"b", xattrs=1))],
    "a link group that was not told": [relisted(A, file(b"b", link=1))],
    "a waiting directory that is a file": [m.List([digest(1)]), relisted(A, D), m.ListEnd(True)],
    "much text": [relisted(A, Entry(b"l", Kind.SYMLINK, 0o777, 0, 0, 0, 5, b"x" * 4096))] * 2,
    "the end with its directories open": [relisted(A, D), m.ListEnd(True)],
}
"""What an asked-for directory of two entries may not be answered with."""


async def lie_to_target(tmp_path: Path, script: Script) -> NetsyncError | None:
    root = make_tree(tmp_path / "root", THERE)

    async def role(channel: Channel) -> Report:
        allowed = policy(Options(delete=True, whole_file=True))
        return await receive_tree(channel, target_opener(root), allowed, Watch())

    error = await ends_with(role, script, State.TARGET_STARTS)
    assert read_tree(root)["kept"] == b"kept"
    return error


@needs_root
@pytest.mark.parametrize("lie", AT_ONCE.values(), ids=AT_ONCE)
async def test_a_lie_about_a_digest_ends_the_session(
    tmp_path: Path, lie: Sequence[Message]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(m.Offer(False))
        start = await peer.hear(m.Start)
        assert isinstance(start, m.Start)
        assert start.digests is not None
        for message in lie:
            await peer.say(message)

    assert isinstance(await lie_to_target(tmp_path, script), ProtocolError)


@needs_root
@pytest.mark.parametrize("lie", WHEN_ASKED.values(), ids=WHEN_ASKED)
async def test_a_lie_in_what_was_asked_for_ends_the_session(
    tmp_path: Path, lie: Sequence[Message]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(m.Offer(False))
        await peer.say(TOLD)
        asked = await peer.hear(m.Relist)
        assert asked == m.Relist([0])
        for message in lie:
            await peer.say(message)

    assert isinstance(await lie_to_target(tmp_path, script), ProtocolError)


async def test_a_digest_that_was_not_offered_ends_the_session(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "empty", {})

    async def role(channel: Channel) -> Report:
        return await receive_tree(channel, target_opener(root), policy(Options()), Watch())

    async def script(peer: Peer) -> None:
        await peer.say(m.Offer(False))
        start = await peer.hear(m.Start)
        assert start == m.Start(16384)
        await peer.say(TOLD)

    assert isinstance(await ends_with(role, script, State.TARGET_STARTS), ProtocolError)


@needs_root
async def test_no_more_is_asked_for_than_the_bound_and_one_directory(tmp_path: Path) -> None:
    """A source that answers nothing is asked for a bounded number of entries."""
    asked: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.say(m.Offer(False))
        many = [directory(b"%04d" % number) for number in range(64)]
        await peer.say(m.List([m.Listing(0, many, True)]))
        await peer.say(m.List([digest(1 + n, count=DIGESTED_MAX) for n in range(64)]))
        await peer.say(m.ListEnd(True))
        relist = await peer.hear(m.Relist)
        assert isinstance(relist, m.Relist)
        asked.extend(relist.directories)
        await peer.say(m.End())

    assert isinstance(await lie_to_target(tmp_path, script), ProtocolError)
    assert len(asked) * DIGESTED_MAX < ASKED_ENTRIES + DIGESTED_MAX


RELISTS: dict[str, Sequence[Message]] = {
    "a directory never told": [m.Relist([99])],
    "the largest number": [m.Relist([2**63 - 1])],
    "a directory that was listed": [m.Relist([2])],
    "a directory twice": [m.Relist([0]), m.Relist([0])],
    "a directory twice at once": [m.Relist([0, 0])],
    "a decided directory": [m.Wants([], [], 3), m.Relist([0])],
    "a file in a directory that was only told": [m.Wants([1], [], 0)],
    "anything after the end of wants": [m.WantsEnd(), m.Relist([0])],
}


@pytest.mark.parametrize("lie", RELISTS.values(), ids=RELISTS)
async def test_asking_for_what_was_not_told_ends_the_session(
    tmp_path: Path, lie: Sequence[Message]
) -> None:
    root = make_tree(tmp_path / "source", {"a": b"", "b": {}})

    async def role(channel: Channel) -> Report:
        with source_roots([root]) as roots:
            return await send_tree(channel, roots, Options(), Watch())

    async def script(peer: Peer) -> None:
        await peer.hear(m.Offer)
        await peer.say(m.Start(16384, digests=TERMS))
        await peer.hear(m.ListEnd)
        for message in lie:
            await peer.say(message)

    assert isinstance(await ends_with(role, script, State.SOURCE_OFFERS), ProtocolError)
