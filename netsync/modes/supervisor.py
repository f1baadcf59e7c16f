"""A task for each job: starts runners, replaces them when the configuration changes, drains them.

Jobs are values, so what a reload means follows from comparing: an equal job is not touched, a
changed one is cancelled and begins anew when its old runner has ended, one that is gone is
cancelled, parts from its standby, and is forgotten. A defect in one job is told and ends that job's
runner only, which is started again after a pause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from netsync.errors import StateError, UsageError, defect
from netsync.modes.attempt import Ping
from netsync.modes.job import Job, Mode, Runner, Site, described
from netsync.modes.parting import has_left, leave, leave_others
from netsync.modes.pinging import Pinger, told
from netsync.modes.record import Record, saving_in
from netsync.modes.scheduled import ScheduledRunner
from netsync.modes.scrubbing import Scrubber
from netsync.modes.watch import WatchRunner
from netsync.plan.standing import (
    BEAT_SECONDS,
    Heartbeat,
    Level,
    state_of,
    verdict_of,
)
from netsync.state.jobs import JobStates
from netsync.tree.threads import threads, working_within

log = logging.getLogger("netsync")

DRAIN_SECONDS: Final = 60.0
"""How long runs may take to end when the daemon stops; the server gives its transfers as long."""
RESTART_SECONDS: Final = 30.0
"""From a defect in a job to its next start."""

RUNNERS: Final[Mapping[Mode, Callable[[Job, Record, Site, Ping], Runner]]] = {
    Mode.PULL: ScheduledRunner,
    Mode.PUSH: ScheduledRunner,
    Mode.WATCH: WatchRunner,
}
"""What carries out which mode."""


@dataclass(eq=False)
class _Post:
    """One job under way."""

    job: Job
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    runner: Runner | None = None
    scrubber: Scrubber | None = None
    record: Record | None = None
    level: Level = Level.OK


class Supervisor:
    """Carries out jobs on ``site`` from ``work`` until drained."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._states = JobStates(site.state)
        self._posts: dict[str, _Post] = {}
        self._ending: dict[str, _Post] = {}
        self._nursery: trio.Nursery | None = None
        self._forgetting = trio.Lock()
        self._draining = False
        self._stopped = trio.Event()

    async def work(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what ``apply`` is given; returns once drained."""
        async with trio.open_nursery() as beating:
            beating.start_soon(self._beat)
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._stopped.wait()
                self._nursery.cancel_scope.deadline = trio.current_time() + DRAIN_SECONDS
            beating.cancel_scope.cancel()

    def apply(self, jobs: Mapping[str, Job], site: Site) -> None:
        """Carry out these jobs from now on, and no others; equal ones are not touched."""
        assert self._nursery is not None
        changed_site = site != self.site
        self.site = site
        gone = [self._posts.pop(name) for name in set(self._posts) - set(jobs)]
        for post in gone:
            post.scope.cancel()
            self._ending[post.job.name] = post
        for name, job in jobs.items():
            present = self._posts.get(name)
            if present is not None:
                if present.job == job and not changed_site:
                    continue
                present.scope.cancel()
            former = present or self._ending.get(name)
            post = self._posts[name] = _Post(job)
            self._nursery.start_soon(self._tend, post, former)
        self._nursery.start_soon(self._forget_others, gone)

    def drain(self) -> None:
        """Begin nothing more and let runs end within ``DRAIN_SECONDS``. A second call ends them."""
        for post in self._posts.values():
            if self._draining:
                post.scope.cancel()
            if post.runner is not None:
                post.runner.drain()
        self._draining = True
        self._stopped.set()

    def runner(self, name: str) -> Runner:
        """Return what carries out a job. Raises ``UsageError``."""
        post = self._posts.get(name)
        if post is None or post.runner is None:
            known = ", ".join(sorted(self._posts)) or "none"
            hint = f"jobs are: {known}; SIGHUP makes the daemon read new ones"
            raise UsageError("the daemon has no such job", hint=hint)
        return post.runner

    def scrubber(self, name: str) -> Scrubber:
        """Return what reads a job's trees again. Raises ``UsageError``."""
        self.runner(name)
        scrubber = self._posts[name].scrubber
        assert scrubber is not None  # it is there as long as the runner is
        return scrubber

    @property
    def summary(self) -> str:
        """How the jobs are: a word for each."""
        records = [post.record for _, post in sorted(self._posts.items()) if post.record]
        return ", ".join(f"{each.standing.name} {state_of(each.standing)}" for each in records)

    async def _forget_others(self, ending: Sequence[_Post]) -> None:
        """Forget what is known of jobs that are configured no more, once they have ended."""
        for post in ending:
            await post.ended.wait()
            if self._ending.get(post.job.name) is post:
                del self._ending[post.job.name]
        try:
            identities = {post.job.name: post.job.identity for post in ending}
            async with self._forgetting:  # who comes after us finds forgotten what we have left
                expected = {*self._posts, *self._ending}
                await leave_others(self._states, self.site, expected, identities)
                keep = [*expected, *self._posts]  # some were added meanwhile
                await trio.to_thread.run_sync(self._states.keep_only, keep)
        except StateError as error:
            log.error("%s", error)  # noqa: TRY400 - one line

    async def _tend(self, post: _Post, former: _Post | None) -> None:
        """Carry one job out, over defects, once its former shape has ended."""
        try:
            if former is not None:
                await former.ended.wait()
            with post.scope, working_within(threads()):
                while not await self._carried_out(post):
                    await trio.sleep(RESTART_SECONDS)
        finally:
            post.runner = None
            post.ended.set()

    async def _carried_out(self, post: _Post) -> bool:
        """Carry a job out; return False if a defect ended it."""
        record = post.record = await self._record_of(post.job)
        pinger = Pinger(post.job.ping, record)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pinger.work)
                runner = RUNNERS[post.job.mode](post.job, record, self.site, pinger.tell)
                post.scrubber = Scrubber(post.job, record, self.site)
                post.runner = runner
                if self._draining:
                    runner.drain()
                async with trio.open_nursery() as beside:
                    beside.start_soon(post.scrubber.work)
                    await runner.work()
                    beside.cancel_scope.cancel()
                told(pinger, nursery)
        except Exception as error:
            words = f"{defect(error)}; please report it"
            await record.note("defect", words, running=False, failure=words)
            return False
        return True

    async def _record_of(self, job: Job) -> Record:
        """Return the record of a job, with what was known of it before."""
        try:
            known = await trio.to_thread.run_sync(self._states.standing, job.name)
        except StateError as error:
            log.error("job %s: %s", job.name, error)  # noqa: TRY400 - one line
            known = None
        if known is not None and has_left(known, job):
            assert self._nursery is not None
            self._nursery.start_soon(leave, self._states, self.site, known, job.identity)
        standing = described(job, known)
        record = Record(standing, saving_in(self._states), self.site.now)
        await record.keep()
        return record

    async def _beat(self) -> None:
        """Say again and again that the daemon is alive."""
        failing = False
        while True:
            try:
                await trio.to_thread.run_sync(self._states.beat, self.site.now())
                failing = False
            except StateError as error:
                if not failing:
                    log.error("%s", error)  # noqa: TRY400 - one line
                failing = True
            await trio.sleep(BEAT_SECONDS)
            await self._judge()

    async def _judge(self) -> None:
        """Tell of each job whose verdict is another now: an alarm that nobody has to ask for."""
        now = self.site.now()
        for post in list(self._posts.values()):
            if post.record is None:
                continue
            await post.record.heed_clock()
            verdict = verdict_of(post.record.standing, now, Heartbeat(held=True, beat=now))
            if verdict.level is not post.level:
                post.level = verdict.level
                await post.record.note(verdict.level.name.lower(), verdict.why)
