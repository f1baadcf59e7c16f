"""A primary's link to one standby: connect, agree where the log goes on, stream; and again.

What is agreed on depends on what the standby says it has:

* everything up to an operation that the log still knows, with the same chain: the rest is sent;
* less, since it was degraded: what it is owed is sent, and it is in step again (``resyncing``);
* another log, or too much is owed: writers wait while the trees are compared.

A cut is no news: the link tries again, a little later each time, and at once where all was well
before. That somebody else is the primary closes the log for writers for good (``fence``), and at
the start anything does that only people can mend; then nothing more is tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from netsync.errors import NetsyncError, ProtocolError, RefusedError
from netsync.mirror.comparing import Comparison, compare
from netsync.mirror.memory import Memory, flush
from netsync.mirror.wanted import WantedMirror
from netsync.modes.address import Remote
from netsync.modes.session import session
from netsync.net.channel import StreamChannel
from netsync.oplog.follower import Follower, State
from netsync.oplog.log import Log
from netsync.oplog.resyncing import Resyncing
from netsync.oplog.streaming import Streaming
from netsync.wire.mirroring import MIRROR_FEATURE, Adopt, Mirror, Mirrored

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts: a standby that restarts is found at once, one that is down soon."""
HOPELESS_PAUSE: Final = 30.0
"""The same where it seems that only people can help, after some attempts."""
_FENCE: Final = "mirror to"
"""What a standby that follows another primary was asked to do, in its own words."""


@dataclass(frozen=True)
class Primary:
    """An open mirror: its log, the backing directory's descriptor, and what is remembered."""

    log: Log
    root: int
    memory: Memory


class Pauses:
    """How long to wait before each next attempt, since all was well."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, took: float, *, retryable: bool) -> float:
        """Return the seconds to wait after an attempt of ``took`` seconds that failed.

        What looks hopeless may be mended by the next attempt, which compares; so the first ones
        follow soon. But writers wait while trees are compared: at least half of the time is theirs.
        """
        limit = LONGEST_PAUSE if retryable else HOPELESS_PAUSE
        if retryable and took > LONGEST_PAUSE:
            self._next = FIRST_PAUSE
        pause = min(self._next, limit)
        self._next = min(2 * pause, limit)
        return pause if retryable else min(max(pause, took), limit)


class Link:
    """Keeps ``follower`` in step with the primary's log, over sessions with ``remote``."""

    def __init__(
        self, wanted: WantedMirror, remote: Remote, follower: Follower, primary: Primary
    ) -> None:
        self._wanted = wanted
        self._remote = remote
        self._follower = follower
        self._log = primary.log
        self._memory = primary.memory
        self._root = primary.root
        self._adopts = wanted.adopt

    async def keep(self) -> None:
        """Connect and stream, again and again. Runs until cancelled, or refused for good."""
        pauses = Pauses()
        while self._follower.fence is None:
            began = trio.current_time()
            try:
                async with session(self._remote, self._wanted.connection) as channel:
                    await self._serve(channel)
            except NetsyncError as error:
                if self._follower.state is State.SYNC:
                    pauses = Pauses()
                self._lost(error)
                pause = pauses.after(trio.current_time() - began, retryable=error.retryable)
                await trio.sleep(pause)

    def _lost(self, error: NetsyncError) -> None:
        """The session is over, or could not begin."""
        follower = self._follower
        is_new = follower.state is State.STARTING
        is_fenced = isinstance(error, RefusedError) and error.op == _FENCE
        if is_fenced or (is_new and not error.retryable):
            follower.fence = error
        if follower.owed is not None:
            self._log.owe_again(follower)
            follower.enter(State.DEGRADED, str(error))
        elif is_new:
            follower.words = str(error)
        else:
            follower.enter(State.LOST, str(error))
        self._log.tell()

    async def _serve(self, channel: StreamChannel) -> None:
        """Agree where the log goes on, and stream until the session ends."""
        if MIRROR_FEATURE not in channel.features:
            raise RefusedError("the server cannot be a standby: its netsync is too old",
                               op="talk to", where=channel.peer)  # fmt: skip
        have = await self._ask(channel)
        resync = None
        if have.generation != self._memory.record.generation or self._must_compare(have):
            await self._compare(channel, have)
        elif self._follower.owed is None:
            self._resume(have)
        else:
            self._follower.begins_at(have.seq)
            resync = self._resyncing(channel).run
        await Streaming(
            channel, self._log, self._follower, self._memory.note_written, self._in_step
        ).run(resync)

    def _must_compare(self, have: Mirrored) -> bool:
        """Tell whether what is owed is not known well enough."""
        owed = self._follower.owed
        return owed is not None and (bool(owed.whole) or owed.chains.get(have.seq) != have.chain)

    def _resyncing(self, channel: StreamChannel) -> Resyncing:
        note = self._memory.note_written
        return Resyncing(channel, self._log, self._follower, self._root, note)

    async def _in_step(self) -> None:
        await self._memory.in_step(self._follower.name)

    async def _ask(self, channel: StreamChannel) -> Mirrored:
        record, name = self._memory.record, self._follower.name
        parents = await self._memory.will_tell(name)
        await channel.send(
            Mirror(
                self._remote.place, record.generation, record.epoch,
                head=self._log.head, parents=parents, adopt=self._adopts,
            )
        )  # fmt: skip
        have = await _mirrored(channel)
        self._adopts = False  # once let in it is known; who lets in another since means that
        await self._memory.has_told(name)
        return have

    def _resume(self, have: Mirrored) -> None:
        """Send again from where the standby is. Raises ``ProtocolError`` if that is nowhere."""
        mine = self._log.chain_at(have.seq)
        if mine != have.chain or have.seq < self._follower.durable:
            raise ProtocolError(
                f"the logs have diverged: the standby is at operation {have.seq}, which is not "
                f"that of this log (1 to {self._log.head}, acknowledged {self._follower.durable})",
                op=_FENCE, where=self._follower.name,
                hint="restart the mirror: everything is compared then",
            )  # fmt: skip
        self._follower.begins_at(have.seq)

    async def _compare(self, channel: StreamChannel, have: Mirrored) -> None:
        """Make the trees equal while nobody writes, and go on from the log's head."""
        follower, log = self._follower, self._log
        log.pause()
        try:
            await self._memory.note_under_way(log)
            comparison = Comparison(
                self._wanted.source, self._remote.place, have.complete, self._wanted.state,
                self._memory.suspect, self._wanted.adopt,
            )  # fmt: skip
            await compare(channel, comparison)
            await trio.to_thread.run_sync(flush, self._root)  # a power cut here takes none of it
            await channel.send(Adopt(log.head, log.chain))
            await _mirrored(channel)
            follower.enter(State.RESYNC)
            follower.owed = None
            follower.begins_at(log.head)
        finally:
            log.go_on()


async def _mirrored(channel: StreamChannel) -> Mirrored:
    answer = (await channel.receive()).message
    if not isinstance(answer, Mirrored):
        raise ProtocolError("the standby answered something else", op="mirror to")
    return answer
