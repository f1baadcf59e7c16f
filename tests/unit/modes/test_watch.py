"""The runner of a watch, with a standby that does what it is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from netsync.model import Options, Report
from netsync.modes import observing, watch
from netsync.modes.copy import Run
from netsync.modes.job import Ask, Done, Job, Mode, Site
from netsync.modes.record import Record
from netsync.modes.standby import LocalStandby
from netsync.modes.watch import WatchRunner
from netsync.plan.standing import Standing
from netsync.tree.roots import SourceRoot
from netsync.tree.watched import WatchedDirectory
from tests.support.trees import make_tree, needs_mount, small_disk

EPOCH = 1_760_000_000.0


class Standby(LocalStandby):
    """A directory of this host. ``before`` is called before each transfer of changes."""

    def __init__(self, target: Path) -> None:
        super().__init__(bytes(target) + b"/", trio.current_time)
        self.sent: list[tuple[bytes, ...]] = []
        self.before: Callable[[], None] = lambda: None

    async def receive(self, roots: Sequence[SourceRoot], run: Run) -> Report:
        if run.options.changes:
            self.sent.append(run.options.paths or ())
            await wait_all_tasks_blocked()
            self.before()
        return await super().receive(roots, run)


class Watched:
    """A watch of ``source`` that goes on, and its standby."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch, *, delete: bool) -> None:
        self.source = base / "source"
        self.source.symlink_to(make_tree(base / "tree", {"a": b"1"}))
        self.target = base / "target"
        self.standby = Standby(self.target)
        self.answers: list[Done] = []

        @contextlib.asynccontextmanager
        async def reached(*_: object) -> AsyncGenerator[Standby]:
            yield self.standby

        async def saved(*_: object) -> None:
            await trio.lowlevel.checkpoint()

        monkeypatch.setattr(watch, "reached", reached)
        site = Site(base / "identity", base / "state", lambda: EPOCH + trio.current_time(), UTC)
        job = Job(
            name="w", mode=Mode.WATCH, sources=(f"{self.source}/",), target=f"{self.target}/",
            schedule=None, options=Options(delete=delete),
        )  # fmt: skip
        record = Record(Standing(name="w"), saved, site.now)
        self.runner = WatchRunner(job, record, site, lambda _: None)

    async def barrier(self) -> None:
        """Wait until all that was written is at the standby."""
        self.answers.append(await self.runner.ask(Ask.BARRIER))


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch, delete=True)


async def test_a_barrier_is_about_the_directory_that_the_path_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one is in its place, as after a mount, and nobody has noticed yet."""
    monkeypatch.setattr(observing, "LOOK_SECONDS", 0.5)
    watched = Watched(tmp_path, monkeypatch, delete=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.runner.work)
        with trio.fail_after(30):
            await watched.barrier()
            watched.source.unlink()
            watched.source.symlink_to(make_tree(tmp_path / "other", {"b": b"1"}))
            await watched.barrier()
            assert (watched.target / "b").exists()
        nursery.cancel_scope.cancel()
    assert [each.code for each in watched.answers] == [0, 0]


@needs_mount
async def test_a_barrier_holds_for_what_was_mounted_inside_just_now(watched: Watched) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.runner.work)
        with trio.fail_after(30):
            await watched.barrier()
            with small_disk(watched.source / "disk", 1 << 20) as disk:
                (disk / "f").write_bytes(b"1")
                await watched.barrier()
            assert (watched.target / "disk" / "f").exists()
            await watched.barrier()
            assert (watched.target / "disk" / "f").exists(), "nothing deleted it"
            with small_disk(watched.source / "disk", 1 << 20) as disk:
                (disk / "g").write_bytes(b"1")
                await watched.barrier()
            assert (watched.target / "disk" / "g").exists()
            assert not (watched.target / "disk" / "f").exists()
        nursery.cancel_scope.cancel()
    assert [each.code for each in watched.answers] == [0, 0, 25, 0]
    assert "mounted at disk in the source the last time" in watched.answers[2].words


async def test_a_source_that_is_not_there_is_the_answer_to_who_asks_for_a_run(
    watched: Watched,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.runner.work)
        with trio.fail_after(30):
            await watched.barrier()
            (watched.source.parent / "tree").rename(watched.source.parent / "elsewhere")
            while watched.runner.trouble is None:  # the kernel tells it
                await trio.sleep(0.01)
            done = await watched.runner.ask(Ask.RUN)
        nursery.cancel_scope.cancel()
    assert done.code == 11


@pytest.mark.parametrize(("old", "new"), [("f", "g"), ("d/f", "d/g"), ("d", "e")])
async def test_a_barrier_holds_for_what_moves_while_it_is_sent(
    watched: Watched, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written before the call; that its old name is gone there is not that it is there.

    What moved is heard when it is asked for, and no sooner.
    """
    monkeypatch.setattr(WatchedDirectory, "listen", lambda _: trio.sleep_forever())
    source, standby = watched.source, watched.standby
    answered: list[int] = []

    def move() -> None:
        (source / old).rename(source / new)
        standby.before = lambda: answered.append(len(watched.answers))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.runner.work)
        await watched.barrier()
        standby.before = move
        make_tree(source, {"f": b"2"} if old == "f" else {"d": {"f": b"2"}})
        with trio.fail_after(30):
            await watched.barrier()
        nursery.cancel_scope.cancel()
    assert [each.code for each in watched.answers] == [0, 0]
    assert answered == [1], "it was answered before the new name was sent"
    assert not (watched.target / old).exists()
    assert (watched.target / new).exists()
