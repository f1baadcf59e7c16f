"""Runs that are published at once, in memory: what spoils them, what is gone on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from netsync.errors import NetworkError
from netsync.model import Change, DeleteLimit, Item, Options, Problem
from netsync.transfer.lines import Lines
from netsync.transfer.resumption import Resumption
from netsync.transfer.tally import Tally
from netsync.tree.roots import TargetRoot
from netsync.tree.stage_directory import SessionDirectory
from netsync.wire.messages import FileEnd, Files, Message, Unsent, WantsEnd
from tests.support.samples import random_bytes, snapshot, write
from tests.support.transfers import Sent, Transfer, transfer
from tests.support.trees import opened, temporaries
from tests.unit.tree.test_roll_forward import check, committed

ATOMIC = Options(atomic=True, delete=True, itemize=True)


def vanish(message: Message, tail: bytes) -> Sequence[Sent]:
    """Say of the first entry, a small file, that it vanished before it was read."""
    if not isinstance(message, Files) or message.files[0].number != 1:
        return [(message, tail)]
    head = message.files[0]
    problem = Problem(b"a", "read", "no such file or directory", vanished=True)
    rest = Files(message.files[1:])
    return [(Unsent([head.number], [problem]), b""), (rest, tail[head.size :])]


async def test_a_vanished_file_publishes_nothing(tmp_path: Path) -> None:
    """Not even what came; the report counts nothing as done and tells no line but the failure."""
    source = write(tmp_path / "source", {"a": "1", "b": "2", "new/c": "3"})
    target = write(tmp_path / "target", {"b": "old", "gone": "x"})
    before = snapshot(target)
    run = Transfer(source, target, ATOMIC, from_source=vanish)
    report = await run.run()
    assert snapshot(target) == before
    files = report.files
    assert (files.created, files.updated, files.metadata, files.deleted) == (0, 0, 0, 0)
    assert (files.failed, files.unchanged, files.considered) == (1, 3, 4)
    assert not report.durable
    assert [line.change for line in run.watch.lines] == [Change.FAILED]
    assert [problem.vanished for problem in report.problems] == [True]
    assert temporaries(target) == []


def cut(message: Message, tail: bytes) -> Sequence[Sent]:
    """End the connection before the end of the first large file."""
    if isinstance(message, FileEnd):
        raise NetworkError("cut")
    return [(message, tail)]


async def test_a_cut_changes_nothing(tmp_path: Path) -> None:
    """What had come stays in the stage; the next run needs no more than the rest."""
    source = write(tmp_path / "source", {"large": random_bytes(6 << 20, 1), "small": "s"})
    target = write(tmp_path / "target", {"large": "old", "gone": "x"})
    before = snapshot(target)
    with pytest.raises(NetworkError):
        await Transfer(source, target, ATOMIC, from_source=cut).run()
    assert {p: f for p, f in snapshot(target).items() if b".netsync" not in p} == before
    await transfer(source, target, ATOMIC)
    assert snapshot(target) == snapshot(source)
    assert temporaries(target) == []


async def test_large_files_of_a_run_that_came_to_nothing_do_not_come_again(tmp_path: Path) -> None:
    """They wait like the partials of any run; small ones are swept."""
    source = write(tmp_path / "source", {"large": random_bytes(6 << 20, 1), "small": "s"})
    target = write(tmp_path / "target", {"gone": "x", "gone too": "y"})
    held = msgspec.structs.replace(ATOMIC, max_delete=DeleteLimit(1))
    report = await transfer(source, target, held)
    assert report.held
    assert report.bytes.literal > 6 << 20
    assert len(list(target.glob(".netsync/*/*"))) == 1
    report = await transfer(source, target, ATOMIC)
    assert report.bytes.literal == 1
    assert snapshot(target) == snapshot(source)
    assert temporaries(target) == []


def between(change: Callable[[], object]) -> Callable[[Message, bytes], Sequence[Sent]]:
    """Return what does ``change`` after the comparison and before the end."""

    def come_between(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, WantsEnd):
            change()
        return [(message, tail)]

    return come_between


def put_into(root: Path) -> None:
    (root / "was empty" / "precious").write_text("p")


def make_it_a_directory(root: Path) -> None:
    (root / "was a file").unlink()
    write(root, {"was a file/precious": "p"})


CAME_BETWEEN: dict[str, Callable[[Path], object]] = {
    "b": lambda root: (root / "b").write_text("in the way"),
    "was empty": put_into,
    "was a file": make_it_a_directory,
    "restated": lambda root: (root / "precious").rename(root / "restated"),
}


@pytest.mark.parametrize("what", CAME_BETWEEN)
async def test_what_changes_while_a_run_is_prepared_publishes_nothing(
    tmp_path: Path, what: str
) -> None:
    """What the run has not seen is neither removed nor changed: it is a problem of its path."""
    source = write(tmp_path / "source", {
        "a": "1", "b/c": "2", "was empty": "f", "was a file/x": "3", "restated": "r",
    })  # fmt: skip
    target = write(tmp_path / "target", {
        "a": "old", "was empty": None, "was a file": "f", "restated": "r",
        "precious": "p",
    })  # fmt: skip
    mtime = (source / "restated").stat().st_mtime_ns
    os.utime(target / "restated", ns=(0, mtime))
    (target / "restated").chmod(0o600)
    changed: list[object] = []
    act = CAME_BETWEEN[what]

    def change() -> None:
        act(target)
        changed.append(snapshot(target))

    options = Options(atomic=True)
    report = await Transfer(source, target, options, from_target=between(change)).run()
    assert what.encode() in [problem.path for problem in report.problems]
    assert "nothing was published" in " ".join(report.notices)
    now = {p: f for p, f in snapshot(target).items() if not p.startswith(b".netsync")}
    before = changed[0]
    assert isinstance(before, dict)
    assert now == {p: f for p, f in before.items() if not p.startswith(b".netsync")}


def test_a_run_that_died_while_we_waited_for_it_is_finished_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed between the first look and the hold does not wait behind this run."""
    with opened(tmp_path) as fd:
        resumption = Resumption(TargetRoot(fd, b"", exists=True), b"", Options(atomic=True))
        hold = resumption.stage.hold

        def held_late() -> SessionDirectory | None:
            committed(tmp_path, fd).close()
            return hold()

        monkeypatch.setattr(resumption.stage, "hold", held_late)
        resumption.open()
        resumption.close()
        check(tmp_path, "")
        assert not (tmp_path / ".netsync").exists()


async def test_nothing_to_do_commits_nothing(tmp_path: Path) -> None:
    """Equal trees need no journal, and the stage that was made leaves no trace."""
    source = write(tmp_path / "source", {"a": "1", "b/c": "2"})
    target = tmp_path / "target"
    target.mkdir()
    await transfer(source, target, ATOMIC)
    before = snapshot(target)
    report = await transfer(source, target, ATOMIC)
    assert report.files.unchanged == report.files.considered == 3
    assert snapshot(target) == before


def test_lines_wait_until_they_are_true() -> None:
    """All of them come if the run is published, else only those that failed."""
    made, failed = Item(Change.CREATED, b"a"), Item(Change.FAILED, b"b")
    for published, expected in ((True, [failed, made]), (False, [failed])):
        lines, tally = Lines(waits=True), Tally(items=[made, failed])
        assert lines.take(tally) == []
        assert [each for some in lines.let_go(published=published) for each in some] == expected
        lines.close()
    lines, tally = Lines(waits=False), Tally(items=[made, failed])
    assert lines.take(tally) == [made, failed]
    assert list(lines.let_go(published=True)) == []
    lines.close()
