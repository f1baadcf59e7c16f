"""A primary: its log, its standbys, and what it remembers; for whoever writes into a mirror.

``opened`` holds one: when its body begins all standbys have been compared and are in step. Whoever
writes changes the backing directory and appends to ``log``, nothing else. When the body ends well,
everything is flushed on both sides first, so that the next start knows that it may trust sizes and
times.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import trio

from netsync.errors import IndeterminateError, root_error, unwrapped
from netsync.mirror.links import Link, Primary
from netsync.mirror.memory import Memory
from netsync.mirror.wanted import WantedMirror, name_of
from netsync.operation import Level
from netsync.oplog.living import tell_live
from netsync.oplog.log import Log
from netsync.state.live import FollowerLive, PrimaryLive
from netsync.state.primary_record import primary_directory
from netsync.tree.directories import OPEN_DIRECTORY

NOTING_SECONDS: Final = 1.0
"""How often it is noted what is owed to a stale standby."""
EMPTYING_SECONDS: Final = 30.0
"""How often the activity log is emptied: each time the backing directory is flushed."""
PARTING_SECONDS: Final = 30.0
"""How long a primary that ends waits for its standbys to have everything."""


Watch = Callable[[Log], Awaitable[None]]
"""Looks at a log from before its standbys are reached, until it is cancelled."""


@contextlib.asynccontextmanager
async def opened(wanted: WantedMirror, watch: Watch | None = None) -> AsyncGenerator[Primary]:
    """Hold a primary that is in step with its standbys. Raises ``NetsyncError``.

    It waits for standbys that cannot be reached, without end, and lets ``watch`` see that; a
    refusal is raised. When the body ends well and not everything is on the standbys, that is
    raised too.
    """
    failure: BaseException | None = None
    with contextlib.ExitStack() as stack:
        root = await trio.to_thread.run_sync(_open_root, wanted.source)
        stack.callback(os.close, root)
        memory = await trio.to_thread.run_sync(Memory, wanted)
        stack.callback(memory.close)
        place = primary_directory(wanted.state, wanted.source)
        log = Log([name_of(each) for each in wanted.standbys], wanted.policy, memory.note_stale)
        primary = Primary(log, root, memory)
        try:
            with unwrapped():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(log.keep)
                    if watch is not None:
                        nursery.start_soon(watch, log)
                    for follower, remote in zip(log.followers, wanted.standbys, strict=True):
                        nursery.start_soon(Link(wanted, remote, follower, primary).keep)
                    nursery.start_soon(tell_live, place, lambda: _live(log))
                    await log.ready()
                    nursery.start_soon(_keep_emptying, log, memory, root)
                    nursery.start_soon(_keep_noting, log, memory)
                    try:
                        yield primary
                    except BaseException as error:
                        failure = error
                        raise
                    await _part(log, memory, root)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup:
            if isinstance(failure, Exception):
                raise failure from failure.__cause__  # the body's own, not that there is one
            raise


def _open_root(source: bytes) -> int:
    try:
        return os.open(source, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
    except OSError as error:
        raise root_error(error, op="open the mirror's directory", where=source) from error


async def _keep_emptying(log: Log, memory: Memory, root: int) -> None:
    while True:
        await trio.sleep(EMPTYING_SECONDS)
        if not memory.activity.is_empty and all(each.is_waited_for for each in log.followers):
            with contextlib.suppress(IndeterminateError):  # it is told to who writes; later, then
                await memory.empty_activity(log, root)


async def _keep_noting(log: Log, memory: Memory) -> None:
    while True:
        await trio.sleep(NOTING_SECONDS)
        if any(each.owed is not None for each in log.followers):
            await memory.note_under_way(log)


def _live(log: Log) -> PrimaryLive:
    return PrimaryLive(
        tuple(
            FollowerLive(
                each.name, each.state.value, each.lag, each.applied, each.owed_bytes, each.words
            )
            for each in log.status()
        )
    )


async def _part(log: Log, memory: Memory, root: int) -> None:
    """Let everybody have everything; if that takes too long the next start compares more."""
    with trio.move_on_after(PARTING_SECONDS) as scope:
        await log.wait(log.head, Level.DURABLE)
    if scope.cancelled_caught:
        raise IndeterminateError(
            f"not everything was acknowledged within {PARTING_SECONDS:g} seconds",
            op="end the mirror", hint="start it again: it compares, and goes on",
        )  # fmt: skip
    await memory.note_under_way(log)
    await memory.end_noted(root)
    with trio.move_on_after(PARTING_SECONDS), contextlib.suppress(IndeterminateError):
        if all(each.is_waited_for for each in log.followers):
            await memory.empty_activity(log, root)
            await memory.end_clean()
