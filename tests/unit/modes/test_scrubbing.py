"""The scrubber of a job, on a fake clock: when it reads what, and what it tells of that."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from netsync.errors import NetworkError
from netsync.model import Bytes, Cause, Change, Item, Options, Problem, Report
from netsync.modes.copy import Run
from netsync.modes.job import Job, Mode
from netsync.modes.scrubbing import Scrubber, scrub_options
from netsync.plan.differing import ROT, is_in, rotted_words
from netsync.plan.scrub import Pace
from netsync.plan.standing import Standing
from netsync.state.jobs import Event
from tests.support.fake_jobs import Bench

HOURLY = Pace(24, 3600.0)
SOURCE, TARGET = rotted_words("source", "2026-01-01"), rotted_words("target", "2026-01-01")


class Trees(Bench):
    """A job whose files are as the test says."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.rotten: dict[bytes, str] = {}
        self.diverged: list[bytes] = []
        self.down = False
        self.kept = 0
        self.before_kept: Callable[[], None] | None = None
        self.asked: list[Options] = []
        self.site = dataclasses.replace(self.site, transfer=self._verify)

    async def _save(self, standing: Standing, events: Sequence[Event]) -> None:
        self.kept += 1
        if self.before_kept is not None:
            self.before_kept()
            self.before_kept = None
            await trio.sleep(0.01)
        await super()._save(standing, events)

    async def _verify(self, job: Job, run: Run) -> Report:
        del job
        self.asked.append(run.options)
        self.begun.append(self.now())
        await trio.sleep(1)
        if self.down:
            raise NetworkError("no route to host")
        part = run.options.slice
        mine = [path for path in self.rotten if part is None or is_in(path, part)]
        items = [Item(Change.UPDATED, path, cause=Cause.DIVERGED) for path in self.diverged]
        run.observer.items([item for item in items if part is None or is_in(item.path, part)])
        run.observer.items([Item(Change.UPDATED, b"e", cause=Cause.EDITED_AT_SOURCE)])
        problems = tuple(Problem(path, ROT, self.rotten[path]) for path in mine)
        return Report(problems=problems, bytes=Bytes(total=100), dry_run=True)

    def scrubber(self, pace: Pace | None = HOURLY) -> Scrubber:
        job = Job("web", Mode.PULL, ("host::m/",), "/srv/web", scrub=pace)
        return Scrubber(job, self.record, self.site)

    @contextlib.asynccontextmanager
    async def scrubbed(self, pace: Pace | None = HOURLY) -> AsyncIterator[Scrubber]:
        """Scrub meanwhile."""
        scrubber = self.scrubber(pace)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrubber.work)
            yield scrubber
            nursery.cancel_scope.cancel()

    @property
    def parts(self) -> list[int]:
        return [options.slice.index for options in self.asked if options.slice]

    def told(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.kind == kind]


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


async def test_each_part_has_its_turn_and_a_round_is_told(
    trees: Trees, autojump_clock: MockClock
) -> None:
    async with trees.scrubbed():
        await trio.sleep(24 * 3600 + 300)
    assert trees.parts == [*range(24), 0][: len(trees.parts)]
    assert len(trees.parts) >= 24
    gaps = {round(b - a) for a, b in zip(trees.begun, trees.begun[1:], strict=False)}
    assert gaps <= set(range(3600, 3640))
    assert len(trees.told("scrubbed")) == 1
    scrub = trees.standing.scrub
    assert scrub is not None
    assert (scrub.rounds, scrub.bytes) == (1, 100 * len(trees.parts))


async def test_a_restart_goes_on_where_it_was(trees: Trees, autojump_clock: MockClock) -> None:
    async with trees.scrubbed():
        await trio.sleep(3 * 3600 + 300)
    done = len(trees.parts)
    trees.ahead += 5 * 3600  # the daemon is away: what was missed is not made up for at once
    async with trees.scrubbed():
        await trio.sleep(300)
    assert trees.parts == [*range(done), done]


async def test_a_part_that_was_cut_is_read_again(trees: Trees, autojump_clock: MockClock) -> None:
    async with trees.scrubbed():
        await trio.sleep(60.5)
    async with trees.scrubbed():
        await trio.sleep(300)
    assert trees.parts == [0, 0]


async def test_findings_are_told_once_and_again_when_well(
    trees: Trees, autojump_clock: MockClock
) -> None:
    async with trees.scrubbed():
        trees.rotten = {b"a": SOURCE, b"b\n": TARGET}
        trees.diverged = [b"d"]
        await trio.sleep(3 * 24 * 3600)
        scrub = trees.standing.scrub
        assert scrub is not None
        assert {(each.path, each.what) for each in scrub.found} == {
            (b"a", "rotted at the source"),
            (b"b\n", "rotted at the target"),
            (b"d", "differs though size and time are the same: only --checksum brings it"),
        }
        assert sorted(trees.told("rot"))[:2] == [
            "a: rotted at the source", "b\\012: rotted at the target",
        ]  # fmt: skip
        assert len(trees.told("rot")) == 3
        trees.rotten.pop(b"a")
        await trio.sleep(25 * 3600)
        assert trees.told("mended") == ["a is well again"]
        assert len(trees.standing.scrub.found) == 2  # type: ignore[union-attr]  # it is there


