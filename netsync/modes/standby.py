"""Where a watch sends to: one session for many transfers, and beats between them.

A standby on another host is reached through one session, so that a batch of changes costs no
handshake. A directory of this host has no session and nobody to beat for. The runner cannot tell
them apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
import trio

from netsync.errors import (
    NetsyncError,
    ProtocolError,
    RefusedError,
    StalledError,
    StateError,
    unwrapped,
)
from netsync.model import Report
from netsync.modes.address import Remote
from netsync.modes.copy import Run, ask_to_push, copy_between
from netsync.modes.session import Connection, session
from netsync.net.channel import WATCH_FEATURE, StreamChannel, equip
from netsync.plan.reception import Reception, booked, changes_of
from netsync.state.receptions import Receptions
from netsync.state.verified import VerifiedFiles
from netsync.tree.roots import SourceRoot, local_path
from netsync.tree.watched import WatchedDirectory
from netsync.wire.messages import Place
from netsync.wire.watching import Beat, Heard

HERE: Final = Heard(1)
"""What a directory of this host answers: what is known of it is known to its runner."""


class Standby(Protocol):
    """The other end while it is there. Methods raise ``NetsyncError``; then it is not any more."""

    async def receive(self, roots: Sequence[SourceRoot], run: Run) -> Report:
        """Bring about there what ``roots`` are, as the run's options say."""

    async def beat(self, beat: Beat) -> Heard:
        """Say how it stands, and wait for the answer."""


@contextlib.asynccontextmanager
async def reached(
    target: Remote | bytes, connection: Connection, now: Callable[[], float]
) -> AsyncGenerator[Standby]:
    """Hold the way to a standby."""
    if isinstance(target, bytes):
        yield LocalStandby(target, now)
        return
    async with session(target, connection) as channel:
        if WATCH_FEATURE not in channel.features:
            raise RefusedError(
                "the server is too old to be sent changes", op="watch", where=target.shown,
                hint="install this version there, or push on a schedule",
            )  # fmt: skip
        yield RemoteStandby(channel, target.place, connection.timeout)


class RemoteStandby:
    """A server's place, over one session."""

    def __init__(self, channel: StreamChannel, place: Place, timeout: float) -> None:
        self._channel = channel
        self._place = place
        self._timeout = timeout

    async def receive(self, roots: Sequence[SourceRoot], run: Run) -> Report:
        """Push over the session."""
        from netsync.transfer.source import send_tree  # noqa: PLC0415 - each role costs 50 ms

        before = self._channel.wire
        equip(self._channel, run.options)
        run.begins()
        await ask_to_push(self._channel, self._place, run.options)
        memory = VerifiedFiles(run.state)
        report = await send_tree(self._channel, roots, run.options, run.observer, (), memory)
        sent, received = self._channel.wire
        size = msgspec.structs.replace(
            report.bytes, wire_sent=sent - before[0], wire_received=received - before[1]
        )
        return msgspec.structs.replace(report, bytes=size)

    async def beat(self, beat: Beat) -> Heard:
        """Say it, and hear that it was heard."""
        await self._channel.send(msgspec.structs.replace(beat, place=self._place))
        with trio.move_on_after(self._timeout) as scope:
            answer = (await self._channel.receive()).message
        if scope.cancelled_caught:
            raise StalledError(
                "the server is there but does not answer", op="watch", where=self._channel.peer,
                hint="its disk may hang; see its log",
            )  # fmt: skip
        if not isinstance(answer, Heard):
            raise ProtocolError("the server answered something else", op="watch")
        return answer


class LocalStandby:
    """A directory of this host."""

    def __init__(self, target: bytes, now: Callable[[], float]) -> None:
        self._now = now
        self._target = target
        self._place = local_path(target).rstrip(b"/") or b"/"

    async def receive(self, roots: Sequence[SourceRoot], run: Run) -> Report:
        """Copy."""
        run.begins()
        memory = Receptions(run.state)
        known = await trio.to_thread.run_sync(self._known, memory)
        now = self._now()
        run = msgspec.structs.replace(run, changes=changes_of(known, now))
        report = await copy_between(roots, (), self._target, run)
        after = booked(known, report, run.options, now)
        if after != known:
            with contextlib.suppress(StateError):  # the next comparison of the whole counts anew
                await trio.to_thread.run_sync(memory.save, self._place, "", after)
        return report

    async def beat(self, beat: Beat) -> Heard:
        """Answer: whoever asks is here."""
        del beat
        await trio.lowlevel.checkpoint()
        return HERE

    def _known(self, memory: Receptions) -> Reception:
        try:
            return memory.of(self._place, "") or Reception(name="")
        except StateError:
            return Reception(name="")


def over(
    standby: Standby, directory: WatchedDirectory, broke: list[NetsyncError]
) -> Callable[[object, Run], Awaitable[Report]]:
    """Return what an attempt calls to transfer all of ``directory``.

    An error ends the way to the standby too, and is put into ``broke``.
    """

    async def send(_: object, run: Run) -> Report:
        try:
            with unwrapped():  # a transfer's nursery has it in a group
                return await standby.receive([directory.source()], run)
            raise AssertionError("unreachable: the body returns or raises")
        except NetsyncError as error:
            broke.append(error)
            raise

    return send
