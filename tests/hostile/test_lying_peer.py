"""A peer that lies, against each role: a ProtocolError, and nothing touched that should not be.

The peer is the test itself, speaking the message classes over a memory channel. After every lie
the world outside the root is as it was, no temporary is left and no descriptor is open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
from xxhash import xxh3_128_digest

from netsync.errors import ProtocolError
from netsync.model import Entry, Kind, Name, Options, Problem, Report, Rule
from netsync.net.channel import Channel
from netsync.transfer.credit import CREDIT
from netsync.transfer.source import send_tree
from netsync.transfer.target import receive_tree
from netsync.wire import messages as m
from netsync.wire.fine import FineSignature, WantFine
from netsync.wire.messages import Message
from netsync.wire.order import State
from tests.support.transfers import (
    Peer,
    Script,
    Sent,
    Watch,
    ends_with,
    policy,
    source_roots,
    target_opener,
)
from tests.support.trees import Value, make_tree, open_descriptors, read_tree, temporaries

KEPT = b"old content " * 3000
OUTSIDE: dict[str, Value] = {"secret": b"secret", "sub": {"x": b"x"}}


def file(name: bytes, size: int = 3, mtime_ns: int = 5) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 0, 0, size, mtime_ns)


def directory(name: bytes) -> Entry:
    return Entry(name, Kind.DIRECTORY, 0o755, 0, 0, 0, 5)


def link(name: bytes, text: bytes) -> Entry:
    return Entry(name, Kind.SYMLINK, 0o777, 0, 0, 0, 5, text)


def listing(*entries: Entry, directory: int = 0, final: bool = True) -> m.List:
    return m.List([m.Listing(directory, list(entries), final)])


def head(number: int, data: bytes) -> m.FileHead:
    return m.FileHead(number, len(data), 5, xxh3_128_digest(data))


@pytest.fixture(autouse=True)
async def _no_descriptor_is_left_open() -> AsyncIterator[None]:
    await trio.to_thread.run_sync(int)
    before = open_descriptors()
    yield
    assert open_descriptors() == before


# --- a lying source -----------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tree(tmp_path / "outside", OUTSIDE)
    return make_tree(tmp_path / "root", {"basis": KEPT, "kept": b"kept", "out": "../outside"})


async def lie_to_target(root: Path, script: Script, options: Options | None = None) -> None:
    """Play ``script`` as the source and check all that must hold afterwards."""
    asked = options or Options(delete=True)

    async def role(channel: Channel) -> Report:
        return await receive_tree(channel, target_opener(root), policy(asked), Watch())

    error = await ends_with(role, script, State.TARGET_STARTS)
    assert isinstance(error, ProtocolError), f"ended with {error!r}"
    assert error.exit_code == 12
    assert read_tree(root.parent / "outside") == OUTSIDE
    assert temporaries(root.parent) == []
    there = read_tree(root)
    assert (there["basis"], there["kept"], there["out"]) == (KEPT, b"kept", "../outside")
    assert sorted(path.name for path in root.parent.iterdir()) == ["outside", "root"]


async def begin(peer: Peer) -> None:
    await peer.say(m.Offer(False))
    await peer.hear(m.Start)


IN_LISTINGS: dict[str, Sequence[Message]] = {
    **{
        f"the name {name!r}": [listing(file(name))]
        for name in (b"", b".", b"..", b"a/b", b"/etc", b"../outside/x", b"nul\0", b"/", b"x" * 256,
                     b".netsync", b".netsync-tmp-0011", b".netsyncignore2")
    },
    **{
        f"the directory {name!r}": [listing(directory(name))]
        for name in (b"..", b"a/b", b".netsync")
    },
    "a link with a bad name": [listing(link(b"..", b"x"))],
    "names not sorted": [listing(file(b"b"), file(b"a"))],
    "a name twice": [listing(file(b"a"), file(b"a"))],
    "a name as file and as directory": [listing(file(b"a"), directory(b"a"))],
    "names not sorted across messages": [listing(file(b"b"), final=False), listing(file(b"a"))],
    "a name twice across messages": [listing(file(b"a"), final=False), listing(file(b"a"))],
    "a link without text": [listing(link(b"l", b""))],
    "a link text with a NUL": [listing(link(b"l", b"a\0b"))],
    "a directory never opened": [listing(file(b"a"), directory=7)],
    "a file as a directory": [listing(file(b"a"), final=True), listing(directory=1)],
    "a link as a directory": [listing(link(b"out", b"../outside")), listing(directory=1)],
    "a directory listed after its end": [listing(file(b"a")), listing(file(b"b"))],
    "a directory ended twice": [
        listing(directory(b"d")), listing(directory=1), listing(directory=1),
    ],
    "an end with the root open": [m.ListEnd(True)],
    "an end with a directory open": [listing(directory(b"d")), m.ListEnd(True)],
    "more entries than allowed": [
        *(
            listing(*(file(b"%07d" % (n * 4096 + i)) for i in range(4096)), final=False)
            for n in range(CREDIT // 4096)
        ),
        listing(*(file(b"z%07d" % i) for i in range(4096)), final=False),
    ],
    "more empty listings than allowed": [m.List([m.Listing(0, [], False)] * (CREDIT + 1))],
    "a pattern that cannot be used": [
        m.List([m.Listing(0, [], False, False, [], [Rule(True, b"[z-a]", 1)])]),
    ],
    "more patterns of directories than are remembered": [
        listing(*(directory(b"%03d" % n) for n in range(400))),
        *(
            m.List([m.Listing(n + 1, [], False, False, [], [Rule(True, b"x" * 4096)] * 40)])
            for n in range(400)
        ),
    ],
    "no listing, then the end of all": [m.ListEnd(True), m.End()],
    "the offer twice": [m.Offer(False)],
    "a listing after the end": [listing(), m.ListEnd(True), listing()],
    "the end before the listing's": [m.End()],
    "what a target says": [m.Start(1)],
    "what a client says": [m.Bye()],
    "what a server says": [m.Opened()],
}  # fmt: skip


@pytest.mark.parametrize("lie", IN_LISTINGS.values(), ids=IN_LISTINGS)
async def test_a_lie_in_the_listing_ends_the_session(root: Path, lie: Sequence[Message]) -> None:
    async def script(peer: Peer) -> None:
        await begin(peer)
        for message in lie:
            await peer.say(message)

    await lie_to_target(root, script)


async def test_data_before_the_offer_ends_the_session(root: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(m.Files([head(1, b"x")]), b"x")

    await lie_to_target(root, script)


DELTA, NEW, LARGE, FOLDER = 1, 4, 3, 2
DATA = b"literal!"
NOBODY_ASKED = Problem(b"x", "read", "made up")

IN_DATA: dict[str, Sequence[Sent]] = {
    "a file never listed": [(m.Files([head(99, b"x")]), b"x")],
    "the root": [(m.Files([head(0, b"x")]), b"x")],
    "a directory": [(m.Files([head(FOLDER, b"x")]), b"x")],
    "a piece of a directory": [(m.Piece(FOLDER, [-1, 1]), b"x")],
    "a file twice in a frame": [(m.Files([head(NEW, b"x"), head(NEW, b"x")]), b"xx")],
    "a file twice": [(m.Files([head(NEW, b"x")]), b"x"), (m.Files([head(NEW, b"x")]), b"x")],
    "a file longer than its frame": [(m.Files([m.FileHead(NEW, 9, 5, bytes(16))]), b"short")],
    "a file of 2**63 bytes": [(m.Files([m.FileHead(NEW, 2**63 - 1, 5, bytes(16))]), b"short")],
    "bytes of no file": [(m.Files([head(NEW, b"x")]), b"x and more")],
    "pieces of two files": [(m.Piece(LARGE, [-1, 8]), DATA), (m.Piece(NEW, [-1, 8]), DATA)],
    "the end of another file": [
        (m.Piece(LARGE, [-1, 8]), DATA),
        (m.FileEnd(NEW, 8, 5, xxh3_128_digest(DATA)), b""),
    ],
    "a file whole and in pieces": [
        (m.Piece(LARGE, [-1, 8]), DATA),
        (m.Files([head(LARGE, b"x")]), b"x"),
    ],
    "a piece of a file that is there": [
        (m.Files([head(NEW, b"x")]), b"x"),
        (m.Piece(NEW, [-1, 8]), DATA),
    ],
    "the end of a file that is there": [
        (m.Files([head(NEW, b"x")]), b"x"),
        (m.FileEnd(NEW, 0, 5, bytes(16)), b""),
    ],
    "the end of a file never wanted": [(m.FileEnd(99, 0, 5, bytes(16)), b"")],
    "half an operation": [(m.Piece(LARGE, [-1]), DATA)],
    "a literal longer than the tail": [(m.Piece(LARGE, [-1, 9]), DATA)],
    "a literal shorter than the tail": [(m.Piece(LARGE, [-1, 7]), DATA)],
    "a tail of no literal": [(m.Piece(LARGE, []), DATA)],
    "a literal of nothing": [(m.Piece(LARGE, [-1, 0]), b"")],
    "a literal of less than nothing": [(m.Piece(LARGE, [-1, -8, -1, 16]), DATA)],
    "a copy without a basis": [(m.Piece(LARGE, [0, 1]), b"")],
    "a copy beyond the basis": [(m.Piece(DELTA, [len(KEPT) - 1, 2]), b"")],
    "a copy from beyond the basis": [(m.Piece(DELTA, [len(KEPT), 1]), b"")],
    "a copy from before the basis": [(m.Piece(DELTA, [-3, 1]), b"")],
    "a hole of nothing": [(m.Piece(DELTA, [-2, 0]), b"")],
    "a hole with a tail": [(m.Piece(LARGE, [-2, 8]), DATA)],
    "a hole past the end of all files": [(m.Piece(LARGE, [-2, 2**63 - 1, -2, 1]), b"")],
    "a copy so long that it wraps round": [(m.Piece(DELTA, [1, 2**63 - 1]), b"")],
    "a copy of nothing": [(m.Piece(DELTA, [0, 0]), b"")],
    "a file given up that was never wanted": [(m.Unsent([99], [NOBODY_ASKED]), b"")],
    "a directory given up": [(m.Unsent([FOLDER], [NOBODY_ASKED]), b"")],
    "a file given up twice": [(m.Unsent([NEW, NEW], [NOBODY_ASKED, NOBODY_ASKED]), b"")],
    "a file given up that has arrived": [
        (m.Files([head(NEW, b"x")]), b"x"),
        (m.Unsent([NEW], [NOBODY_ASKED]), b""),
    ],
    "more given up than reasons": [(m.Unsent([NEW, LARGE], [NOBODY_ASKED]), b"")],
    "fine blocks of a file never wanted": [(WantFine(99, [0, 1]), b"")],
    "fine blocks where there is one level": [(WantFine(DELTA, [0, 1]), b"")],
    "the end before all was sent": [(m.ListEnd(True), b""), (m.End(), b"")],
    "what a target says": [(m.Wants([1], [], 0), b"")],
}


@pytest.mark.parametrize("lie", IN_DATA.values(), ids=IN_DATA)
async def test_a_lie_in_the_data_ends_the_session(root: Path, lie: Sequence[Sent]) -> None:
    async def script(peer: Peer) -> None:
        await begin(peer)
        await peer.say(
            listing(
                file(b"basis", len(KEPT), 99),
                directory(b"folder"),
                file(b"large", 1 << 20),
                file(b"new"),
                final=False,
            )
        )
        await peer.hear(m.Signature)
        for message, tail in lie:
            await peer.say(message, tail)

    await lie_to_target(root, script)


async def test_a_source_cannot_fill_memory_with_messages_that_cost_no_credit(root: Path) -> None:
    """Listings of nothing are free, so their number must be bounded some other way."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        for first in range(0, CREDIT, 2048):
            names = (file(b"%07d" % n) for n in range(first, first + 2048))
            await peer.say(listing(*names, final=False))
        for _ in range(20_000):
            await peer.say(m.List([], [Name(1, b"x")]))

    await lie_to_target(root, script)


