"""The runner of a watch, with a standby that does what it is told."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from netsync.model import Options, Report
from netsync.modes import observing, owing, watch
from netsync.modes.copy import Run
from netsync.modes.job import Ask, Done, Job, Mode, Site
from netsync.modes.record import Record
from netsync.modes.standby import LocalStandby
from netsync.modes.watch import WatchRunner
from netsync.plan.standing import Standing
from netsync.tree.roots import SourceRoot
from netsync.tree.watched import WatchedDirectory
from tests.support.trees import make_tree, needs_mount, small_disk


class Standby(LocalStandby):
    """A directory of this host.

    ``before`` is called before each transfer of changes, ``around`` around each look at the whole.
    """

    def __init__(self, target: Path) -> None:
        super().__init__(bytes(target) + b"/", trio.current_time)
        self.sent: list[tuple[bytes, ...]] = []
        self.before: Callable[[], None] = lambda: None
        self.around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext

    async def receive(self, roots: Sequence[SourceRoot], run: Run) -> Report:
        if run.options.changes:
            self.sent.append(run.options.paths or ())
            await wait_all_tasks_blocked()
            self.before()
            return await super().receive(roots, run)
        with self.around():
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
        site = Site(base / "identity", base / "state", time.time, UTC)
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


def relink(source: Path) -> None:
    """Give ``f`` another name in two steps that nothing connects."""
    os.link(source / "f", source / "g")
    (source / "f").unlink()


def relink_into_a_directory(source: Path) -> None:
    (source / "g").mkdir()
    os.link(source / "f", source / "g" / "f")
    (source / "f").unlink()


def move_out_and_in(source: Path) -> None:
    (source / "f").rename(source.parent / "outside")
    (source.parent / "outside").rename(source / "g")


@contextlib.asynccontextmanager
async def told_by_a_barrier(watched: Watched) -> AsyncGenerator[trio.Nursery]:
    """In step, ``f`` is new; then what the body has arranged happens, and a barrier holds."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.runner.work)
        await watched.barrier()
        make_tree(watched.source, {"f": b"2"})
        yield nursery
        with trio.fail_after(30):
            await watched.barrier()
        nursery.cancel_scope.cancel()
    assert [each.code for each in watched.answers] == [0, 0]


@pytest.mark.parametrize("rename", [relink, relink_into_a_directory, move_out_and_in])
async def test_a_barrier_holds_for_what_got_another_name_while_it_was_sent(
    watched: Watched, rename: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without a move: that the name is gone there is not that its content is there."""
    monkeypatch.setattr(WatchedDirectory, "listen", lambda _: trio.sleep_forever())
    source, standby = watched.source, watched.standby
    answered: list[int] = []

    def act() -> None:
        rename(source)
        standby.before = lambda: answered.append(len(watched.answers))

    async with told_by_a_barrier(watched):
        standby.before = act
    assert answered == [1], "it was answered before the new name was sent"
    assert not (watched.target / "f").exists()
    assert (watched.target / "g").exists()


async def test_a_barrier_holds_for_what_a_look_at_the_whole_missed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there while that went on, and came back under another name."""
    monkeypatch.setattr(owing, "HEARD_SECONDS", 0.0)  # it came in less time than that
    monkeypatch.setattr(WatchedDirectory, "listen", lambda _: trio.sleep_forever())
    source, standby = watched.source, watched.standby
    answered: list[int] = []

    @contextlib.contextmanager
    def missed() -> Iterator[None]:
        (source / "f").rename(source.parent / "outside")
        yield
        (source.parent / "outside").rename(source / "g")
        standby.before = lambda: answered.append(len(watched.answers))

    async with told_by_a_barrier(watched) as nursery:
        standby.around = missed
        nursery.start_soon(watched.runner.ask, Ask.RUN)
    assert answered == [1], "it was answered before the new name was sent"
    assert (watched.target / "g").exists()


async def test_what_is_new_is_owed_since_it_was_made_whatever_went_before(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names come and go all the time the lag is not that of the first of them."""
    monkeypatch.setattr(WatchedDirectory, "listen", lambda _: trio.sleep_forever())
    source, standby = watched.source, watched.standby
    sent: list[tuple[bytes, ...]] = []

    def act() -> None:
        (source / "f").unlink()
        make_tree(source, {"new": b"3", "d": {"new": b"3"}})
        standby.before = lambda: sent.append(standby.sent[-1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.runner.work)
        await watched.barrier()
        make_tree(source, {"f": b"2"})
        standby.before = act
        with trio.fail_after(30):
            await watched.barrier()
            assert standby.sent == [(b"f",)]
            assert not sent, "the barrier does not wait for what was made after it"
            await watched.barrier()
        nursery.cancel_scope.cancel()
    assert {*sent[0]} == {b"f", b"d/", b"new"}
    assert sorted(os.listdir(watched.target)) == ["a", "d", "new"]
