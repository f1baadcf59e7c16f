"""The primary's end of one session: operations go out as they come, acknowledgements come in.

What is there goes out in one message, so while one is on its way the next ones gather: many waiting
writers share messages and flushes. What nobody waits for gathers for a moment: mostly somebody soon
does, and then it goes in one message with the wish for its flush. What could only be flushed after
the next flush gathers for that moment too, or until there is an answer. Nobody needs to ask for
durability forever: after a second, or some megabytes, it is asked for, so a log that is full gets
room again by itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from netsync.errors import NetworkError, ProtocolError, unwrapped
from netsync.net.channel import Channel
from netsync.operation import Level
from netsync.oplog.entry import Entry, written_in
from netsync.oplog.follower import Follower, State
from netsync.oplog.log import QUEUE_BYTES, Log
from netsync.wire.mirroring import Acked, Operations, Stream, Sync

SYNC_SECONDS: Final = 1.0
"""How long an operation stays unflushed on a standby if nobody asks."""
SYNC_BYTES: Final = QUEUE_BYTES // 4
"""Bytes after which a flush is asked for if nobody does: one is under way while the next gather."""
GATHER_SECONDS: Final = 0.005
"""How long a little that nobody waits for is kept here, to go with what follows."""
FLUSHES_ASKED: Final = 2
"""With so many not answered (one is under way, and the next has all that it needs) it is no hurry
to ask for another."""

BeforeSending = Callable[[Iterable[bytes]], Awaitable[None]]
"""Is told the paths of files whose data is about to be sent, and notes them durably."""


async def _note_nothing(paths: Iterable[bytes]) -> None:
    del paths


class Streaming:
    """One session of ``follower`` over ``channel``, which has everything up to ``follower.sent``.

    ``before_sending`` is told what files are written, ``in_step`` that the standby has caught up
    with where the log was when the session began, or where a resync has led.
    """

    def __init__(
        self,
        channel: Channel,
        log: Log,
        follower: Follower,
        before_sending: BeforeSending = _note_nothing,
        in_step: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._channel = channel
        self._log = log
        self._follower = follower
        self._before_sending = before_sending
        self._sync_sent = follower.sent
        self._unsynced = 0
        self._asked: deque[int] = deque()
        self._in_step_at: float = log.head
        self._in_step = in_step

    async def run(self, resync: Callable[[], Awaitable[int]] | None = None) -> None:
        """Stream until the session ends, after a ``resync`` if one is due. Raises our errors."""
        await self._channel.send(Stream(self._log.policy.level))
        with unwrapped():
            async with trio.open_nursery() as nursery:
                if resync is not None:
                    self._in_step_at = math.inf
                nursery.start_soon(self.hear)
                if resync is not None:
                    self._in_step_at = await resync()
                    self._sync_sent, self._unsynced = self._follower.sent, 0
                await self.send_all()

    async def send_all(self) -> None:
        """Send operations as they come. Runs until cancelled."""
        while True:
            self._check_standing()
            if batch := self._log.after(self._follower.sent):
                await self._send(batch if self._is_urgent() else await self._gather())
            elif self._log.sync_wanted > self._sync_sent:
                await self._sync()
            elif self._follower.sent > self._sync_sent:
                with trio.move_on_after(SYNC_SECONDS) as waiting:
                    await self._log.wait_work()
                if waiting.cancelled_caught:
                    await self._sync()
            else:
                await self._log.wait_work()

    def _check_standing(self) -> None:
        """Raise ``NetworkError`` if the standby was given up since the session began.

        What came since then is not kept for it, but owed: the next session sends that.
        """
        if self._follower.is_degraded:
            raise NetworkError("the standby was given up before it was in step", op="mirror to",
                               where=self._follower.name)  # fmt: skip

    async def _gather(self) -> list[Entry]:
        """Wait for more to send than the little that is there; return all of it."""
        with trio.move_on_after(GATHER_SECONDS):
            while not self._is_urgent():
                await self._log.wait_more()
        self._check_standing()
        return self._log.after(self._follower.sent)

    def _is_urgent(self) -> bool:
        """Tell whether there is much, or somebody waits whom the next flush could serve.

        Who waits for less than a flush is served by the message.
        """
        sent = self._follower.sent
        waits_for_flush = self._log.policy.level is Level.DURABLE
        if self._log.wanted > sent and not (waits_for_flush and len(self._asked) >= FLUSHES_ASKED):
            return True
        return self._log.is_much(sent)

    async def _send(self, batch: list[Entry]) -> None:
        await self._before_sending(written_in(batch))
        last = batch[-1]
        self._unsynced += sum(entry.size for entry in batch)
        is_wanted = self._log.sync_wanted > self._sync_sent
        is_due = is_wanted or self._unsynced > SYNC_BYTES
        self._follower.sent = last.seq
        if is_due:
            self._asks_for(last.seq)
        await self._channel.send(
            Operations(batch[0].seq, len(batch), last.chain, sync=is_due),
            [part for entry in batch for part in entry.parts],
        )

    async def _sync(self) -> None:
        self._asks_for(self._follower.sent)
        await self._channel.send(Sync(self._sync_sent))

    def _asks_for(self, seq: int) -> None:
        self._sync_sent, self._unsynced = seq, 0
        self._asked.append(seq)

    async def hear(self) -> None:
        """Take acknowledgements. Runs until the session ends; raises why."""
        while True:
            acked = (await self._channel.receive()).message
            if not isinstance(acked, Acked):
                raise ProtocolError("the standby answered something else", op="mirror to")
            if self.believe(acked) and self._in_step is not None:
                await self._in_step()

    def believe(self, acked: Acked) -> bool:
        """Take one acknowledgement; tell whether it brings the standby into step.

        Raises ``ProtocolError`` if it cannot be true, ``NetworkError`` if it comes too late.
        """
        self._check_standing()
        self._follower.check(acked)
        mine = self._log.chain_at(acked.durable)
        if mine != acked.chain and (mine or self._follower.owed is None):
            raise ProtocolError(
                f"the logs have diverged: other chains at operation {acked.durable}",
                op="mirror to",
                where=self._follower.name,
                hint="is another primary writing there? netsync status on the standby says who",
            )
        self._follower.take(acked)
        while self._asked and self._asked[0] <= acked.durable:
            self._asked.popleft()
            self._log.hurry()
        is_new = self._follower.state is not State.SYNC and acked.durable >= self._in_step_at
        if is_new:
            self._follower.owed = None
            self._follower.enter(State.SYNC)
            self._log.trim()
        else:
            self._log.heard()
        return is_new
