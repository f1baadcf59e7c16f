"""Runs that are published at once, in memory: what spoils them, what is gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from netsync.errors import NetworkError, RootError
from netsync.model import Change, DeleteLimit, Item, Options, Problem
from netsync.transfer.lines import Lines
from netsync.transfer.tally import Tally
from netsync.wire.messages import FileEnd, Files, Message, Unsent, WantsEnd
from tests.support.samples import random_bytes, snapshot, write
from tests.support.transfers import Sent, Transfer, transfer
from tests.support.trees import temporaries

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


async def test_a_roll_forward_that_fails_is_gone_on_with(tmp_path: Path) -> None:
    """What comes between after the comparison ends the session; once mended, all is published."""
    source = write(tmp_path / "source", {"a": "1", "b/c": "2"})
    target = write(tmp_path / "target", {"a": "old"})

    def come_between(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, WantsEnd):
            (target / "b").write_text("in the way")
        return [(message, tail)]

    with pytest.raises(RootError, match=r"publish b: .*run is committed: mend this"):
        await Transfer(source, target, ATOMIC, from_target=come_between).run()
    assert (target / "a").read_text() == "old"
    with pytest.raises(RootError, match=r"publish b: .*run is committed: mend this"):
        await transfer(source, target, ATOMIC)
    report = await transfer(source, target, Options(dry_run=True))
    assert any("waits to be published" in notice for notice in report.notices)
    (target / "b").unlink()
    report = await transfer(source, target, Options())
    assert report.files.created == report.files.updated == 0
    assert snapshot(target) == snapshot(source)
    assert temporaries(target) == []


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
