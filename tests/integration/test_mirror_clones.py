"""A primary and a copy of it, with its certificate and all that it remembers: one may write."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
import trio

from netsync.errors import IndeterminateError, RefusedError
from netsync.mirror.primary import opened
from netsync.modes.session import session
from netsync.operation import Level
from netsync.oplog.log import Log
from netsync.state.mirror_record import RecordFile, known_places
from netsync.wire.mirroring import Mirror, Mirrored
from tests.support.mirrors import Pair, Writer

pytestmark = pytest.mark.timeout(300)
PATIENCE = 250.0


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def cloned(pair: Pair) -> Path:
    """Return a copy of what the primary remembers now."""
    copy = pair.base / "clone-state"
    shutil.copytree(pair.base / "primary-state", copy)
    return copy


async def acknowledged(writer: Writer, data: bytes) -> None:
    await writer.log.wait(writer.write("f", data), Level.DURABLE)


async def test_of_two_that_were_one_the_second_is_refused(pair: Pair) -> None:
    """Beside the first and after it; and the first, where the second was meant to replace it."""
    with pair.standby(), trio.fail_after(PATIENCE):
        await pair.start()
        clone = cloned(pair)
        async with pair.primary() as writer:
            await acknowledged(writer, b"mine")
            with pytest.raises(RefusedError, match="a copy of this one"):
                await pair.start(state=clone)
            await acknowledged(writer, b"goes on")
        with pytest.raises(RefusedError, match="how much is only yours is not known"):
            await pair.start(state=clone)
        async with pair.primary(state=clone, adopt=True) as writer:
            await acknowledged(writer, b"of the clone")
        with pytest.raises(RefusedError, match="a copy of this one"):
            await pair.start()
        await pair.start(state=clone)


async def test_a_copy_of_a_primary_at_work_waits_until_that_is_gone(pair: Pair) -> None:
    """It knows all that the first does, as after a crash; but the first is heard."""
    words = "another run of it that is alive"

    async def start(state: Path, scope: trio.CancelScope) -> None:
        async def look(log: Log) -> None:
            while not any(words in each.words for each in log.status()):
                await trio.sleep(0.01)
            scope.cancel()

        async with opened(pair.wanted(state=state), look):
            raise AssertionError("it was let in")

    with pair.standby() as server, trio.fail_after(PATIENCE):
        async with pair.primary() as writer:
            clone = cloned(pair)
            with trio.CancelScope() as scope:
                await start(clone, scope)
            assert scope.cancelled_caught
            server.wait_for(lambda: words in server.log, "it is told")
            await acknowledged(writer, b"as before")
            assert [each.state for each in writer.log.status()] == ["sync"]
        await pair.start(state=clone)


def let_in(pair: Pair, generation: bytes) -> None:
    """Leave the standby, which is down, as it is once it has let in another primary."""
    records = RecordFile(pair.state, os.fsencode(os.path.realpath(pair.copy)))
    assert records.record is not None
    records.save(msgspec.structs.replace(records.record, claim=generation, generation=b""))
    records.close()


async def lose(pair: Pair) -> None:
    """Adopt the copy, and write on after the standby has let in another."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(pair.standby())
        await pair.start()
        async with pair.primary(adopt=True) as writer:
            await acknowledged(writer, b"mine")
            server.signal(signal.SIGKILL)
            await trio.to_thread.run_sync(server.wait)
            let_in(pair, b"x" * 16)
            stack.enter_context(pair.standby())
            await acknowledged(writer, b"both?")


async def test_a_copy_is_adopted_once(pair: Pair) -> None:
    """Who was told to, and lost it to another since, does not take it back by itself."""
    with (
        trio.fail_after(PATIENCE),
        pytest.raises(IndeterminateError, match="another host has written to it"),
    ):
        await lose(pair)


async def test_who_was_let_in_and_compared_nothing_leaves_the_copy_as_it_is(pair: Pair) -> None:
    """What it holds is told to who promotes it then, and to its primary who comes too late."""
    with pair.standby(), trio.fail_after(PATIENCE):
        async with pair.primary() as writer:
            await acknowledged(writer, b"mine")
        (before,) = known_places(pair.state)
        remote, connection = pair.remote(), pair.wanted().connection
        async with session(remote, connection) as channel:
            await channel.send(Mirror(remote.place, b"n" * 16, 1, parents=(before.generation,)))
            assert isinstance((await channel.receive()).message, Mirrored)
        (after,) = known_places(pair.state)
        assert (after.claim, after.generation) == (b"n" * 16, before.generation)
