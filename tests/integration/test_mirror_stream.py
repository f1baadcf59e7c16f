"""A mirror over real TLS: what is acknowledged is on the standby, in order, whatever is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from netsync.operation import Level
from tests.support.mirrors import Pair
from tests.support.places import differences
from tests.support.processes import wait_until


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def equal(pair: Pair) -> bool:
    return differences(pair.source, pair.copy, "--omit-dir-times") == ""


async def until_equal(pair: Pair) -> None:
    await trio.to_thread.run_sync(wait_until, lambda: equal(pair), "the trees are equal")


async def test_what_is_written_is_acknowledged_and_appears(pair: Pair) -> None:
    (pair.source / "before").write_text("there before the mirror")
    with pair.standby(), trio.fail_after(50):
        async with pair.primary() as writer:
            assert equal(pair), "the comparison at the start"
            writer.mkdir("d")
            writer.write("d/f", b"one")
            writer.write("d/f", b"two", 2)
            writer.rename("d/f", "g")
            writer.link("g", "h")
            writer.truncate("g", 4)
            seq = writer.chmod("g", 0o600)
            await writer.log.wait(seq, Level.DURABLE)
            (standby,) = writer.log.status().standbys
            assert standby.durable == seq
            await until_equal(pair)
            assert (pair.copy / "h").read_bytes() == b"ontw"
        assert equal(pair)
