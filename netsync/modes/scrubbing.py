"""Reading a job's trees again, part by part, beside whatever carries the job out.

A scrub is a verification of a part of the files: a transfer that changes nothing, over the same
addresses and with the same selection as the job's runs. What ordinary runs bring to an end by
themselves (edits, names that are new or gone) is none of its business. What they never will is
kept and told: files that have rotted, on either side, those whose content differs though size and
time say they are the same, and those the disk does not give back. A path is told once, and again
when it is well. One scrub goes on at a time, in the task of ``work``; it takes no lock, since it
changes nothing.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from netsync.errors import PARTIAL_EXIT, NetsyncError
from netsync.model import Cause, Item, Options, Report, Slice
from netsync.modes.asking import Asking, answer
from netsync.modes.attempt import INTERRUPTED
from netsync.modes.copy import Run
from netsync.modes.job import Done, Job, Site
from netsync.modes.record import Record
from netsync.modes.session import Connection
from netsync.names import shown
from netsync.plan.differing import ROT, WORDS, is_in
from netsync.plan.scrub import Finding, Pace, Scrubbing, renewed
from netsync.plan.standing import span
from netsync.transfer.tally import Unobserved

FIRST_SECONDS: Final = 60.0
"""From the start of a job to its first part: runs have the disk for themselves first."""
LOOK_SECONDS: Final = 30.0
"""How late a jump of the wall clock may be noticed."""
AGAIN_SECONDS: Final = 600.0
"""From a scrub that failed to the next."""
_DIVERGED_MAX: Final = 1000
"""Differences kept of one part, as many as there are problems in a report."""
_LOST: Final = os.strerror(errno.EIO)


_CUT: Final = Done(INTERRUPTED, "not finished: the daemon stops, or the job changes", cut=True)


class _Differences(Unobserved):
    """Keeps the paths that differ and look the same."""

    def __init__(self) -> None:
        self.diverged: list[bytes] = []

    def items(self, items: Sequence[Item]) -> None:
        """Take itemized lines."""
        found = [item.path for item in items if item.cause is Cause.DIVERGED]
        self.diverged += found[: _DIVERGED_MAX - len(self.diverged)]


class Scrubber:
    """Scrubs the trees of one job; ``record`` is the job's."""

    def __init__(self, job: Job, record: Record, site: Site) -> None:
        self._job = job
        self._record = record
        self._site = site
        self._wake = trio.Event()
        self._asking = Asking(self._ring)
        self._ended = False

    async def work(self) -> None:
        """Scrub a part whenever one is due, and all whenever somebody asks, until cancelled."""
        pace = self._job.scrub
        try:
            await (self._rest() if pace is None else self._begin(pace))
            while True:
                self._wake = trio.Event()  # before looking: who asks meanwhile is not waited for
                if waiting := self._asking.take():
                    done = _CUT
                    try:
                        done = await self.whole()
                    finally:
                        answer(waiting, done)
                elif pace is not None and await self._is_due(pace):
                    await self._part(pace)
                else:
                    await self._wait(pace)
        finally:
            self._ended = True
            self._asking.answer_all(_CUT)

    async def ask(self) -> Done:
        """Have all files scrubbed by ``work``, and return what it came to."""
        if self._ended:
            return _CUT
        return await self._asking.ask()

    def _ring(self) -> None:
        self._wake.set()

    async def _rest(self) -> None:
        """Let nothing be due for a job that has no scrubs, and keep what one by hand has found."""
        known = self._record.standing.scrub
        if known is not None:
            kept = msgspec.structs.replace(known, parts=0, due=None) if known.wrong else None
            await self._record.keep(scrub=kept)

    async def whole(self) -> Done:
        """Scrub all files now, and return what it came to."""
        try:
            report, found = await self._scrub(None)
        except NetsyncError as error:
            return Done(error.exit_code, str(error), retryable=error.retryable)
        before = self._known()
        fresh = msgspec.structs.replace(before, more=0, done=self._site.now())
        scrub = renewed(fresh, found, before.found)
        await self._settle(before, _with(scrub, report, rounds=1))
        if found:
            words = f"{shown(found[0].path)}: {found[0].what}"
            more = f" and {len(found) - 1} more" if found[1:] else ""
            return Done(PARTIAL_EXIT, f"{words}{more} (netsync events shows all)", report)
        return Done(0, report=report)

    def _known(self) -> Scrubbing:
        now = self._site.now()
        return self._record.standing.scrub or Scrubbing(0, now)

    async def _begin(self, pace: Pace) -> None:
        """Go on where an earlier daemon was, unless the pace is another."""
        known, now = self._record.standing.scrub, self._site.now()
        if known is None:
            known = Scrubbing(pace.parts, now)
        elif known.parts != pace.parts:
            known = msgspec.structs.replace(known, parts=pace.parts, part=0)
        due = max(known.due or 0.0, now + min(FIRST_SECONDS, pace.seconds))
        await self._record.keep(scrub=msgspec.structs.replace(known, due=due))

    def _left(self) -> float:
        """Return the seconds until a part is due."""
        now = self._site.now()
        return (self._known().due or now) - now

    async def _is_due(self, pace: Pace) -> bool:
        left = self._left()
        if left > max(pace.seconds, AGAIN_SECONDS):  # the clock was set back
            due = self._site.now() + pace.seconds
            await self._record.keep(scrub=msgspec.structs.replace(self._known(), due=due))
        return left <= 0

    async def _wait(self, pace: Pace | None) -> None:
        """Wait until there may be something to do."""
        seconds = math.inf if pace is None else min(self._left(), LOOK_SECONDS)
        with trio.move_on_after(max(0.0, seconds)):
            await self._wake.wait()

    async def _part(self, pace: Pace) -> None:
        before = self._known()
        part = Slice(before.part % pace.parts, pace.parts)
        try:
            report, found = await self._scrub(part)
        except NetsyncError as error:
            await self._fail(before, str(error))
            return
        before, now = self._known(), self._site.now()
        if part.index == 0:
            before = msgspec.structs.replace(before, more=0)  # counted anew in each round
        looked_at = [each for each in before.found if is_in(each.path, part)]
        following = (part.index + 1) % pace.parts
        scrub = msgspec.structs.replace(
            renewed(before, found, looked_at), part=following, due=now + pace.seconds, done=now
        )
        await self._settle(before, _with(scrub, report, rounds=int(not following)))

    async def _fail(self, before: Scrubbing, why: str) -> None:
        due = self._site.now() + AGAIN_SECONDS
        scrub = msgspec.structs.replace(before, failure=why, due=due)
        if before.failure:
            await self._record.keep(scrub=scrub)
        else:
            words = f"not done, tried again in {span(AGAIN_SECONDS)}: {why}"
            await self._record.note("scrub", words, scrub=scrub)

    async def _scrub(self, part: Slice | None) -> tuple[Report, list[Finding]]:
        """Verify a part of the files, or all, and return what is wrong. Raises ``NetsyncError``."""
        job, site = self._job, self._site
        identity = job.identity or site.identity
        differences = _Differences()
        run = Run(
            scrub_options(job.options, part),
            Connection(identity, job.connect_timeout, job.timeout),
            differences,
            site.state,
        )
        report = await site.transfer(job, run)
        found = {
            problem.path: problem.error.partition(":")[0]
            for problem in report.problems
            if problem.op == ROT
        }
        for problem in report.problems:
            if problem.error == _LOST:
                found[problem.path] = f"cannot be read: {problem.error}"
        for path in differences.diverged:
            found.setdefault(path, WORDS[Cause.DIVERGED])
        return report, [Finding(path, what) for path, what in sorted(found.items())]

    async def _settle(self, before: Scrubbing, scrub: Scrubbing) -> None:
        """Keep what is known now, and tell what is new in it."""
        await self._record.keep(scrub=scrub)
        known = {each.path: each for each in before.found}
        for each in scrub.found:
            if known.pop(each.path, None) != each:
                await self._record.note("rot", f"{shown(each.path)}: {each.what}")
        for path in known:
            await self._record.note("mended", f"{shown(path)} is well again")
        if scrub.rounds > before.rounds:
            well = "all are well" if not scrub.wrong else f"{scrub.wrong} are not well"
            words = f"all files were read on both sides: {well}"
            await self._record.note("scrubbed", words)


def scrub_options(options: Options, part: Slice | None) -> Options:
    """Return what a job's options mean for a scrub of ``part``: the same files, nothing written."""
    return msgspec.structs.replace(
        options, verify=True, dry_run=True, checksum=True, itemize=True, slice=part,
        delete=False, delete_before=False, delete_excluded=False, max_delete=None,
        atomic=False, inplace=False, size_only=False, ignore_times=False,
        ignore_existing=False, existing=True, update=False,
    )  # fmt: skip


def _with(scrub: Scrubbing, report: Report, *, rounds: int) -> Scrubbing:
    return msgspec.structs.replace(
        scrub, failure="", bytes=scrub.bytes + report.bytes.total, rounds=scrub.rounds + rounds
    )
