"""A task for each job: what a reload touches, what a defect does, how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import trio

from netsync.errors import UsageError
from netsync.model import Report
from netsync.modes import parting
from netsync.modes import supervisor as supervisor_module
from netsync.modes.copy import Run
from netsync.modes.job import Ask, Job, Mode, Site, described
from netsync.modes.supervisor import Supervisor
from netsync.plan.schedule import Schedule
from netsync.plan.standing import Standing
from netsync.state.jobs import JobStates


class Hosts:
    """Where transfers would go: they take as long as the test says."""

    def __init__(self, state: Path) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.may_end = trio.Event()
        self.defects = 0
        self.site = Site(Path("/nowhere"), state, lambda: 1_760_000_000.0, UTC, self._transfer)

    async def _transfer(self, job: Job, run: Run) -> Report:
        run.begins()
        self.begun.append(job.name)
        if self.defects:
            self.defects -= 1
            raise ZeroDivisionError("a defect")
        try:
            await self.may_end.wait()
        except trio.Cancelled:
            self.cancelled.append(job.name)
            raise
        self.ended.append(job.name)
        return Report(durable=True)

    async def until(self, condition: Any) -> None:
        """Wait until a condition holds."""
        with trio.fail_after(20):
            while not condition():
                await trio.sleep(0.005)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[Supervisor]:
        """Supervise nothing yet."""
        made = Supervisor(self.site)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.work)
            yield made
            nursery.cancel_scope.cancel()


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def job(name: str, **more: Any) -> Job:
    return Job(name, Mode.PULL, ("h::m/",), f"/srv/{name}", Schedule(every=3600.0), **more)


def jobs(*all_of_them: Job) -> dict[str, Job]:
    return {each.name: each for each in all_of_them}


async def test_equal_jobs_are_not_touched_and_changed_ones_begin_anew(hosts: Hosts) -> None:
    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a"), job("b"), job("c")), hosts.site)
        await hosts.until(lambda: sorted(hosts.begun) == ["a", "b", "c"])
        supervisor.apply(jobs(job("a"), job("b", rpo=9.0), job("d")), hosts.site)
        await hosts.until(lambda: sorted(hosts.begun) == ["a", "b", "b", "c", "d"])
        assert sorted(hosts.cancelled) == ["b", "c"]
        states = JobStates(hosts.site.state)
        await hosts.until(lambda: [each.name for each in states.standings()] == ["a", "b", "d"])
        hosts.may_end.set()
        await hosts.until(lambda: sorted(hosts.ended) == ["a", "b", "d"])


async def test_another_site_begins_all_anew(hosts: Hosts) -> None:
    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a")), hosts.site)
        await hosts.until(lambda: hosts.begun == ["a"])
        supervisor.apply(jobs(job("a")), replace(hosts.site, identity=Path("/other")))
        await hosts.until(lambda: hosts.begun == ["a", "a"])


async def test_a_job_that_goes_and_comes_back_never_runs_beside_itself(hosts: Hosts) -> None:
    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a")), hosts.site)
        await hosts.until(lambda: hosts.begun == ["a"])
        for _ in range(3):
            supervisor.apply({}, hosts.site)
            supervisor.apply(jobs(job("a")), hosts.site)
        await hosts.until(lambda: len(hosts.begun) == 2)
        assert hosts.cancelled == ["a"]
        hosts.may_end.set()
        await hosts.until(lambda: hosts.ended == ["a"])
        assert supervisor.summary == "a WAITING"


async def test_a_defect_ends_that_job_only_which_is_begun_again(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RESTART_SECONDS", 0.01)
    hosts.defects = 1
    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a")), hosts.site)
        states = JobStates(hosts.site.state)
        await hosts.until(lambda: "defect" in [each.kind for each in states.events()])
        (event,) = [each for each in states.events() if each.kind == "defect"]
        assert "ZeroDivisionError: a defect (in " in event.text
        hosts.may_end.set()
        with trio.fail_after(20):
            while (done := await supervisor.runner("a").ask(Ask.RUN)).cut:
                await trio.sleep(0.01)  # it has not begun anew yet
        assert done.code == 0


async def test_draining_waits_for_runs_and_a_second_time_does_not(hosts: Hosts) -> None:
    supervisor = Supervisor(hosts.site)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.work)
            supervisor.apply(jobs(job("a")), hosts.site)
            await hosts.until(lambda: hosts.begun == ["a"])
            supervisor.drain()
            await trio.sleep(0.05)
            assert hosts.cancelled == []
            supervisor.drain()
    assert hosts.cancelled == ["a"]


async def test_a_verdict_that_becomes_another_is_told_once(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to ask: never having run is told, and that all is well again."""
    monkeypatch.setattr(supervisor_module, "BEAT_SECONDS", 0.01)
    states = JobStates(hosts.site.state)

    def told() -> list[str]:
        return [e.kind for e in states.events() if e.kind in ("ok", "warning", "critical")]

    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a", rpo=60.0)), hosts.site)
        await hosts.until(lambda: told() == ["critical"])
        await trio.sleep(0.1)
        hosts.may_end.set()
        await hosts.until(lambda: told() == ["critical", "ok"])


async def test_asking_a_job_that_is_not_there_names_those_that_are(hosts: Hosts) -> None:
    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a")), hosts.site)
        await hosts.until(lambda: hosts.begun == ["a"])
        with pytest.raises(UsageError, match="jobs are: a"):
            supervisor.runner("b")
        hosts.may_end.set()
        assert (await supervisor.runner("a").ask(Ask.RUN)).code == 0


def test_what_is_known_of_other_trees_says_nothing_about_these() -> None:
    known = Standing(name="a", source="h::m/", target="/srv/a", last_point=5.0, rpo=1.0)
    assert described(job("a", rpo=9.0), known).last_point == 5.0
    assert described(job("a", rpo=9.0), known).rpo == 9.0
    elsewhere = replace(job("a"), target="/srv/other")
    assert described(elsewhere, known).last_point is None


async def test_a_watch_that_goes_while_others_are_forgotten_parts_once(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reload forgets is not forgotten by the one before it as well."""
    left: list[str] = []

    async def leave(_states: JobStates, _site: Site, known: Standing, _identity: object) -> None:
        left.append(known.name)
        await trio.sleep(0.05)

    monkeypatch.setattr(parting, "leave", leave)
    states = JobStates(hosts.site.state)
    for name in ("before", "a"):
        states.save(Standing(name=name, mode="watch", source="/srv", target="h::m/"))
    async with hosts.supervised() as supervisor:
        supervisor.apply(jobs(job("a")), hosts.site)
        supervisor.apply({}, hosts.site)
        await hosts.until(lambda: not states.standings())
    assert left == ["before", "a"]