async def test_a_scrub_by_hand_reads_all_and_takes_turns(
    trees: Trees, autojump_clock: MockClock
) -> None:
    trees.rotten = {b"a": SOURCE}
    async with trees.scrubbed() as scrubber:
        await trio.sleep(60.5)  # in the middle of a part
        done = await scrubber.ask()
        assert (done.code, done.words) == (
            23, "a: rotted at the source (netsync events shows all)",
        )  # fmt: skip
        assert [options.slice is None for options in trees.asked] == [False, True]
        assert len(trees.told("scrubbed")) == 1
        trees.rotten = {}
        assert (await scrubber.ask()).code == 0
        assert trees.standing.scrub is not None
        assert trees.standing.scrub.found == ()
        trees.down = True
        failed = await scrubber.ask()
        assert (failed.code, failed.retryable) == (10, True)


async def test_who_asks_is_answered_when_the_job_ends(
    trees: Trees, autojump_clock: MockClock
) -> None:
    """In the middle of the scrub, and afterwards."""
    results: list[int] = []

    async def ask(scrubber: Scrubber) -> None:
        results.append((await scrubber.ask()).code)

    async with trio.open_nursery() as nursery:
        async with trees.scrubbed(None) as scrubber:
            await trio.sleep(5)
            nursery.start_soon(ask, scrubber)
            await trio.sleep(0.5)
        assert (await scrubber.ask()).code == 20
    assert results == [20]


async def test_a_server_that_is_away_is_told_once_and_asked_again(
    trees: Trees, autojump_clock: MockClock
) -> None:
    trees.down = True
    async with trees.scrubbed():
        await trio.sleep(3600)
        assert len(trees.told("scrub")) == 1
        assert set(trees.parts) == {0}
        assert len(trees.parts) == 6
        trees.down = False
        await trio.sleep(5000)
        assert trees.parts[-1] == 1
        assert trees.standing.scrub is not None
        assert trees.standing.scrub.failure == ""


async def test_a_clock_that_is_set_back_stops_no_scrub(
    trees: Trees, autojump_clock: MockClock
) -> None:
    async with trees.scrubbed():
        await trio.sleep(120)
        trees.ahead -= 30 * 86400
        await trio.sleep(2 * 3600)
    assert len(trees.parts) >= 2


async def test_a_job_without_scrubs_keeps_what_one_by_hand_found(
    trees: Trees, autojump_clock: MockClock
) -> None:
    trees.rotten = {b"a": SOURCE}
    async with trees.scrubbed(None) as scrubber:
        await trio.sleep(7200)
        assert trees.asked == []
        await scrubber.ask()
    async with trees.scrubbed(None) as scrubber:
        await trio.sleep(7200)
        assert trees.standing.scrub is not None
        assert trees.standing.scrub.wrong == 1
        trees.rotten = {}
        await scrubber.ask()
    async with trees.scrubbed(None):
        await trio.sleep(60)
    assert trees.standing.scrub is None


def test_a_scrub_changes_nothing_whatever_the_job_does() -> None:
    job = Options(
        delete=True, delete_excluded=True, atomic=True, size_only=True, ignore_existing=True,
        update=True, numeric_ids=True,
    )  # fmt: skip
    options = scrub_options(job, None)
    assert options.verify
    assert options.dry_run
    assert options.contradiction() == ""
    assert not options.delete
    assert not options.delete_excluded
    assert not options.ignore_existing
    assert options.numeric_ids
    whole = msgspec.structs.replace(job, delete_excluded=False)
    assert not scrub_options(whole, None).size_only


async def test_who_asks_while_it_is_looked_what_is_due_is_heard_at_once(
    trees: Trees, autojump_clock: MockClock
) -> None:
    """The question comes while what is known is being kept, and nobody waits yet."""
    async with trees.scrubbed() as scrubber, trio.open_nursery() as nursery:
        await trio.sleep(10)
        trees.ahead -= 86400  # so that there is something to keep
        known = trees.kept
        trees.before_kept = lambda: nursery.start_soon(scrubber.ask)
        while trees.kept == known:
            await trio.sleep(0.1)
        asked = trio.current_time()
        while not any(options.slice is None for options in trees.asked):
            await trio.sleep(0.1)
        assert trio.current_time() - asked < 1
