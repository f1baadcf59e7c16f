"""What a primary remembers of files whose size and time prove nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from netsync.errors import StateError
from netsync.mirror.memory import Memory
from netsync.mirror.wanted import WantedMirror
from netsync.modes.session import Connection
from netsync.operation import Write
from netsync.oplog.follower import State
from netsync.oplog.log import Log
from netsync.wire.mirroring import Acked
from netsync.wire.operations import NO_CHAIN


@contextlib.contextmanager
def remembering(base: Path) -> Iterator[Memory]:
    wanted = WantedMirror(os.fsencode(base), (), Connection(base), base / "state")
    memory = Memory(wanted)
    try:
        yield memory
    finally:
        memory.close()


async def test_what_a_tree_does_not_show_stays_suspect(tmp_path: Path) -> None:
    """A standby drops what it has durably in its journal, if its copy does not fit."""
    log = Log(["a"])
    (follower,) = log.followers
    follower.enter(State.SYNC)
    root = os.open(tmp_path, os.O_RDONLY)
    with remembering(tmp_path) as memory:
        seq = log.append(Write(b"f", 0, b"x", 0), 1)
        await memory.note_written([b"f"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.empty_activity, log, root)
            follower.sent = seq
            follower.take(Acked(seq, seq, seq, 0, NO_CHAIN))
            log.trim()
            await trio.testing.wait_all_tasks_blocked()
            assert memory.suspect == [b"f"]
            follower.take(Acked(seq, seq, seq, seq, NO_CHAIN))
            log.trim()
        assert memory.suspect == []
    os.close(root)


async def test_what_is_under_way_is_suspect(tmp_path: Path) -> None:
    """Nobody has sent it yet; and what is owed to a stale standby nobody sends at all."""
    log = Log(["here", "stale"])
    for follower in log.followers:
        follower.enter(State.LOST)
    log.append(Write(b"before", 0, b"x", 0), 1)
    log.owe(log.followers[1])
    log.append(Write(b"behind", 0, b"x", 0), 2)
    with remembering(tmp_path) as memory:
        await memory.note_under_way(log)
        assert memory.suspect == [b"before", b"behind"]
        assert not log.followers[1].owed or not log.followers[1].owed.written, "noted once"


async def test_what_could_not_be_noted_is_noted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full for a while ends the session that would have compared, and no more."""
    log = Log(["stale"])
    log.followers[0].enter(State.LOST)
    log.owe(log.followers[0])
    log.append(Write(b"f", 0, b"x", 0), 1)
    with remembering(tmp_path) as memory:
        with monkeypatch.context() as full:
            full.setattr(memory.activity, "note", failing)
            with pytest.raises(StateError):
                await memory.note_under_way(log)
        await memory.note_under_way(log)
        assert memory.suspect == [b"f"]


def failing(*_: object) -> None:
    raise StateError("no space left", op="write")


@pytest.mark.parametrize(("stale", "suspect"), [(False, [b"f"]), (True, None)])
async def test_after_an_end_without_order(
    tmp_path: Path, *, stale: bool, suspect: list[bytes] | None
) -> None:
    """What a stale standby lacked was noted with a delay: then everything is compared."""
    with remembering(tmp_path) as memory:
        await memory.note_written([b"f"])
        if stale:
            await memory.note_stale("a", 0)
    with remembering(tmp_path) as memory:
        assert memory.suspect == suspect
