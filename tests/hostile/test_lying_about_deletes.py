"""A source that lies about what it has: no deletion outside its scope, nor before the guards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import trio
from xxhash import xxh3_128_digest

from netsync.errors import ProtocolError, unwrapped
from netsync.model import ORIGINS_MAX, DeleteLimit, Entry, Kind, Options, Origin, Report
from netsync.net.channel import Channel, memory_channels
from netsync.state.sources import RememberedSources
from netsync.transfer.guarding import UNGUARDED, Guarding
from netsync.transfer.target import receive_tree
from netsync.wire import messages as m
from netsync.wire.codec import LIMITS, decode, encode
from netsync.wire.frames import FrameDecoder
from netsync.wire.order import State
from tests.support.transfers import Peer, Script, Watch, ends_with, policy, target_opener
from tests.support.trees import Value, make_tree, read_tree

THERE: dict[str, Value] = {
    "a": b"1", "b": b"2", "d": {"x": b"3", "y": {"z": b"4"}}, "full": {"in": b"5"},
}  # fmt: skip
"""Eight entries."""
DELETE = Options(delete=True, size_only=True, fsync=False)
BEFORE = Options(delete=True, delete_before=True, size_only=True, fsync=False)
"""By size only, so that nothing is wanted of a source that has no data."""
HALF = DeleteLimit(50, percent=True)


def file(name: bytes, size: int = 1) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 0, 0, size, 5)


def directory(name: bytes) -> Entry:
    return Entry(name, Kind.DIRECTORY, 0o755, 0, 0, 0, 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tree(tmp_path / "outside", {"precious": b"1"})
    root = make_tree(tmp_path / "root", THERE)
    (root / "way-out").symlink_to(tmp_path / "outside")
    return root


async def play(
    root: Path,
    listings: Sequence[m.Listing],
    options: Options,
    guarding: Guarding = UNGUARDED,
    offer: m.Offer | None = None,
) -> Report:
    """Be a source that lists this and sends no data; return what was committed."""
    ours, theirs = memory_channels(State.CLIENT_ASKS, State.SERVER_ANSWERS)
    ours.order.begin(State.TARGET_STARTS)
    reports: list[Report] = []

    async def receive() -> None:
        opener = target_opener(root)
        reports.append(await receive_tree(theirs, opener, policy(options), Watch(), guarding))

    with trio.fail_after(10), unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            peer = Peer(ours)
            await peer.say(offer or m.Offer(False))
            await peer.hear(m.Start)
            for listing in listings:
                await peer.say(m.List([listing]))
            await peer.say(m.ListEnd(True))
            await peer.hear(m.WantsEnd)
            await peer.say(m.End())
            await peer.hear(m.Committed)
    assert read_tree(root.parent / "outside") == {"precious": b"1"}
    return reports[0]


def there(root: Path) -> dict[str, Value]:
    table = read_tree(root)
    assert str(table.pop("way-out")).endswith("outside")
    return table


@pytest.mark.parametrize("options", [DELETE, BEFORE])
async def test_names_the_target_never_had_do_not_widen_the_scope(
    root: Path, options: Options
) -> None:
    """A percentage is of what is there: a thousand new names do not make eight of nine few."""
    new = [directory(b"new%04d" % number) for number in range(1000)]
    listings = [
        m.Listing(0, [file(b"a"), *new], True),
        *(m.Listing(number, [], True) for number in range(2, 1002)),
    ]
    report = await play(root, listings, options, Guarding(HALF))
    assert "the module's max_delete 50%" in report.held
    assert report.files.deleted == 0
    table = there(root)
    assert {name: table[name] for name in THERE} == THERE


async def test_the_clients_limit_does_not_lift_the_modules(root: Path) -> None:
    options = msgspec.structs.replace(
        DELETE, max_delete=DeleteLimit(2**62), allow_empty_source=True, accept_new_source=True
    )
    report = await play(root, [m.Listing(0, [], True)], options, Guarding(DeleteLimit(8)))
    assert "the module's max_delete 8" in report.held
    assert there(root) == THERE


@pytest.mark.parametrize("options", [DELETE, BEFORE])
async def test_full_directories_are_not_replaced_around_the_limit(
    root: Path, options: Options
) -> None:
    """Listing a link where a tree is counts that tree; the link is not made."""
    links = [Entry(name, Kind.SYMLINK, 0o777, 0, 0, 0, 5, b"/etc") for name in (b"d", b"full")]
    listings = [m.Listing(0, links, True, True)]
    report = await play(root, listings, options, Guarding(DeleteLimit(5)))
    assert report.held
    assert there(root) == THERE


async def test_a_partial_directory_loses_nothing_whatever_its_parts_say(root: Path) -> None:
    """``partial`` counts where the directory ends."""
    listings = [m.Listing(0, [file(b"a")], False, False), m.Listing(0, [], True, True)]
    report = await play(root, listings, DELETE)
    assert report.files.deleted == 0


async def test_the_backup_directory_cannot_be_listed_into(root: Path) -> None:
    """What is listed there is left alone, and what is below it too."""
    make_tree(root, {"old": {"kept": b"kept"}})
    options = msgspec.structs.replace(DELETE, backup_dir=b"old", delete_excluded=True)
    listings = [m.Listing(0, [directory(b"old")], True), m.Listing(1, [file(b"kept")], True)]
    await play(root, listings, options)
    assert read_tree(root / "old")["kept"] == b"kept"
    await play(root, [m.Listing(0, [file(b"old")], True)], options)
    assert read_tree(root / "old")["kept"] == b"kept"
    assert "a" in read_tree(root / "old"), "all else went there"


async def test_an_origin_is_only_compared(root: Path, tmp_path: Path) -> None:
    """Whatever it holds, it leads to no path and no other place's memory."""
    memory = RememberedSources(tmp_path / "state", b"/srv", "c")
    for name in (b"../../etc", b"", b"a'; DROP TABLE source; --", b"\xff\0"):
        origin = Origin(name, 2**63 - 1, 0, b"\xff" * 16)
        offer = m.Offer(False, origins=[origin, origin])
        listings = [m.Listing(0, [file(b"a")], True, True)]
        options = msgspec.structs.replace(DELETE, existing=True, ignore_existing=True)
        report = await play(root, listings, options, Guarding(memory=memory), offer)
        assert report.held == ""
    assert len(memory.known()) == 4
    assert there(root) == THERE


