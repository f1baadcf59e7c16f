"""One primary's session with a mirrored place: who may write, from where on, and the stream.

There is one writer. A place belongs to the certificate that mirrors to it, at an epoch; another
certificate, an older epoch and a log that the copy does not come from are refused in words that
say what has diverged and what helps. A primary that comes again takes the place of its own last
session, which may be dead without our knowing.

A certificate may be on two hosts, with a copy of all that a primary remembers. So each start of one
is a generation of its own, the last that was let in is remembered durably, before it is answered,
and only who knows of that one is let in next: a copy from before does not. A copy from after it
looks like a restart; it waits as long as the other one is heard.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import trio

from netsync.errors import NetworkError, ProtocolError, RefusedError, unwrapped
from netsync.net.channel import StreamChannel
from netsync.operation import Level
from netsync.oplog.journaling import Mark
from netsync.oplog.replica import Replica
from netsync.server.mirrors import Mirrors, plain_path, refuse_overlap
from netsync.server.modules import Module, Right
from netsync.state.mirror_record import PRIMARY, STANDBY, Record, known_places
from netsync.tree.threads import in_thread
from netsync.wire.messages import Bye
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
from netsync.wire.operations import NO_CHAIN

APPLIED_SECONDS: Final = 0.5
"""How long word may wait of what the tree shows: nobody waits for it."""

WhileIdle = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Does something that ends with ``NetworkError`` as soon as the server is to end."""
Succeed = Callable[[bytes, bytes], Awaitable[None]]
"""Ends the session that mirrors to a place, for one of a generation. Raises ``NetworkError``."""


class Mirroring:
    """Serves one primary. ``place`` is where it writes, empty until it has said so."""

    def __init__(
        self, channel: StreamChannel, identity: str, state: Path, mirrors: Mirrors
    ) -> None:
        self.place = b""
        self._channel = channel
        self._identity = identity
        self._state = state
        self._mirrors = mirrors
        self._replica: Replica | None = None
        self._asked: Mirror | None = None

    def refuse_other(self, generation: bytes) -> None:
        """Raise ``NetworkError`` if our primary lives, and is not of ``generation``."""
        asked = self._asked
        if asked is not None and asked.generation != generation and self._channel.is_heard:
            raise NetworkError(
                "this primary is connected already, in another run of it that is alive",
                op="mirror to", where=self.place,
                hint="it is let in when that one is gone; if it runs on another host, with a copy "
                "of this one's state, stop one of the two",
            )  # fmt: skip

    async def open(self, request: Mirror, module: Module, supersede: Succeed) -> None:
        """Let the primary write to a place of ``module``, and tell what is there."""
        module.require(self._identity, Right.MIRROR)
        if module.user is not None:
            raise RefusedError(
                "a module with a uid cannot be mirrored to in this version",
                op="use module", where=module.name,
                hint="mirror to a module without uid; operations set owners themselves",
            )  # fmt: skip
        if self._replica is not None:
            raise ProtocolError("a session mirrors to one place", op="receive")
        new = await in_thread(self._record_for, request, module)
        known = await trio.to_thread.run_sync(known_places, self._state)
        refuse_overlap(known, new.place)
        for record in known:
            if record.place == new.place:
                refuse_writer(record, request, self._identity)
        await supersede(new.place, request.generation)
        self.place = new.place  # nothing came between, so nobody else has it
        self._asked = request
        self._replica = replica = await self._mirrors.replica(new)
        refuse_writer(replica.record, request, self._identity)
        mark = await replica.settle()
        await self._note_writer(replica, new, request.generation)
        await self._tell(mark)

    async def _note_writer(self, replica: Replica, new: Record, generation: bytes) -> None:
        """Remember who writes from now on, before anything follows from it.

        The copy is still of the log that it was, until somebody compares it; unless it was
        promoted, or is another's now.
        """
        before = replica.record
        is_same = (before.role, before.identity) == (STANDBY, new.identity)
        now = msgspec.structs.replace(
            before,
            identity=new.identity,
            epoch=new.epoch,
            role=STANDBY,
            special=new.special,
            claim=generation,
            generation=before.generation if is_same else b"",
        )
        if now != before:
            await replica.save(now)

    def _record_for(self, request: Mirror, module: Module) -> Record:
        base = os.path.realpath(os.fsencode(module.path))
        path = plain_path(request.place.path)
        return Record(
            base, path, module.name, self._identity, request.epoch,
            at=time.time(), special=module.special,
        )  # fmt: skip

    async def _tell(self, mark: Mark) -> None:
        assert self._replica is not None
        record = self._replica.record
        generation = record.generation if record.complete else b""
        await self._channel.send(
            Mirrored(generation, record.epoch, mark.seq, mark.chain, record.complete)
        )

    async def hold_still(self) -> None:
        """What the place holds will be compared and changed: it is no prefix until adopted."""
        replica = self._held()
        await replica.hold_still()
        record = msgspec.structs.replace(replica.record, generation=b"")
        await replica.save(record)

    async def adopt(self, request: Adopt) -> None:
        """The trees are equal: this is where the log goes on."""
        replica, asked = self._held(), self._asked
        assert asked is not None
        record = msgspec.structs.replace(replica.record, generation=asked.generation)
        mark = Mark(request.seq, request.chain)
        await replica.adopt(mark, record)
        await self._tell(mark)

    async def stream(self, request: Stream, while_idle: WhileIdle) -> None:
        """Take operations until the primary parts. A server that ends waits for none of them."""
        replica, asked = self._held(), self._asked
        assert asked is not None
        if not replica.record.complete or replica.record.generation != asked.generation:
            raise ProtocolError("operations for a copy that is not adopted", op="mirror")
        replica.begin(request.level)
        with unwrapped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._acknowledge, replica, request.level)
                await while_idle(functools.partial(self._take_all, replica))
                await replica.settle()
                nursery.cancel_scope.cancel()

    async def _take_all(self, replica: Replica) -> None:
        while True:
            await replica.room()
            message, tail = await self._channel.receive()
            match message:
                case Operations():
                    replica.take(message, tail)
                case Sync(seq=seq):
                    replica.want_durable(seq)
                case ResyncBegin():
                    replica.begin_resync()
                case ResyncEnd():
                    replica.end_resync(message)
                case Bye():
                    return
                case _:
                    raise ProtocolError("no operation", op="receive")

    async def _acknowledge(self, replica: Replica, level: Level) -> None:
        """Tell what is there whenever it is more, of what the primary waits for at once."""
        told, at = Acked(0, 0, 0, 0, NO_CHAIN), -math.inf
        while True:
            now = replica.acked()
            if (
                at == -math.inf
                or _reached(now, level) > _reached(told, level)
                or now.durable > told.durable
            ):
                told, at = now, trio.current_time()
                await self._send_whole(now)
            elif now == told:
                await replica.wait_change()
            else:
                with trio.move_on_at(at + APPLIED_SECONDS) as late:
                    await replica.wait_change()
                if late.cancelled_caught:
                    told, at = now, trio.current_time()
                    await self._send_whole(now)

    async def _send_whole(self, acked: Acked) -> None:
        """Send, though the session may be ending: half a message would swallow the reason why."""
        with trio.CancelScope(shield=True):  # the channel's own timeout bounds it
            await self._channel.send(acked)

    def _held(self) -> Replica:
        if self._replica is None:
            raise ProtocolError("no place was opened", op="mirror")
        return self._replica

    def close(self) -> None:
        """The session is over: what arrived is made durable all the same."""
        if self._replica is not None:
            self._replica.release()


