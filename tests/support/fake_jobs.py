"""A job without disk and network, on a clock that jumps: what a runner is tested with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import trio

from netsync.errors import NetsyncError
from netsync.model import Files, Report
from netsync.modes.copy import Run
from netsync.modes.job import Job, Mode, Site
from netsync.modes.record import Record
from netsync.modes.scheduled import ScheduledRunner
from netsync.plan.schedule import Schedule
from netsync.plan.standing import Standing
from netsync.state.jobs import Event

EPOCH = 1_760_000_000.0
GOOD = Report(files=Files(considered=1), durable=True)


class Bench:
    """One job, its transfers and its record.

    ``ahead`` is how far the wall clock is ahead of trio's: a suspended machine moves it.
    ``outcomes`` are what the next transfers come to; once they are used up all succeed.
    """

    def __init__(self, state: Path, seconds: float = 1.0, **facts: Any) -> None:
        self.ahead = EPOCH
        self.seconds = seconds
        self.outcomes: list[NetsyncError | Report] = []
        self.begun: list[float] = []
        self.under_way = self.most_under_way = 0
        self.pings: list[str] = []
        self.events: list[Event] = []
        self.saved: list[Standing] = []
        self.site = Site(Path("/nowhere"), state, self.now, UTC, self._transfer)
        self.record = Record(Standing(name="web", **facts), self._save, self.now)

    def now(self) -> float:
        """Return the wall clock."""
        return trio.current_time() + self.ahead

    @property
    def standing(self) -> Standing:
        """What is known of the job."""
        return self.record.standing

    @property
    def starts(self) -> list[float]:
        """When runs began, in seconds since the test's beginning on the wall."""
        return [round(moment - EPOCH, 3) for moment in self.begun]

    def job(self, schedule: Schedule | None = None, **more: Any) -> Job:
        """Return a job that pulls."""
        return Job("web", Mode.PULL, ("host::m/",), "/srv/web", schedule, **more)

    def runner(self, job: Job) -> ScheduledRunner:
        """Return what carries ``job`` out."""
        return ScheduledRunner(job, self.record, self.site, self.pings.append)

    def kinds(self) -> list[str]:
        """Return the kinds of events."""
        return [event.kind for event in self.events]

    async def _save(self, standing: Standing, events: Sequence[Event]) -> None:
        await trio.lowlevel.checkpoint()
        self.saved.append(standing)
        self.events += events

    async def _transfer(self, job: Job, run: Run) -> Report:
        del job
        run.begins()
        self.begun.append(self.now())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else GOOD
        if isinstance(outcome, NetsyncError):
            raise outcome
        return outcome
