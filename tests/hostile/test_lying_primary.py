"""A primary that lies to a real standby, over real TLS: each lie ends its session, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from netsync import operation as o
from netsync.errors import NetsyncError, ProtocolError, RefusedError
from netsync.model import Options
from netsync.modes.session import session
from netsync.net.channel import StreamChannel
from netsync.wire.messages import Direction, Message, Open, Place
from netsync.wire.mirroring import (
    Acked,
    Adopt,
    Mirror,
    Mirrored,
    Operations,
    ResyncBegin,
    ResyncEnd,
    Stream,
    Sync,
)
from netsync.wire.operations import NO_CHAIN, chained, pack
from tests.support.mirrors import COPY, MODULE, Pair

GENERATION = b"g" * 16
CREATE = pack(o.Create(b"f", 0o600, 0, 0))
CHAIN = chained(NO_CHAIN, CREATE)
LINK = pack(o.Symlink(b"out", b"/etc", 0, 0))
THROUGH = pack(o.Unlink(b"out/passwd"))
UP = pack(o.Unlink(b"../secret"))

Said = list[tuple[Message, bytes]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One standby for all lies; it must still serve when they are through."""
    made = Pair(tmp_path_factory.mktemp("pair"))
    (made.base / "secret").write_text("untouched")
    with made.standby('"mirror"') as server:
        yield made
        assert server.running
        assert "Traceback" not in server.log


async def say(pair: Pair, place: Place, said: Said, *, adopt: bool = True) -> None:
    """Be a primary that says all that, and hears how it ends. Raises what the standby says."""
    wanted = pair.wanted()
    async with session(pair.remote(), wanted.connection) as channel:
        await channel.send(Mirror(place, GENERATION, 1))
        assert isinstance((await channel.receive()).message, Mirrored)
        if adopt:
            await channel.send(Adopt(0, NO_CHAIN))
            assert isinstance((await channel.receive()).message, Mirrored)
            await channel.send(Stream())
        for message, tail in said:
            await channel.send(message, [tail] if tail else [])
        await until_refused(channel)


async def until_refused(channel: StreamChannel) -> None:
    with trio.fail_after(50):
        while True:
            assert isinstance((await channel.receive()).message, Acked)


def batch(*packed: bytes, first: int = 1, count: int | None = None) -> tuple[Message, bytes]:
    chain = NO_CHAIN
    for each in packed:
        chain = chained(chain, each)
    return Operations(first, len(packed) if count is None else count, chain, True), b"".join(packed)


LIES: dict[str, tuple[Said, str]] = {
    "a number that jumps": ([batch(CREATE, first=2)], "operations 1 to 1 are missing"),
    "another chain": ([(Operations(1, 1, b"x" * 16, True), CREATE)], "diverged"),
    "more than there are": ([batch(CREATE, count=2)], "1 operations where 2 were told"),
    "a path that climbs": ([batch(UP)], "leads out of the mirror"),
    "a path through a link": ([batch(LINK, THROUGH)], "does not fit what is there"),
    "an unknown operation": ([batch(b"\0\0\0\3\x92\x63\xc4")], "malformed"),
    "a torn operation": ([batch(CREATE[:-1])], "torn"),
    "a sync beyond": ([(Sync(5), b"")], "was not sent"),
    "an end of no resync": ([(ResyncEnd(0, 9, CHAIN), b"")], "did not come like this"),
    "a resync in a resync": ([(ResyncBegin(), b"")] * 2, "a resync within a resync"),
    "a resync that leads back": (
        [batch(CREATE), (ResyncBegin(), b""), (ResyncEnd(0, 0, NO_CHAIN), b"")], "leads back",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_ends_the_session_and_the_next_one_is_served(pair: Pair, lie: str) -> None:
    said, words = LIES[lie]
    place = Place(MODULE, f"{COPY}-{list(LIES).index(lie)}".encode())
    with pytest.raises(NetsyncError, match=words):
        await say(pair, place, said)
    assert (pair.base / "secret").read_text() == "untouched"
    assert Path("/etc/passwd").exists()
    other = Place(MODULE, place.path + b"-next")
    with pytest.raises(ProtocolError, match="missing"):
        await say(pair, other, LIES["a number that jumps"][0])


@pytest.mark.parametrize("path", [b"..", b"a/../..", b".netsync", b"a\0b"])
async def test_no_place_leads_out_of_the_module(pair: Pair, path: bytes) -> None:
    with pytest.raises(RefusedError):
        await say(pair, Place(MODULE, path), [])
    assert sorted(each.name for each in pair.base.iterdir() if each.name == "a") == []


async def test_nothing_is_streamed_to_a_copy_that_is_not_adopted(pair: Pair) -> None:
    place = Place(MODULE, b"not-adopted")
    with pytest.raises(ProtocolError, match="not adopted"):
        await say(pair, place, [(Stream(), b"")], adopt=False)


async def test_a_place_of_its_own_does_not_let_a_primary_push_elsewhere(pair: Pair) -> None:
    """Its certificate holds the right to mirror, and no other."""
    elsewhere = Open(Direction.PUSH, [Place(MODULE, b"elsewhere")], Options(delete=True))
    with pytest.raises(RefusedError, match="does not hold the right 'push'"):
        await say(pair, Place(MODULE, b"own"), [(elsewhere, b"")], adopt=False)


async def test_a_flood_of_small_operations_is_bounded(pair: Pair) -> None:
    """What comes faster than the disk waits in the network, and all of it arrives."""
    place = Place(MODULE, b"flooded")
    wanted = pair.wanted()
    many = [pack(o.Mode(b"f", 0o600 + number % 2)) for number in range(4000)]
    chain, seq = CHAIN, 1
    with trio.fail_after(50):
        async with session(pair.remote(), wanted.connection) as channel:
            await channel.send(Mirror(place, GENERATION, 1))
            await channel.receive()
            await channel.send(Adopt(0, NO_CHAIN))
            await channel.receive()
            await channel.send(Stream())
            await channel.send(Operations(1, 1, CHAIN, True), [CREATE])
            for _ in range(10):
                for each in many:
                    chain = chained(chain, each)
                await channel.send(Operations(seq + 1, len(many), chain, True), [b"".join(many)])
                seq += len(many)
            while True:
                acked = (await channel.receive()).message
                assert isinstance(acked, Acked)
                assert acked.received >= acked.written >= acked.durable >= acked.applied
                if acked.durable == seq:
                    assert acked.chain == chain
                    break
