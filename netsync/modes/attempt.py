"""One run of a job: lock, ``pre``, transfer with its retries, ``post``, and what it came to.

The recovery point that a run makes is the moment its successful attempt began, read before the
source is asked for anything: all that was written before it is in what the source then lists. A
run that left something out makes none, whatever it copied.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import trio

from netsync.errors import TEXT_MAX, NetsyncError, defect, unwrapped
from netsync.model import Problem, Report
from netsync.modes.copy import Run
from netsync.modes.hooks import run_hook
from netsync.modes.job import Done, Job, Site
from netsync.modes.outcome import EXIT_CODES, Outcome, outcome_of
from netsync.modes.record import Record
from netsync.modes.session import Connection
from netsync.names import one_line, shown
from netsync.plan.differing import ROT
from netsync.plan.standing import Totals
from netsync.state import locks
from netsync.transfer.tally import Unobserved

Ping = Callable[[str], None]
"""Tells a monitor elsewhere of a phase: ``start``, ``fail``, or nothing for a good end."""

HOOK_FAILED: Final = 1
"""The exit code of a run that its ``pre`` hook kept from beginning."""
DEFECT: Final = 12
"""The exit code where this program is at fault, as a server tells it."""
INTERRUPTED: Final = 20
_LOCK_LOOK_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 2.0
"""How often what is outstanding is written down while a run goes on."""
_LAST_HOOK_SECONDS: Final = 20.0
"""How long ``post`` may take where the daemon is told to end at once, or the job is replaced."""
_PROBLEMS_TOLD: Final = 20
"""Problems of one run that become events; the others are counted."""


class _Progress(Unobserved):
    """Counts what is outstanding."""

    def __init__(self) -> None:
        self._listed = self._settled = 0

    @property
    def outstanding(self) -> int:
        """Bytes of files that are listed and not yet as they should be."""
        return max(0, self._listed - self._settled)

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        """Take what is known to exist."""
        self._listed = size

    def settled(self, size: int) -> None:
        """Take what is done with."""
        self._settled += size


@dataclass
class Attempt:
    """One run of ``job``. ``why`` is what began it, ``quiet`` one of many that fail alike."""

    job: Job
    record: Record
    site: Site
    ping: Ping
    why: str = ""
    quiet: bool = False
    _said: list[str] = field(default_factory=list)
    _began: float = 0.0
    _rot: str = ""
    _progress: _Progress = field(default_factory=_Progress)

    async def run(self) -> Done:
        """Run, and keep what it came to. Raises ``StateError`` and what is a defect."""
        lock = await self._locked()
        try:
            return await self._run()
        finally:
            lock.release()

    async def _locked(self) -> locks.Lock:
        """Wait until nobody else runs the job."""
        name = locks.of_job(self.job.name)
        waiting = False
        while (lock := locks.take(self.site.state, name)) is None:
            if not waiting:
                await self.record.note("waiting", "another process runs this job just now")
            waiting = True
            await trio.sleep(_LOCK_LOOK_SECONDS)
        return lock

    async def _run(self) -> Done:
        started = self.site.now()
        facts = {
            "job": self.job.name, "mode": self.job.mode.value, "run": secrets.token_hex(8),
            "source": self.job.source, "target": self.job.target, "started": started,
        }  # fmt: skip
        await self._begin(started)
        self.ping("start")
        done = Done(INTERRUPTED, "the run was interrupted (it goes on where it was)", cut=True)
        try:
            done = await self._prepare_and_transfer(facts)
        except Exception as error:
            done = Done(DEFECT, f"{defect(error)}; please report it")
            raise
        finally:
            with trio.CancelScope(shield=True):
                trouble = await self._finish(facts, done)
                await self._settle(done, started, trouble)
        return done

    async def _begin(self, started: float) -> None:
        facts: dict[str, Any] = {"running": True, "started": started}
        if self.quiet:
            await self.record.keep(**facts)
        else:
            await self.record.note("started", self.why or "asked to", **facts)

    async def _prepare_and_transfer(self, facts: dict[str, Any]) -> Done:
        hooks = self.job.hooks
        if hooks.pre and (
            trouble := await run_hook(hooks.pre, {**facts, "phase": "pre"}, hooks.seconds)
        ):
            return Done(HOOK_FAILED, f"not begun, the pre hook said no: {trouble}")
        self._progress = _Progress()
        try:
            with unwrapped():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._tell)
                    report = await self.site.transfer(self.job, self._transfer())
                    nursery.cancel_scope.cancel()
        except NetsyncError as error:
            return Done(error.exit_code, str(error), retryable=error.retryable)
        return await self._judged(report)

    def _transfer(self) -> Run:
        job, site = self.job, self.site
        identity = job.identity or site.identity
        connection = Connection(identity, job.connect_timeout, job.timeout)
        return Run(
            job.options, connection, self._progress, site.state, job.retries,
            self._said.append, self._begins,
        )  # fmt: skip

    def _begins(self) -> None:
        """An attempt begins to scan: what it will have found is as of now."""
        self._began = self.site.now()

    async def _tell(self) -> None:
        """Keep what is outstanding, and what the retries have to say, while it goes on."""
        while True:
            await trio.sleep(_TELL_SECONDS)
            await self._tell_retries()
            await self.record.keep(backlog_bytes=self._progress.outstanding)

    async def _tell_retries(self) -> None:
        while self._said:
            await self.record.note("retry", self._said.pop(0))

    async def _judged(self, report: Report) -> Done:
        """Return what a committed transfer came to, and tell of what failed in it."""
        rotted = [problem for problem in report.problems if problem.op == ROT]
        outcome = outcome_of(report)
        code = EXIT_CODES[outcome]
        if (
            outcome is Outcome.PARTIAL
            and len(rotted) == len(report.problems)
            and not (report.problems_omitted or report.files.failed)
        ):
            return await self._judged_rotten(rotted, report)
        for problem in report.problems[:_PROBLEMS_TOLD]:
            await self.record.note("problem", _in_words(problem))
        if outcome is Outcome.HELD:
            return Done(code, one_line(report.held, TEXT_MAX), report)
        if outcome is Outcome.PARTIAL:
            count = len(report.problems) + report.problems_omitted
            worst = sorted(report.problems, key=lambda problem: problem.vanished)[:1]
            words = ", ".join([f"{count} paths failed", *map(_in_words, worst)])
            return Done(code, f"{words} (netsync events shows more)", report)
        return Done(code, "", report, point=self._began)

    async def _judged_rotten(self, rotted: Sequence[Problem], report: Report) -> Done:
        """Return what a run came to that left nothing out but what has rotted at the source.

        The standby keeps what it has of that: nothing that was written is missing there.
        """
        first = sorted(rotted, key=lambda problem: problem.path)[0]
        files = "1 file has" if len(rotted) == 1 else f"{len(rotted)} files have"
        self._rot = (
            f"{files} rotted at the source and were not sent: {shown(first.path)}"
            f"{', …' if rotted[1:] else ''} (restore or touch them; see netsync events)"
        )
        if self.record.standing.trouble != self._rot:
            for problem in rotted[:_PROBLEMS_TOLD]:
                await self.record.note("rot", _in_words(problem))
        return Done(EXIT_CODES[Outcome.PARTIAL], self._rot, report, point=self._began)

    async def _finish(self, facts: dict[str, Any], done: Done) -> str:
        """Run ``post``, whatever happened; return what is wrong with it."""
        hooks = self.job.hooks
        if not hooks.post:
            return ""
        told = {**facts, "phase": "post", "exit_code": done.code, "error": done.words}
        told["recovery_point"] = done.point
        if done.report is not None:
            told["files"] = msgspec.to_builtins(done.report.files)
            told["bytes"] = msgspec.to_builtins(done.report.bytes)
        seconds = min(hooks.seconds, _LAST_HOOK_SECONDS) if done.cut else hooks.seconds
        trouble = await run_hook(hooks.post, told, seconds)
        return f"the post hook failed: {trouble}" if trouble else ""

    async def _settle(self, done: Done, started: float, trouble: str) -> None:
        """Keep what the run came to, and tell of it."""
        await self._tell_retries()
        before = self.record.standing
        facts: dict[str, Any] = {
            "running": False, "ended": self.site.now(), "exit_code": done.code,
            "failure": "" if done.point is not None else done.words,
            "trouble": "; ".join(filter(None, (trouble, self._rot))),
            "totals": _with_run(before.totals, done),
        }  # fmt: skip
        if not done.cut:
            facts["handled"] = started
        if done.point is not None:
            facts["last_point"] = done.point
            known = before.current_until or 0.0
            is_past = known <= facts["ended"]  # else the clock was set back
            facts["current_until"] = max(done.point, known) if is_past else done.point
            facts["backlog_files"] = facts["backlog_bytes"] = 0
        if trouble:
            await self.record.note("hook", trouble)
        if done.point is None and self.quiet and before.failure == done.words:
            await self.record.keep(**facts)
        elif done.point is None:
            await self.record.note("failed", f"exit code {done.code}: {done.words}", **facts)
        else:
            await self.record.note("finished", _in_figures(done.report), **facts)
        if not done.cut:
            self.ping("" if done.point is not None else "fail")


def _in_words(problem: Problem) -> str:
    return f"{problem.op} {shown(problem.path)}: {one_line(problem.error, TEXT_MAX)}"


def _in_figures(report: Report | None) -> str:
    if report is None:
        return "done"
    files, size = report.files, report.bytes
    return (
        f"{files.considered} entries, {files.created} created, {files.updated} updated, "
        f"{files.deleted} deleted, {size.literal} bytes of data"
    )


def _with_run(totals: Totals, done: Done) -> Totals:
    totals = added(totals, done.report or Report())
    failures = totals.failures + (done.point is None)
    return msgspec.structs.replace(totals, runs=totals.runs + 1, failures=failures)


def added(totals: Totals, report: Report) -> Totals:
    """Return ``totals`` with what a transfer did."""
    files, size = report.files, report.bytes
    return msgspec.structs.replace(
        totals,
        literal=totals.literal + size.literal,
        matched=totals.matched + size.matched,
        wire_sent=totals.wire_sent + size.wire_sent,
        wire_received=totals.wire_received + size.wire_received,
        created=totals.created + files.created,
        updated=totals.updated + files.updated,
        deleted=totals.deleted + files.deleted,
    )