async def test_a_link_made_by_the_peer_leads_nowhere_out_of_the_root(root: Path) -> None:
    """A source that lists a link and then writes below its name gets an error, not the outside."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        await peer.say(listing(link(b"way", b"../outside"), final=False))
        await peer.say(listing(directory(b"way2"), final=True))
        await peer.say(listing(file(b"secret"), directory=1))

    await lie_to_target(root, script)


# --- a lying target -----------------------------------------------------------------------------

SOURCE: dict[str, Value] = {
    "a": b"small", "dir": {"inner": b"inner"}, "large": bytes(1 << 20), "link": "../outside/secret",
}  # fmt: skip
A, DIR, BIG, LINK = 1, 2, 3, 4


async def lie_to_source(tmp_path: Path, script: Script) -> None:
    """Play ``script`` as the target and check all that must hold afterwards."""
    make_tree(tmp_path / "outside", OUTSIDE)
    source = make_tree(tmp_path / "source", SOURCE)

    async def role(channel: Channel) -> Report:
        with source_roots([source]) as roots:
            return await send_tree(channel, roots, Options(), Watch())

    error = await ends_with(role, script, State.SOURCE_OFFERS)
    assert isinstance(error, ProtocolError), f"ended with {error!r}"
    assert error.exit_code == 12
    assert read_tree(tmp_path) == {"outside": OUTSIDE, "source": SOURCE}


def after_listing(*lies: Sent) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.hear(m.Offer)
        await peer.say(m.Start(16384))
        await peer.hear(m.ListEnd)
        for message, tail in lies:
            await peer.say(message, tail)

    return script


def want(*numbers: int, decided: int = 0) -> Sent:
    return m.Wants(list(numbers), [], decided), b""


def want_delta(number: int, basis: int = 24_576, block: int = 4096) -> Sent:
    return m.WantDelta(number, basis, block, 7), b""


def want_two_levels(number: int, block: int = 8192, fine: int = 4096) -> Sent:
    return m.WantDelta(number, 24_576, block, 7, False, fine), b""


DELTAS = (m.Wants([], [BIG], 0), b"")
BY_TARGET: dict[str, Sequence[Sent]] = {
    "a number never offered": [want(99)],
    "the root": [want(0)],
    "the largest number": [want(2**63 - 1)],
    "a directory": [want(DIR)],
    "a link": [want(LINK)],
    "a directory as a delta": [(m.Wants([], [DIR], 0), b"")],
    "a file too often": [want(A)] * 4,
    "a file too often at once": [want(A, A, A, A)],
    "a file too often as a delta": [DELTAS] * 4,
    "a file it has decided about": [want(decided=99), want(A)],
    "a delta of a file not wanted": [want_delta(BIG)],
    "a delta of a directory": [want_delta(DIR)],
    "two signatures at once": [DELTAS, want_delta(BIG), want_delta(BIG)],
    "a signature for nothing": [(m.Signature(BIG), bytes(12))],
    "a signature before its delta": [DELTAS, (m.Signature(BIG), bytes(12))],
    "a signature too long": [DELTAS, want_delta(BIG), (m.Signature(BIG), bytes(6 * 12 + 1))],
    "a signature after its end": [
        DELTAS, want_delta(BIG), (m.Signature(BIG), bytes(6 * 12)), (m.Signature(BIG), bytes(12)),
    ],
    "a signature of another file": [DELTAS, want_delta(BIG), (m.Signature(A), bytes(12))],
    **{
        f"a block of {block} bytes": [DELTAS, want_delta(BIG, block=block),
                                      (m.Signature(BIG), bytes(1 << 20))]
        for block in (0, 1, 511, 1000, 4097, 2**27 + 1, 2**32 - 1)
    },
    "a block far too large for its basis": [
        DELTAS, want_delta(BIG, 1, 2**27), (m.Signature(BIG), bytes(12))
    ],
    "a basis of 2**62 bytes": [
        DELTAS, want_delta(BIG, 2**62, 2**27), *[(m.Signature(BIG), bytes(1 << 20))] * 170
    ],
    "one file's delta again and again": [DELTAS, *[want_delta(BIG, basis=0)] * 200],
    "fine entries for nothing": [(FineSignature(BIG), bytes(12))],
    "fine entries that were not asked for": [
        DELTAS, want_two_levels(BIG), (FineSignature(BIG), bytes(12))
    ],
    "a coarse signature too long": [
        DELTAS, want_two_levels(BIG), (m.Signature(BIG), bytes(6 * 12))
    ],
    "half a coarse entry": [DELTAS, want_two_levels(BIG), (m.Signature(BIG), bytes(6))],
    "two coarse signatures at once": [DELTAS, want_two_levels(BIG), want_two_levels(BIG)],
    "a file whole while its signature is awaited": [DELTAS, want_two_levels(BIG), want(BIG)],
    **{
        f"levels of {block} and {fine} bytes": [DELTAS, want_two_levels(BIG, block, fine)]
        for block, fine in ((8192, 8192), (8192, 256), (8192, 3000), (0, 512), (2**27, 4096))
    },
    "settled what was never wanted": [(m.Applied([A]), b"")],
    "settled twice": [want(A), (m.Applied([A, A]), b"")],
    "the start twice": [(m.Start(1), b"")],
    "committed before the end of wants": [(m.Committed(Report()), b"")],
    "wants after their end": [(m.WantsEnd(), b""), want(A)],
    "credit after the end of wants": [(m.WantsEnd(), b""), (m.Credit(1), b"")],
    "what a source says": [(m.ListEnd(True), b"")],
    "what a client says": [(m.Hello(1, "x", []), b"")],
}  # fmt: skip


@pytest.mark.parametrize("lies", BY_TARGET.values(), ids=BY_TARGET)
async def test_a_lie_of_the_target_ends_the_session(tmp_path: Path, lies: Sequence[Sent]) -> None:
    await lie_to_source(tmp_path, after_listing(*lies))


async def test_wants_before_the_start_end_the_session(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(m.Wants([1], [], 0))

    await lie_to_source(tmp_path, script)


async def test_a_target_that_is_done_before_all_is_listed_ends_the_session(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear(m.Offer)
        await peer.say(m.Start(0))
        await peer.say(m.WantsEnd())
        await peer.say(m.Committed(Report()))

    await lie_to_source(tmp_path, script)


async def test_a_target_that_commits_before_the_source_has_ended_ends_the_session(
    tmp_path: Path,
) -> None:
    script = after_listing(want(BIG), (m.WantsEnd(), b""), (m.Committed(Report()), b""))
    await lie_to_source(tmp_path, script)
