"""The runner of ``watch``: what changes here is there within a moment, and known to be.

Three tasks. One *observes* (``observing``): it holds the source directory, has the kernel tell what
changes, and notes it as owed. One *sends*: it holds the way to the standby and sends what is owed,
paths or a look at the whole, and beats when there is nothing to send. One *records*
(``watch_record``). What must hold:

*Nothing is forgotten.* A path is owed from when its change is heard until a transfer that began
after that was committed; what changes meanwhile is owed anew (``plan/dirty.py``). The journal has
it on disk before it is sent. What cannot be known path by path (a watch that begins, an overflow,
too many paths) is a look at the whole.

*Nothing is claimed.* Up to when all is durable there is said by ``owing`` alone. What is owed goes
with what moves, which is heard before what a transfer took is clean: it may have found a name gone.

*Tombstones are looks.* An event says where to look, never what is there. What is gone is what the
listing did not find when it looked, so what was made anew is not deleted for an event of before.

Times are of a clock that neither jumps nor stops while the machine is suspended; they become the
wall's only where they are told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from netsync.errors import NetsyncError, RootError, unwrapped
from netsync.model import Report
from netsync.modes.asking import Asking, answer
from netsync.modes.attempt import INTERRUPTED, Attempt, Ping
from netsync.modes.copy import Run
from netsync.modes.job import Ask, Done, Job, Site
from netsync.modes.observing import Observing
from netsync.modes.outcome import EXIT_CODES, Outcome, troubled, worst_in_words
from netsync.modes.owing import Owing
from netsync.modes.record import Record
from netsync.modes.renamed import date_back
from netsync.modes.route import route_of
from netsync.modes.session import Connection
from netsync.modes.standby import Standby, over, reached
from netsync.modes.troubles import About, Trouble, Troubles, trouble_from
from netsync.modes.watch_record import WatchRecord
from netsync.plan.dirty import Dirty
from netsync.plan.schedule import next_run
from netsync.transfer.tally import Unobserved
from netsync.tree.glance import Glance, glance
from netsync.tree.threads import in_thread
from netsync.tree.watched import WatchedDirectory
from netsync.wire.messages import Place
from netsync.wire.watching import Beat

GATHER_SECONDS: Final = 0.05
"""How long a first change waits for others."""
BATCH_PATHS: Final = 16_384
"""Paths of one transfer: enough for a burst, few enough to be answered within seconds."""
BEAT_SECONDS: Final = 2.0
"""From one beat to the next, while there is nothing to send."""
SOON_SECONDS: Final = 0.5
"""From a transfer to a beat, so that the standby knows what it has got."""
_REST_SHARE: Final = 4.0
"""A look at the whole that failed is repeated after so many times as long as it took."""
_TROUBLE_MAX: Final = 1000
"""Characters of what is wrong that a standby is told."""
_NOT_BEGUN: Final = Done(INTERRUPTED, "not begun: the watch ends, or the job changes", cut=True)


class WatchRunner:
    """Carries out one job of mode watch; ``ended`` when ``work`` has."""

    def __init__(self, job: Job, record: Record, site: Site, ping: Ping) -> None:
        self._job = job
        self._record = record
        self._site = site
        self._ping = ping
        self._route = route_of(job.source, job.target)
        identity = job.identity or site.identity
        self._connection = Connection(identity, job.connect_timeout, job.timeout)
        self._owing = Owing(site.steady)
        self._troubles = Troubles()
        self._observing = Observing(
            self._route.source, job.options, self._owing, self._troubles, site.steady
        )
        self._books = WatchRecord(job, record, site, self._owing, self._troubles, self._observing)
        self.ended = trio.Event()
        self._news = trio.Event()
        self._asking = Asking(self._owing.bell.ring)
        self._draining = self._ended = self._leaving = False
        self._was_sized = self._lacks_room = False
        self._answered = self._beat_at = 0.0
        self._rests_until = self._look_rests_until = 0.0

    def drain(self) -> None:
        """Begin nothing more; ``work`` returns when what is under way has ended."""
        self._draining = True
        self._owing.bell.ring()

    def leave(self) -> None:
        """Drain, and let the standby know that nothing more is to be expected of this watch."""
        self._leaving = True
        self.drain()

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the standby from being in step, if anything does."""
        return self._troubles.worst

    async def work(self) -> None:
        """Keep the standby in step until cancelled or drained."""
        await self._books.remember()
        try:
            with unwrapped():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._observing.work)
                    nursery.start_soon(self._books.work)
                    await self._send()
                    nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            self._asking.answer_all(_NOT_BEGUN)
            self._announce()
            with trio.CancelScope(shield=True):
                await self._books.end()
            self.ended.set()

    async def ask(self, what: Ask) -> Done:
        """Look at the whole now, or answer once all that was written before is there."""
        if self._ended or self._draining:
            return _NOT_BEGUN
        if what is Ask.BARRIER:
            return await self._barrier()
        return await self._asking.ask()

    async def _barrier(self) -> Done:
        """Answer once nothing is owed of what a drain now hears: all that was done before it."""
        point = self._site.now()
        await self._observing.confirm()
        moment = self._site.steady()
        self._observing.look_into_uncovered()
        self._owing.dirty.hurry(moment)
        self._owing.bell.ring()
        met = self._troubles.count
        while self._observing.directory is None or self._owing.owes(moment):
            worst = self._troubles.worst
            if self._troubles.count > met and worst is not None and not worst.retryable:
                return Done(worst.code, worst.words)
            if self._ended or self._draining:
                return _NOT_BEGUN
            await self._news.wait()
        return Done(0, report=Report(durable=self._job.options.fsync), point=point)

    async def _send(self) -> None:
        """Hold the way to the standby, and find it again whenever it is lost."""
        while not self._draining:
            was_there = False
            try:
                async with reached(self._route.target, self._connection, self._site.now) as standby:
                    self._answered = self._site.steady()
                    self._was_sized = not self._job.options.delete
                    await self._beat(standby)
                    self._books.is_linked = was_there = True
                    await self._keep_in_step(standby)
                    if self._leaving:
                        await self._beat(standby)
            except NetsyncError as error:
                self._books.is_linked = False
                self._meet(About.LINK, trouble_from(error))
                await self._books.keep()
                done = Done(error.exit_code, str(error), retryable=error.retryable)
                self._asking.answer_all(done)
                pause = self._troubles.pause(About.LINK)
                self._lacks_room = isinstance(error, RootError)
                if was_there and not error.retryable:  # then it can be told so meanwhile
                    self._rests_until = self._site.steady() + pause
                    pause = min(pause, BEAT_SECONDS)
                with trio.move_on_after(pause):
                    while not (self._draining or self._asking):
                        await self._owing.bell.wait()

    async def _keep_in_step(self, standby: Standby) -> None:
        while not self._draining:
            now = self._site.steady()
            if self._beat_at <= now:  # first: where something always changes it must be told too
                await self._beat(standby)
                continue
            wait = self._beat_at - now
            rests = self._rests_until > now and not self._asking
            if self._observing.directory is not None and not rests:
                due, look_at = self._owing.dirty.next_due, self._look_at(now)
                if look_at is not None and look_at <= now:
                    await self._look_at_all(standby)
                    continue
                if due is not None and due <= now:
                    await self._send_changes(standby)
                    continue
                wait = min([wait, *(each - now for each in (due, look_at) if each is not None)])
            elif self._asking and self._troubles:
                self._asking.answer_all(self._troubles.as_done())
            with trio.move_on_after(max(0.0, wait)):
                await self._owing.bell.wait()
                await trio.sleep(GATHER_SECONDS)

    async def _beat(self, standby: Standby) -> None:
        """Hear all that has happened, and say how it stands."""
        await self._observing.drain()
        self._owing.settle()
        now = self._site.steady()
        until, backlog = self._owing.until, self._books.backlog
        beat = Beat(
            Place("", b""),  # whoever sends it knows where it sends to
            every=BEAT_SECONDS,
            behind=None if until is None else max(0.0, now - until),
            rested=max(0.0, now - self._answered),
            rpo=self._job.rpo,
            files=backlog.files,
            size=backlog.size,
            trouble=self._troubles.words[:_TROUBLE_MAX],
            leaving=self._leaving,
        )
        heard = await standby.beat(beat)
        self._answered = self._site.steady()
        self._beat_at = self._answered + BEAT_SECONDS
        if heard.entries == 0 and self._owing.is_whole and not self._was_sized:
            self._was_sized = True
            self._owing.owe_look("the standby does not know how large the tree is")
        if not self._owing.owes(now):
            self._troubles.clear(About.LINK)
        self._announce()

    async def _send_changes(self, standby: Standby) -> None:
        """Send the paths that are due, and learn what has become of them."""
        dirty = self._owing.dirty
        async with self._observing.held() as directory:
            if directory is None:
                return
            await self._observing.drain()
            moment = self._site.steady()
            batch = dirty.take(moment, BATCH_PATHS)
            if any(each.tree and not each.path for each in batch):
                self._owing.owe_look_for(batch, "too much changed to name it")
            if not dirty.taken:
                return
            is_done = False
            try:
                await self._books.save_journal()
                paths = [each.path for each in batch]
                seen = await in_thread(glance, directory.root, paths)
                if self._lacks_room and seen.gone:  # what makes room first: deletes are a run's end
                    dirty.put_back(seen.gone)
                    batch = dirty.taken
                run, moves = self._run_for(batch), len(self._owing.moves)
                report = await standby.receive([directory.source()], run)
                del self._owing.moves[:moves]
                await self._observing.drain()  # of what moved on it is known yet what it owes
                await self._date_back(directory, dirty.gone_since(seen.gone))
                is_done = True
            finally:
                if not is_done:
                    dirty.give_back(moment)
        self._learn(report, batch, seen)

    async def _date_back(self, directory: WatchedDirectory, since: float | None) -> None:
        if since is not None:
            await date_back(self._owing, self._observing, directory, since, self._site)

    def _run_for(self, batch: Sequence[Dirty]) -> Run:
        paths = tuple(each.path + b"/" if each.tree else each.path for each in batch)
        moves = () if self._troubles else self._owing.moves_in(batch)
        options = msgspec.structs.replace(self._job.options, paths=paths, changes=True, moves=moves)
        return Run(options, self._connection, Unobserved(), self._site.state)

    def _learn(self, report: Report, batch: Sequence[Dirty], seen: Glance) -> None:
        """Take what became of a batch: clean, failed, or put off for the sake of others.

        After a problem nothing was deleted, so what may be gone is looked at again, without what
        had the problem.
        """
        self._end_transfer()
        self._books.count(report)
        failed, vanished = troubled(report)
        perhaps_gone = seen.gone | {each.path for each in batch if each.tree}
        if report.problems_omitted:
            failed |= {each.path for each in batch}
        about = About.PATHS
        if report.held:
            about = About.HELD
            failed |= perhaps_gone
            self._meet(about, Trouble(EXIT_CODES[Outcome.HELD], report.held, retryable=False))
        elif failed:
            words = worst_in_words(report)
            self._meet(about, Trouble(EXIT_CODES[Outcome.PARTIAL], words, retryable=False))
        now = self._site.steady()
        if failed and not self._owing.dirty.concerns(failed):
            failed |= perhaps_gone  # nothing that could be left out: all has to wait
        undone = perhaps_gone if failed else frozenset()
        self._owing.dirty.done(failed, again=now + self._troubles.pause(about), undone=undone)
        for path in vanished:
            self._owing.dirty.add(path, now)
        if seen.shared and self._job.options.keep.hard_links:
            self._owing.owe_look("a file that has several names changed", rests=True)
        self._lacks_room = self._lacks_room and bool(seen.gone)
        self._troubles.clear(About.LINK)
        self._clear_paths()
        self._owing.settle()
        self._announce()

    def _look_at(self, now: float) -> float | None:
        """Return when a look at the whole is due next; None if none is."""
        if self._asking:
            return now
        times: list[float] = []
        if self._owing.look_since is not None:
            times.append(self._owing.look_at)
        if self._job.schedule is not None:
            wall, handled = self._site.now(), self._record.standing.handled
            planned = next_run(self._job.schedule, handled, wall, self._site.zone)
            times.append(max(self._look_rests_until, now + planned.at - wall))
        return min(times, default=None)

    async def _look_at_all(self, standby: Standby) -> None:
        """Have the standby compare the whole, and send what differs."""
        waiting = self._asking.take()
        done = Done(INTERRUPTED, "the comparison was interrupted", retryable=True, cut=True)
        broke: list[NetsyncError] = []
        try:
            async with self._observing.held() as directory:
                if directory is None:
                    return
                await self._observing.drain()
                begun = self._owing.begin_look()
                await self._books.save_journal()
                site = dataclasses.replace(self._site, transfer=over(standby, directory, broke))
                why = "asked to" if waiting else begun.why or "it is time"
                attempt = Attempt(self._job, self._record, site, self._ping, why)
                try:
                    done = await attempt.run()
                    await self._observing.drain()  # as above
                    await self._date_back(directory, self._owing.looking_since)
                finally:
                    self._learn_look(done, self._site.steady() - begun.at)
            await self._books.save_journal()
        finally:
            answer(waiting, done)
            self._announce()
        if broke:
            raise broke[0]

    def _learn_look(self, done: Done, seconds: float) -> None:
        """Take what a look at the whole came to."""
        self._end_transfer()
        failed, vanished = troubled(done.report or Report())
        if done.point is not None:
            self._owing.end_look(vanished, rest=seconds)
            for about in (About.WHOLE, About.LINK):
                self._troubles.clear(about)
            self._clear_paths()
            return
        pause = 0.0
        if not done.retryable and not done.cut:
            self._meet(About.WHOLE, Trouble(done.code, done.words, retryable=False))
            pause = max(self._troubles.pause(About.WHOLE), _REST_SHARE * seconds)
        self._look_rests_until = self._site.steady() + pause
        known = failed if done.report is not None else None
        self._owing.give_up_look(known, again=self._look_rests_until)

    def _clear_paths(self) -> None:
        if not self._owing.dirty.is_failing:
            self._troubles.clear(About.HELD)
            self._troubles.clear(About.PATHS)

    def _end_transfer(self) -> None:
        """The standby has answered; it is told soon how it stands."""
        self._answered = self._site.steady()
        self._beat_at = min(self._beat_at, self._answered + SOON_SECONDS)

    def _meet(self, about: About, trouble: Trouble) -> None:
        self._troubles.meet(about, trouble)
        self._announce()

    def _announce(self) -> None:
        """Wake whoever waits for something to have happened."""
        news, self._news = self._news, trio.Event()
        news.set()
