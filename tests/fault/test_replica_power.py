"""Power cuts of a standby's disk, without a network: what it called durable is there afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.power import disk
from tests.support.replicas import copy_of_ten, until_applied, until_durable
from tests.support.trees import needs_mount

pytestmark = needs_mount
KINDS = pytest.mark.parametrize("kind", ["ext4", "xfs"])


@KINDS
async def test_what_was_called_durable_survives_a_power_cut(tmp_path: Path, kind: str) -> None:
    """It was in the journal, whatever the tree shows, and is done from there."""
    with disk(tmp_path, kind) as power:
        copy = copy_of_ten(power.place)
        async with copy.opened() as replica:
            copy.send(replica, 1, 7, sync=True)
            await until_durable(replica, 7)
            power.cut()
        power.restart()
        async with copy.opened() as replica:
            assert (replica.durable.seq, replica.durable.chain) == (7, copy.chains[7])
            assert (copy.tree / "f").read_bytes() == b"123456"


@KINDS
async def test_what_the_journal_dropped_was_flushed(tmp_path: Path, kind: str) -> None:
    """Once it is on record that the tree shows an operation, nobody can do it again."""
    with disk(tmp_path, kind) as power:
        copy = copy_of_ten(power.place)
        async with copy.opened() as replica:
            copy.send(replica, 1, 10, sync=True)
            await until_applied(replica, 10)
            await replica.hold_still()
            power.cut()
        power.restart()
        async with copy.opened() as replica:
            assert replica.applied == 10
            assert (copy.tree / "f").read_bytes() == b"123456789"
