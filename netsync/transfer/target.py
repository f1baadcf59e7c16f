"""The target's role: compare, want, land, finish; the same for push, pull and local copies.

Four tasks share a channel. One receives and sorts what comes into two queues: listings, bounded
by the credit granted, and file data, bounded at ``_DATA_FRAMES`` of at most 2 MiB. One compares
listings in a worker thread and asks for files, at most ``WANTED_FILES`` at once. One signs the
bases of deltas. One lands file data in a worker thread of its own. Only the receiver may wait
for the landing, and the source's receiver never waits at all, so neither end can block the other.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final, TypeAlias

import msgspec
import trio

from netsync.errors import ProtocolError
from netsync.model import Report
from netsync.net.channel import Channel, Received
from netsync.plan.compare import Policy
from netsync.transfer.arriving import Arrivals
from netsync.transfer.awaited import Awaited
from netsync.transfer.comparing import Compared, Comparer
from netsync.transfer.credit import CREDIT, Credit
from netsync.transfer.deferring import Deferral
from netsync.transfer.finishing import IN_THE_WAY, Finisher, notices_of, report
from netsync.transfer.guarding import UNGUARDED, Guarding, Guards
from netsync.transfer.handing import hand_on
from netsync.transfer.judging import Judge
from netsync.transfer.landing import Lander
from netsync.transfer.lines import Lines
from netsync.transfer.moving import Mover
from netsync.transfer.neighbours import Neighbours
from netsync.transfer.relocating import relocate
from netsync.transfer.renames import Renames
from netsync.transfer.resumption import Resumption
from netsync.transfer.signatures import Signatures
from netsync.transfer.tally import Observer, Tally
from netsync.transfer.telling import Telling
from netsync.transfer.wanted import Wanted
from netsync.tree.backup import check_backup_directory
from netsync.tree.roots import TargetRoot
from netsync.tree.threads import in_thread
from netsync.wire import messages as m
from netsync.wire import reuse
from netsync.wire.fine import WantFine
from netsync.wire.order import State

WANTED_FILES: Final = 16 * 1024
"""Files wanted and not settled."""
_DATA_FRAMES: Final = 4
_IDLE_FLUSH_SECONDS: Final = 1.0
"""A batch that waits longer than this for company is flushed as it is."""

OpenRoot: TypeAlias = Callable[[bool], TargetRoot]
"""Opens the destination, told whether a single file comes."""


class Target:
    """One transfer's target. ``resumption``, which is open, is of a root that is the caller's."""

    def __init__(
        self,
        channel: Channel,
        resumption: Resumption,
        file_name: bytes,
        policy: Policy,
        observer: Observer,
        guards: Guards,
    ) -> None:
        options = policy.options
        self._judge = Judge("target", guards.verified, options)
        destination = resumption.destination
        root = destination.root
        self._channel = channel
        self._options = options
        self._root = root
        self._file_name = file_name
        self._awaited = Awaited()
        self._progress = trio.Condition()
        self._resumption = resumption
        self._renames = Renames(root, options)
        tallies = Tally(options.itemize), Tally(options.itemize)
        self._comparer = Comparer(destination, self._renames, policy, tallies[0], self._judge)
        self._lander = Lander(destination, self._awaited, tallies[1])
        self._mover = Mover(root, self._lander, self._renames)
        self.arrivals = Arrivals(self._lander, self._mover)
        self._guards = guards
        self._finisher = Finisher(destination, self._comparer, self._lander, guards)
        self._lines = Lines(waits=options.atomic)
        self._telling = Telling(channel, observer, self._lines, self._tallies)
        self._deferral = Deferral()
        self._signatures = Signatures(channel, root, options, self._progress, self._notify)
        self._listings: deque[m.List | m.Relisted | None] = deque()
        self._credit = Credit(self._comparer.unfolding)
        self._end = m.ListEnd(complete=False)
        self._all_wanted = False
        self._untold = 0  # wanted files the source was not told the end of

    def close(self) -> None:
        """Drop what is staged and let go of descriptors."""
        for owner in (
            self._mover, self._lander, self._comparer, self._renames, self._finisher,
            self._signatures, self._deferral, self._lines, self._resumption,
        ):  # fmt: skip
            owner.close()

    @property
    def _tallies(self) -> tuple[Tally, Tally, Tally]:
        return self._comparer.tally, self._lander.tally, self._finisher.tally

    async def run(self, offer: m.Offer) -> Report:
        """Receive the tree that ``offer`` opened; return the report that was committed."""
        try:
            return await self._run(offer)
        finally:
            with trio.CancelScope(shield=True):  # what was seen so far is worth remembering
                await in_thread(self._judge.close)

    async def _run(self, offer: m.Offer) -> Report:
        await in_thread(self._begin, offer)
        terms = await in_thread(self._comparer.offer_digests)
        await self._channel.send(m.Start(CREDIT, self._file_name, terms))
        data_in, data_out = trio.open_memory_channel[Received](_DATA_FRAMES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, data_in)
            nursery.start_soon(self._land, data_out)
            nursery.start_soon(self._signatures.run)
            await self._compare()
        await in_thread(self._finish)
        for tally in self._tallies:
            await self._telling.tell([], tally)
        published = self._finisher.published
        await self._telling.let_go(published=published)
        final = report(self._options, self._tallies, self._guards.held, published=published)
        await self._channel.send(m.Committed(final))
        await in_thread(self._lander.release)
        self._channel.order.finish()
        return final

    def _begin(self, offer: m.Offer) -> None:
        """Take the root's metadata, and what earlier attempts counted."""
        if self._options.backup_dir:
            check_backup_directory(self._root, self._options.backup_dir)
        relocate(self._root, self._options)
        self._renames.begin()
        self._comparer.begin(offer)
        self._resumption.begin(self._tallies)

    def _delete(self) -> None:
        self._finisher.delete(complete=self._end.complete)
        self._finisher.tally.note()

    def _finish(self) -> None:
        if not self._options.delete_before:
            self._delete()
        self._judge.close()
        self._finisher.notice([*notices_of(self._end), *self._judge.notices])
        self._finisher.finish()

    async def _receive(self, data: trio.MemorySendChannel[Received]) -> None:
        """Sort what the source sends until its ``End``."""
        async with data:
            while True:
                received = await self._channel.receive()
                match received.message:
                    case m.List() | m.Relisted() as listing:
                        self._credit.take(listing)
                        await self._enqueue(listing)
                    case m.ListEnd() as end:
                        self._end = end
                        await self._enqueue(None)
                    case WantFine() as question:
                        self._signatures.ask(question)
                        await self._notify()
                    case m.End():
                        break
                    case _:
                        await hand_on(data, received)
        if not self._all_wanted or len(self._awaited):
            raise ProtocolError("the source ended before all was sent", op="receive")

    async def _enqueue(self, listing: m.List | m.Relisted | None) -> None:
        self._listings.append(listing)
        await self._notify()

    async def _notify(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def _compare(self) -> None:
        """Compare listings as they come and want what differs."""
        unfolding = self._comparer.unfolding
        ended = False
        while not ended or unfolding.awaits:
            async with self._progress:
                while not self._listings or len(self._awaited) >= WANTED_FILES:
                    await self._progress.wait()
            listing = self._listings.popleft()
            if listing is None:
                ended = True
                continue
            compared = await in_thread(self._compare_one, listing)
            await self._want(compared, self._credit.give_back(listing))
        if not unfolding.all_ended:
            raise ProtocolError("the listing ended with directories open", op="receive")
        unfolding.close()  # data may come for hours
        self._telling.listed(self._comparer.tally, complete=True)
        if self._options.delete_before:
            await self._delete_before()
        await self._want_waiting()
        while True:
            async with self._progress:
                while self._untold or self._signatures.is_busy:
                    await self._progress.wait()
            failed, self._lander.fates.failed_groups = self._lander.fates.failed_groups, set()
            wanted = await in_thread(self._comparer.linker.promoted, failed)
            if not wanted:
                break
            await self._ask(wanted, [], unfolding.decided)
        self._all_wanted = True
        self._signatures.end()
        await self._notify()
        await self._channel.send(m.WantsEnd())

    def _compare_one(self, listing: m.List | m.Relisted) -> Compared:
        """Compare one message; with ``--delete-before`` its wants wait."""
        compared = self._comparer.compare(listing)
        self._comparer.tally.note()
        if not self._options.delete_before:
            return compared
        for wanted in compared.whole:
            assert isinstance(wanted, Wanted)  # neighbours do not wait for deletes
            self._deferral.put(wanted, delta=False)
        for wanted in compared.deltas:
            self._deferral.put(wanted, delta=True)
        return Compared([], [], compared.decided)

    async def _delete_before(self) -> None:
        """Delete before any data is asked for, then ask for what waited."""
        await in_thread(self._delete)
        await self._telling.tell([], self._finisher.tally)
        parts = self._deferral.parts(self._finisher.cleared)
        while (part := await in_thread(next, parts, None)) is not None:
            for wanted in part.blocked:
                self._comparer.tally.fail(wanted.path, "replace", IN_THE_WAY)
                self._comparer.tally.settled += wanted.entry.size
                self._lander.fates.failed_groups.update({wanted.entry.link} - {0})
            await self._room()
            whole, deltas = await in_thread(self._resumption.equip, part.whole, part.deltas)
            await self._ask(whole, deltas, self._comparer.unfolding.decided)
            await self._notify()

    async def _room(self) -> None:
        async with self._progress:
            while len(self._awaited) >= WANTED_FILES:
                await self._progress.wait()

    async def _want(self, compared: Compared, entries: int) -> None:
        """Ask for what the comparison found, return its credit, tell what it changed."""
        for relist in self._credit.asks():
            await self._channel.send(relist)
        await self._ask(compared.whole, compared.deltas, compared.decided)
        if entries:
            await self._channel.send(m.Credit(entries))
        await self._notify()
        self._telling.listed(self._comparer.tally, complete=False)
        await self._telling.tell([], self._comparer.tally)

    async def _want_waiting(self) -> None:
        """Ask for the new files that had to wait until it was known which names go."""
        await in_thread(self._renames.look, self._comparer.dooming.doomed)
        while (batch := await in_thread(self._renames.next_batch)) is not None:
            await self._room()
            await self._ask(batch[0], [], self._comparer.unfolding.decided)
            if asked := batch[1]:
                self._expect(asked)
                self._mover.expect(asked)
                await self._channel.send(reuse.WantDigests([wanted.number for wanted in asked]))

    def _expect(self, files: Iterable[Wanted | Neighbours]) -> None:
        self._untold += self._awaited.add(files)

    async def _ask(
        self, whole: Sequence[Wanted | Neighbours], deltas: list[Wanted], decided: int
    ) -> None:
        self._expect((*whole, *deltas))
        numbers = list(chain.from_iterable(each.numbers for each in whole))
        await self._channel.send(m.Wants(numbers, [wanted.number for wanted in deltas], decided))
        self._signatures.extend(deltas)

    async def _land(self, data: trio.MemoryReceiveChannel[Received]) -> None:
        """Stage file data as it comes; flush and publish it in batches."""
        with contextlib.suppress(trio.EndOfChannel):
            while True:
                await in_thread(self.arrivals.take, await self._next_data(data))
                self._telling.under_way(self._lander.under_way)
                await self._settle()
                while self._mover.is_busy:
                    await in_thread(self._mover.work)
                    await self._settle()

    async def _next_data(self, data: trio.MemoryReceiveChannel[Received]) -> list[Received]:
        """Return what file data has come; nothing means that the batch should be flushed now."""
        received: list[Received] = []
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while len(received) < _DATA_FRAMES:
                received.append(data.receive_nowait())
        if received:
            return received
        if not self._lander.batched:
            return [await data.receive()]
        if self._lander.batched < len(self._awaited):
            with trio.move_on_after(_IDLE_FLUSH_SECONDS):
                return [await data.receive()]
        return []

    async def _settle(self) -> None:
        """Tell the source what has landed, and ask again for what did not verify."""
        again, self._lander.fates.again = self._lander.fates.again, []
        signed, self._lander.fates.to_sign = self._lander.fates.to_sign, []
        if signed:
            await self._channel.send(m.Wants([], [wanted.number for wanted in signed], 0))
            self._signatures.extend(signed)
            await self._notify()
        if again:
            await self._channel.send(m.Wants([wanted.number for wanted in again], [], 0))
        settled, self._lander.fates.settled = self._lander.fates.settled, []
        if settled:
            await self._telling.tell(settled, self._lander.tally)
            self._untold -= len(settled)
            self._signatures.settled(settled, self._lander.ignored)
            await self._notify()


async def receive_tree(
    channel: Channel,
    open_root: OpenRoot,
    policy: Policy,
    observer: Observer,
    guarding: Guarding = UNGUARDED,
    run: bytes = b"",
) -> Report:
    """Be the target of one transfer and return the report that was committed.

    ``open_root`` opens the destination once it is known whether a single file comes; the
    descriptor it returns is closed here. ``guarding`` is what holds deletes back beside the
    options. ``run`` is the token of a run that may be repeated if it is cut: the report is about
    all of its attempts. Raises ``NetsyncError`` when the session ends early.
    """
    channel.order.begin(State.SOURCE_OFFERS)
    offer = (await channel.receive()).message
    assert isinstance(offer, m.Offer)
    if policy.asked is not None:
        policy.asked.check_root(offer.root)
    root = await in_thread(open_root, offer.single_file)
    try:
        resumption = Resumption(root, run, policy.options, guarding.pending)
        target: Target | None = None
        try:
            await in_thread(resumption.open)
            guards = Guards(guarding, policy.options, offer)
            if policy.asked is not None:
                policy = msgspec.structs.replace(policy, asked=policy.asked.renamed(root.file_name))
            target = Target(channel, resumption, root.file_name, policy, observer, guards)
            return await target.run(offer)
        except BaseException as error:
            if target is not None:
                await target.arrivals.salvage(error)
            raise
        finally:
            with trio.CancelScope(shield=True):
                await in_thread((target or resumption).close)
    finally:
        os.close(root.fd)
