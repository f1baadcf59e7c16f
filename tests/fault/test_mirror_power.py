"""The power of a standby fails: what was acknowledged is in its copy afterwards, in order.

Journal and copy on an ext4 or xfs of their own, shut down without flushing its log. Slow.
"""

from __future__ import annotations

import contextlib
import random
import signal
from pathlib import Path
from typing import Final

import pytest
import trio

from netsync.errors import IndeterminateError
from netsync.operation import Level
from tests.support.mirror_writer import step, steps_of
from tests.support.mirrors import Pair, Writer
from tests.support.places import differences
from tests.support.power import Disk, disk
from tests.support.processes import Server, succeed
from tests.support.trees import needs_mount

pytestmark = [pytest.mark.slow, needs_mount, pytest.mark.timeout(400)]

ROUNDS: Final = 5


async def fail(power: Disk, server: Server) -> None:
    """The standby's power goes, and comes back."""
    power.cut()
    server.signal(signal.SIGKILL)
    await trio.to_thread.run_sync(server.wait)
    await trio.to_thread.run_sync(power.restart)


async def write_some(writer: Writer, first: int, last: int, chance: random.Random) -> int:
    """Do steps, the last of them acknowledged; return how many were before more were sent."""
    for number in range(first, last):
        await writer.log.room()
        seq = step(writer, number)
        if chance.random() < 0.2:
            await writer.log.wait(seq, Level.DURABLE)
    await writer.log.wait(seq, Level.DURABLE)
    return last


def equal(pair: Pair) -> bool:
    return differences(pair.source, pair.copy, "--omit-dir-times") == ""


async def write_through_failures(
    pair: Pair, power: Disk, stack: contextlib.ExitStack, chance: random.Random
) -> None:
    server = stack.enter_context(pair.standby())
    async with pair.primary() as writer:
        done = 0
        for _ in range(ROUNDS):
            done = await write_some(writer, done, done + chance.randrange(20, 120), chance)
            ahead = chance.randrange(40)
            for number in range(done, done + ahead):
                step(writer, number)
            await trio.sleep(chance.uniform(0, 0.1))
            await fail(power, server)
            server = stack.enter_context(pair.standby())
            done += ahead
            await writer.log.wait(writer.log.head, Level.DURABLE)
        await fail(power, server)
        words = ("promote", "m/copy", "--state", pair.state)
        await trio.to_thread.run_sync(lambda: succeed(*words))
        assert steps_of(pair.copy) == done, "the standby alone has everything"
        assert equal(pair)
        stack.enter_context(pair.standby())
        await writer.log.wait(writer.write("late", b"x"), Level.DURABLE)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_what_was_acknowledged_survives(tmp_path: Path, kind: str) -> None:
    """Again and again, at random moments: the restarted standby recovers, and goes on."""
    with contextlib.ExitStack() as stack:
        power = stack.enter_context(disk(tmp_path, kind))
        pair = Pair(tmp_path, power.place)
        with pytest.raises(IndeterminateError, match="promoted"):
            await write_through_failures(pair, power, stack, random.Random(kind))
