"""The runner of ``pull`` and ``push``: waits until it is time, then runs; never twice at once.

Three things begin a run: the schedule, somebody who asks, and with ``on_change`` word from the
primary's server. All of them only leave a mark and wake the one loop that runs. Who asks while a
run is under way waits for the next one: it alone is sure to find what was written before. The wall
clock is read anew at least every ``LOOK_SECONDS``, since it may jump (a suspended machine, a clock
that is set) while trio's stands still.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec
import trio

from netsync.errors import NetsyncError
from netsync.modes.address import Remote, parse_address
from netsync.modes.asking import Asking, answer
from netsync.modes.attempt import INTERRUPTED, Attempt, Ping
from netsync.modes.job import Ask, Done, Job, Site
from netsync.modes.noticing import follow
from netsync.modes.record import Record
from netsync.modes.retrying import pause_after, pause_before
from netsync.modes.session import Connection
from netsync.names import shown
from netsync.plan.schedule import Next, Schedule, next_run
from netsync.plan.standing import span
from netsync.wire.watching import Changed

LOOK_SECONDS: Final = 30.0
"""How late a jump of the wall clock may be noticed."""
UNWATCHED_SECONDS: Final = 300.0
"""How often a job fetches that has no schedule and whose source nobody watches."""
QUIET_SECONDS: Final = 3600.0
"""How long a job that fails in the same way again and again need not be told of again."""
_BEHIND_LINKS: Final = (
    "what changes behind the links that are followed is not told; fetched by the schedule as well"
)
_NOT_BEGUN: Final = Done(INTERRUPTED, "not begun: the daemon stops, or the job changes", cut=True)


class ScheduledRunner:
    """Carries out one job of mode pull or push."""

    def __init__(self, job: Job, record: Record, site: Site, ping: Ping) -> None:
        self._job = job
        self._record = record
        self._site = site
        self._ping = ping
        self._wake = trio.Event()
        self._asking = Asking(self._ring)
        self._draining = self._ended = False
        self._in_vain = 0
        self._again_at = self._quiet_until = 0.0

    def drain(self) -> None:
        """Begin nothing more; ``work`` returns when what is under way has ended."""
        self._draining = True
        self._ring()

    def _ring(self) -> None:
        self._wake.set()

    async def work(self) -> None:
        """Run whenever it is time, until cancelled or drained."""
        behind = self._record.standing.behind and self._job.on_change
        await self._record.keep(running=False, live=False, behind=behind, unwatched="")
        try:
            async with trio.open_nursery() as nursery:
                if self._job.on_change:
                    nursery.start_soon(self._notice)
                while (why := await self._time_to_run()) is not None:
                    await self._run(why)
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            self._asking.answer_all(_NOT_BEGUN)

    async def ask(self, what: Ask) -> Done:
        """Run now, or until what was written before is here for certain."""
        in_vain = 0
        while True:
            done = await self._next_run()
            if what is Ask.RUN or done.point is not None or not done.retryable or self._ended:
                return done
            in_vain += 1
            await trio.sleep(pause_before(in_vain, random.random()))  # noqa: S311 - no secret

    async def _next_run(self) -> Done:
        if self._ended or self._draining:
            return _NOT_BEGUN
        return await self._asking.ask()

    async def _time_to_run(self) -> str | None:
        """Wait until a run is to begin, and return why; None once draining."""
        while not self._draining:
            self._wake = trio.Event()
            if self._asking:
                return "asked to"
            await self._record.heed_clock()
            wait = LOOK_SECONDS
            if self._record.standing.behind:
                wait = self._again_at - trio.current_time()
                if wait <= 0:
                    return "the source has changed"
            planned = await self._planned()
            now = self._site.now()
            if planned is not None:
                if planned.at <= now:
                    late = now - planned.at
                    return "it is time" if late < LOOK_SECONDS else f"missed {span(late)} ago"
                wait = min(wait, planned.at - now)
            with trio.move_on_after(min(wait, LOOK_SECONDS)):
                await self._wake.wait()
        return None

    async def _planned(self) -> Next | None:
        """Return when the schedule wants a run, and keep it for all to see."""
        schedule, standing, now = self._schedule(), self._record.standing, self._site.now()
        if schedule is None:
            await self._record.keep(next_run=None)
            return None
        handled = standing.handled
        if handled is None and schedule.cron:
            handled = now
            await self._record.keep(handled=now)
        planned = next_run(schedule, handled, now, self._site.zone)
        if planned.skipped:
            totals = msgspec.structs.replace(standing.totals, missed=standing.totals.missed + 1)
            told = "times that passed are left out"
            await self._record.note("missed", told, handled=now, totals=totals)
        await self._record.keep(next_run=planned.at)
        return planned

    def _schedule(self) -> Schedule | None:
        if self._job.schedule is None and self._record.standing.unwatched:
            return Schedule(every=UNWATCHED_SECONDS)
        return self._job.schedule

    async def _run(self, why: str) -> None:
        """Run once, for all who have asked by now."""
        waiting = self._asking.take()
        done = Done(INTERRUPTED, "the run was interrupted", retryable=True, cut=True)
        quiet = self._in_vain > 0 and not waiting and trio.current_time() < self._quiet_until
        if not quiet:
            self._quiet_until = trio.current_time() + QUIET_SECONDS
        began = trio.current_time()
        try:
            # In one step: an answer of the watch that comes now must not pass for the run's.
            await self._record.keep(behind=False, running=True)
            attempt = Attempt(self._job, self._record, self._site, self._ping, why, quiet)
            done = await attempt.run()
            await self._learn(done, trio.current_time() - began)
        except NetsyncError as error:
            done = Done(error.exit_code, str(error))
            facts = {"running": False, "failure": str(error), "handled": self._site.now()}
            await self._record.note("failed", str(error), **facts)
            await self._learn(done, trio.current_time() - began)
        finally:
            answer(waiting, done)
            if self._record.standing.running:
                with trio.CancelScope(shield=True):
                    await self._record.keep(running=False)

    async def _learn(self, done: Done, seconds: float) -> None:
        """Decide when word of a change may begin the next run.

        A tree that never rests is scanned half of the time at most. A run that failed for a job
        with a watch is tried again, later each time.
        """
        if done.point is not None:
            self._in_vain = 0
            self._again_at = trio.current_time() + seconds
            return
        self._in_vain += 1
        pause = pause_after(self._in_vain, retryable=done.retryable)
        self._again_at = trio.current_time() + pause
        if self._job.on_change:
            await self._record.keep(behind=True)

    async def _notice(self) -> None:
        """Keep the primary's server watching; connect anew whenever that fails."""
        job = self._job
        sources = [each for each in map(parse_address, job.sources) if isinstance(each, Remote)]
        identity = job.identity or self._site.identity
        connection = Connection(identity, job.connect_timeout, job.timeout)
        in_vain = 0
        while True:
            was_live = False
            try:
                await follow(sources, connection, self._site.now, self.hear)
                pause = UNWATCHED_SECONDS
            except NetsyncError as error:
                was_live = self._record.standing.live
                in_vain = 0 if was_live else in_vain + 1
                pause = pause_before(max(1, in_vain), random.random())  # noqa: S311 - no secret
                await self._unwatched(f"the source is not watched: {error}")
            await trio.sleep(pause)

    async def _unwatched(self, why: str) -> None:
        standing = self._record.standing
        if standing.unwatched:
            await self._record.keep(live=False, unwatched=why)
        else:
            await self._record.note("unwatched", why, live=False, unwatched=why)

    async def hear(self, answer: Changed, known_until: float) -> None:
        """Take an answer of the primary's server."""
        standing = self._record.standing
        if not answer.watched:
            why = shown(answer.why.encode())
            await self._unwatched(f"{why}; fetched by the schedule instead")
            return
        if self._job.options.copy_links:
            await self._unwatched(_BEHIND_LINKS)
            if answer.changed:
                await self._record.keep(behind=True)
                self._wake.set()
            return
        if not standing.live:
            told = "the primary tells when something changes"
            await self._record.note("watched", told, live=True, unwatched="")
        if answer.changed:
            await self._record.keep(behind=True)
            self._wake.set()
        elif not (standing.behind or standing.running or standing.failure):
            until = max(known_until, standing.current_until or 0.0)
            if standing.current_until is not None:
                await self._record.keep(current_until=until)