def _reached(acked: Acked, level: Level) -> int:
    return {
        Level.RECEIVED: acked.received, Level.WRITTEN: acked.written, Level.DURABLE: acked.durable
    }[level]  # fmt: skip


def refuse_writer(record: Record, request: Mirror, identity: str) -> None:
    """Raise ``RefusedError`` unless ``identity`` may write to the place with its log."""
    where = record.place
    kept = f"{record.identity!r} at epoch {record.epoch}, up to operation {record.seq}"
    if record.role == STANDBY:
        kept += " at least"  # since the last checkpoint there may be more
    if record.role == PRIMARY and request.epoch <= record.epoch:
        raise RefusedError(
            f"this place was promoted on {_day(record.at)} and is a primary of its own at epoch "
            f"{record.epoch}; it was mirrored by {kept}. {_diverged(record, request)}",
            op="mirror to",
            where=where,
            hint="write to the new primary; what is only here must be merged by hand, and then "
            "netsync mirror --epoch "
            f"{record.epoch + 1} makes the promoted place a standby again and discards its changes",
        )
    if request.epoch < record.epoch:
        raise RefusedError(
            f"it has followed a newer primary: {kept}, and you are at epoch {request.epoch}. "
            f"{_diverged(record, request)}",
            op="mirror to", where=where, hint="netsync status on the standby says who writes",
        )  # fmt: skip
    if request.epoch > record.epoch or request.adopt:
        return
    if identity != record.identity:
        raise RefusedError(
            f"it is the copy of another primary: {kept}",
            op="mirror to", where=where,
            hint="one primary writes to a place; use another, or promote this one first",
        )  # fmt: skip
    last = record.claim or record.generation
    if last and last not in (request.generation, *request.parents):
        raise RefusedError(
            f"the log that it let in last ({last.hex()}) is not one that this primary remembers: "
            "another host has written to it with this certificate (a copy of this one, perhaps), "
            f"or this primary's state was lost or is an old one; it holds {kept}, as of "
            f"{_day(record.at)}. {_diverged(record, request)}",
            op="mirror to", where=where,
            hint="see which host has the newer data: netsync mirror --adopt on that one replaces "
            "the copy, and what only the other has must be merged by hand",
        )  # fmt: skip


def _diverged(record: Record, request: Mirror) -> str:
    if request.generation == record.generation:
        count = max(0, request.head - record.seq)
        return f"{count} operations of yours, from {record.seq + 1} on, are not in it"
    return f"your log {request.generation.hex()} is another: how much is only yours is not known"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