async def test_a_mount_is_only_compared(root: Path, tmp_path: Path) -> None:
    """One that is not mounted any more is looked for here, and nowhere else."""
    memory = RememberedSources(tmp_path / "state", b"/srv", "c")
    listings = [m.Listing(0, [file(b"a")], True, True)]
    options = msgspec.structs.replace(DELETE, existing=True, ignore_existing=True)
    source = Origin(b"", 1, 1)
    for names in ([b"d/", b"../outside/", b"d/../../outside/", b"/", b"//", b"/tmp/"], []):
        mounts = [Origin(name, 0, 0) for name in names]
        offer = m.Offer(False, origins=[source, *mounts], tells_mounts=True)
        report = await play(root, listings, options, Guarding(memory=memory), offer)
        assert report.held == ""
        assert [each.listed for each in memory.known()] == [b"", b"d/"]


def test_too_many_origins_are_refused_while_decoding() -> None:
    origins = [Origin(b"x", number, 0) for number in range(ORIGINS_MAX + 1)]
    (frame,) = FrameDecoder(LIMITS).feed(b"".join(encode(m.Offer(False, origins=origins), [])))
    with pytest.raises(ProtocolError):
        decode(frame)


@pytest.mark.parametrize("options", [DELETE, BEFORE])
@pytest.mark.parametrize(
    "lie", ["nothing", "the end early", "data not wanted", "an open directory"]
)
async def test_a_listing_that_does_not_end_well_deletes_nothing(
    root: Path, options: Options, lie: str
) -> None:
    """Before ``ListEnd`` and a whole listing nothing goes, whichever way deletes are done."""

    async def script(peer: Peer) -> None:
        await peer.say(m.Offer(False))
        await peer.hear(m.Start)
        entries = [file(b"a", 1), directory(b"d")]
        await peer.say(m.List([m.Listing(0, entries, True)]))
        if lie == "the end early":
            await peer.say(m.End())
        elif lie == "data not wanted":
            await peer.say(m.Files([m.FileHead(2, 1, 5, xxh3_128_digest(b"x"))]), b"x")
        elif lie == "an open directory":
            await peer.say(m.ListEnd(True))
        else:
            await peer.say(m.Start(1))

    assert isinstance(await _ends(root, script, options), ProtocolError)
    assert there(root) == THERE


async def _ends(root: Path, script: Script, options: Options) -> Exception | None:
    async def role(channel: Channel) -> Report:
        return await receive_tree(channel, target_opener(root), policy(options), Watch())

    return await ends_with(role, script, State.TARGET_STARTS)
