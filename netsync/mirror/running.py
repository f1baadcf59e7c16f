"""A mirror with a mount, from start to end: what ``netsync mirror`` does.

In this order: the places are checked and a dead mount of an earlier run is removed; the standbys
are compared and in step; the mount accepts writes, and that is said. A signal unmounts; what was
written is waited for; the rest of the primary ends behind it. Any other end leaves the mount where
it is, dead: programs get errors, and never the empty directory below it.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import trio

from netsync.errors import IndeterminateError, InterruptedBySignal, UsageError, unwrapped
from netsync.mirror.backing import Backing
from netsync.mirror.files import Safety
from netsync.mirror.filesystem import Filesystem
from netsync.mirror.links import Primary
from netsync.mirror.mounting import check_places, clear_dead
from netsync.mirror.primary import opened
from netsync.mirror.serving import Mount, Say
from netsync.mirror.wanted import WantedMirror
from netsync.monitor.notify import notify
from netsync.names import shown
from netsync.operation import Loss
from netsync.oplog.follower import FollowerStatus, State
from netsync.oplog.log import Log
from netsync.tree.capability import raise_descriptor_limit

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ANSWER_SECONDS: Final = 10.0
"""How long a mount that is there may take to answer, before it counts as one that lives."""
_LOOK_SECONDS: Final = 1.0
"""How often the state of the standbys is looked at, to tell when it changed."""


@dataclass(frozen=True)
class MountedMirror:
    """What is mirrored, where it is mounted, and when the mount answers. Paths are resolved."""

    wanted: WantedMirror
    mountpoint: bytes
    safety: Safety = field(default_factory=Safety)


async def run_mounted(mirror: MountedMirror, say: Say) -> None:
    """Mirror until a signal says to end, and end in order. Raises ``NetsyncError``.

    ``IndeterminateError`` if at the end a standby has not said that it has everything;
    ``InterruptedBySignal`` if the signal came before the mount was there.
    """
    raise_descriptor_limit()  # each open file of the mount is one here
    with trio.open_signal_receiver(*SIGNALS) as signals, unwrapped():
        async with trio.open_nursery() as nursery:
            ending = Ending(nursery.cancel_scope)
            nursery.start_soon(ending.heed, signals)
            await _prepare(mirror)
            watch = functools.partial(_tell, say=say)
            async with opened(mirror.wanted, watch) as primary:
                await _serve(mirror, primary, ending, say)
            nursery.cancel_scope.cancel()
    if ending.came_early:
        raise InterruptedBySignal(f"interrupted by {ending.said}", hint="run again to go on")


class Ending:
    """Signals, as an orderly end: each sets the event that ``next`` gave last.

    One that comes before there is a mount cancels ``scope``.
    """

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self.event: trio.Event | None = None
        self.said = ""
        self.came_early = False

    async def heed(self, signals: AsyncIterator[int]) -> None:
        """Take signals as they come."""
        async for number in signals:
            self.said = signal.Signals(number).name
            notify("STOPPING=1")
            if self.event is None:
                self.came_early = True
                self._scope.cancel()
            else:
                self.event.set()

    def next(self) -> trio.Event:
        """Return an event that the next signal sets."""
        self.event = trio.Event()
        return self.event


async def _serve(mirror: MountedMirror, primary: Primary, ending: Ending, say: Say) -> None:
    """Mount, serve until the end, and wait for the last acknowledgement."""
    backing = Backing(primary.root)
    filesystem = Filesystem(backing, primary.log, mirror.safety)
    mount = Mount(mirror.mountpoint, filesystem, primary.root)
    try:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as serving:
                await serving.start(mount.serve)
                signalled = ending.next()
                say(f"mounted on {shown(mirror.mountpoint)}")
                notify("READY=1")
                nursery.start_soon(_end, mount, signalled, ending, serving.cancel_scope, say)
            assert ending.event is not None
            await _wait_for_the_last(mirror, primary.log, ending.event)
            nursery.cancel_scope.cancel()
    finally:
        backing.close()


async def _end(
    mount: Mount, signalled: trio.Event, ending: Ending, serving: trio.CancelScope, say: Say
) -> None:
    """Unmount when asked to. Whoever still uses the mount after the second signal is cut off."""
    await signalled.wait()
    again = ending.next()
    await mount.end(again, say)
    if mount.is_detached:
        ending.next()
        serving.cancel()


async def _wait_for_the_last(mirror: MountedMirror, log: Log, again: trio.Event) -> None:
    """Return when everything is as safe as was asked for. Raises ``IndeterminateError``."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on, again, nursery.cancel_scope)
        await log.wait(log.head, mirror.safety.level)
        nursery.cancel_scope.cancel()
    if not log.is_everywhere(log.head, mirror.safety.level):
        raise IndeterminateError(
            f"the end came before a standby said that it has the last operation ({log.head})",
            op="mirror",
            where=mirror.wanted.source,
            hint="nothing is lost here; the next start sends what is missing",
        )


async def _cancel_on(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _tell(log: Log, say: Say) -> None:
    """Say when a standby is not reached, lost, stale, or in step again. Runs until cancelled."""
    told = {each.name: State.SYNC for each in log.status()}
    while True:
        for each in log.status():
            begins = each.state is State.STARTING and not each.words
            if not begins and each.state is not told[each.name]:
                told[each.name] = each.state
                say(_words(each, log.policy.loss))
        await trio.sleep(_LOOK_SECONDS)


_WORDS: Final = {
    State.STARTING: "not reached yet",
    State.SYNC: "in step",
    State.DEGRADED: "stale: writes are acknowledged without it, and it is owed what changes",
    State.RESYNC: "back, and is sent what it lacks",
    State.REFUSING: "not ours any more: nothing can be written here until the mirror is stopped, "
    "and started again when that is mended",
}
_LOST: Final = {
    Loss.BLOCK: "lost: what must be safe waits for it",
    Loss.ERROR: "lost: after the timeout nothing can be written until it is back",
    Loss.DEGRADE: "lost: after the timeout it is left behind",
}


def _words(standby: FollowerStatus, loss: Loss) -> str:
    state = standby.state
    what = _LOST[loss] if state is State.LOST else _WORDS[state]
    return f"{standby.name} is {what}" + (f" ({standby.words})" if standby.words else "")


async def _prepare(mirror: MountedMirror) -> None:
    """Check the places. Raises ``UsageError``."""
    with trio.move_on_after(_ANSWER_SECONDS) as waiting:
        await trio.to_thread.run_sync(clear_dead, mirror.mountpoint, abandon_on_cancel=True)
    if waiting.cancelled_caught:
        raise UsageError("what is mounted there does not answer", op="mount on",
                         where=mirror.mountpoint,
                         hint="another netsync mirror may be waiting for its standby")  # fmt: skip
    await trio.to_thread.run_sync(check_places, mirror.wanted.source, mirror.mountpoint)
