"""One report about several attempts: what an earlier one did is counted once, as what it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from netsync.errors import NetworkError
from netsync.model import Change, Files, Item, Options, Report
from netsync.transfer.ledger import Ledger
from netsync.transfer.target import receive_tree
from netsync.tree.publication import recover
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.support.transfers import Meddle, Sent, Transfer
from tests.support.trees import Value, make_tree, opened, read_tree, temporaries


def opened_ledger(path: Path) -> Ledger:
    return Ledger(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND))


def test_what_is_noted_is_known_to_the_next(tmp_path: Path) -> None:
    first = opened_ledger(tmp_path / "l")
    assert first.earlier(b"a") is None
    first.note([(Change.CREATED, b"a"), (Change.FAILED, b"b"), (Change.DELETED, b"c")], 5, 6)
    first.note([(Change.METADATA, b"d")], 1, 0)
    first.note_partial(b"e", 77)
    first.close()
    second = opened_ledger(tmp_path / "l")
    known = [second.earlier(path) for path in (b"a", b"b", b"c", b"d")]
    assert known == [Change.CREATED, None, None, Change.METADATA]
    assert (second.deleted, second.literal, second.matched) == (1, 6, 6)
    assert (second.earlier_literal(b"e"), second.earlier_literal(b"a")) == (77, 0)
    second.close()


@pytest.mark.parametrize("torn", [1, 8, 9, 10])
def test_a_record_that_was_cut_is_no_record(tmp_path: Path, torn: int) -> None:
    first = opened_ledger(tmp_path / "l")
    first.note([(Change.CREATED, b"a")], 0, 0)
    first.note_partial(b"e", 77)
    first.close()
    os.truncate(tmp_path / "l", os.path.getsize(tmp_path / "l") - torn)
    second = opened_ledger(tmp_path / "l")
    assert second.earlier(b"a") is Change.CREATED
    assert second.earlier_literal(b"e") == 0
    second.close()


@pytest.mark.parametrize("lost", [b"\0" * 18, b"\xff" * 9, b"\0" * 4, b"+123", b"p" * 9])
def test_what_a_full_disk_or_a_power_cut_leaves_is_where_the_ledger_ends(
    tmp_path: Path, lost: bytes
) -> None:
    """It is not flushed, so there may be anything: what was sound counts, and goes on."""
    first = opened_ledger(tmp_path / "l")
    first.note([(Change.CREATED, b"a")], 3, 0)
    first.close()
    with (tmp_path / "l").open("ab") as file:
        file.write(lost)
    second = opened_ledger(tmp_path / "l")
    assert (second.earlier(b"a"), second.literal) == (Change.CREATED, 3)
    second.note([(Change.UPDATED, b"b")], 0, 0)
    second.close()
    third = opened_ledger(tmp_path / "l")
    assert [third.earlier(path) for path in (b"a", b"b")] == [Change.CREATED, Change.UPDATED]
    third.close()


RUN = b"r" * 16


class Repeated:
    """Attempts of one run, the first ones cut after so many messages of the source."""

    def __init__(self, base: Path, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.target = base / "source", base / "target"
        self.options = options
        self.lines: list[Item] = []

        async def receive(*given: Any, **more: Any) -> Report:
            more["run"] = RUN
            return await receive_tree(*given, **more)

        monkeypatch.setattr("tests.support.transfers.receive_tree", receive)

    async def attempt(self, cut: Meddle | None = None) -> Report:
        run = Transfer(self.source, self.target, self.options, from_source=cut)
        try:
            return await run.run()
        finally:
            self.lines += run.watch.lines


def cut_before(kind: type[Message], count: int = 1) -> Meddle:
    left = [count]

    def meddle(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, kind):
            left[0] -= 1
            if not left[0]:
                raise NetworkError("cut")
        return [(message, tail)]

    return meddle


async def test_the_report_of_a_run_that_was_cut_is_that_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: dict[str, Value] = {
        "new": b"x" * 10,
        "dir": {"in": b"y" * 300_000},
        "link": "new",
        "changed": b"new",
    }
    trees = []
    for name in ("cut", "whole"):
        make_tree(tmp_path / name / "source", {**table, "same": b"1"})
        target = make_tree(tmp_path / name / "target", {"changed": b"older", "same": b"1"})
        make_tree(target, {"gone": {"file": b"z"}})
        for tree in ("source", "target"):
            os.utime(tmp_path / name / tree / "same", ns=(0, 1))
        trees.append(tmp_path / name)
    options = Options(delete=True, fsync=False, itemize=True)
    run = Repeated(trees[0], options, monkeypatch)
    for cut in (cut_before(m.ListEnd), cut_before(m.FileEnd), cut_before(m.End)):
        with pytest.raises(NetworkError):
            await run.attempt(cut)
    report = await run.attempt()
    other = Repeated(trees[1], options, monkeypatch)
    whole = await other.attempt()
    assert report == whole
    assert report.files == Files(considered=6, created=4, updated=1, unchanged=1, deleted=2)
    assert {(item.change, item.path) for item in run.lines} == {
        (item.change, item.path) for item in other.lines
    }
    assert read_tree(trees[0] / "target") == {**table, "same": b"1"}
    assert temporaries(trees[0]) == []


async def test_a_failure_of_an_earlier_attempt_that_is_mended_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "source", {"f": b"1", "g": b"2"})
    make_tree(tmp_path / "target", {"f": {"in the way": b"x"}})
    run = Repeated(tmp_path, Options(fsync=False, itemize=True), monkeypatch)
    with pytest.raises(NetworkError):
        await run.attempt(cut_before(m.End))
    (tmp_path / "target" / "f" / "in the way").unlink()
    report = await run.attempt()
    assert report.problems == ()
    assert report.files == Files(considered=2, created=2)


@pytest.mark.parametrize("server_restarts", [False, True])
async def test_a_run_published_at_once_is_told_of_by_the_attempt_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, server_restarts: bool
) -> None:
    """It died after the commit; whoever publishes it, its next attempt reports what it changed."""
    reports = []
    for name in ("cut", "whole"):
        source = make_tree(
            tmp_path / name / "source", {"new": b"x", "d": {"in": b"y"}, "c": b"new"}
        )
        make_tree(tmp_path / name / "target", {"c": b"older", "gone": {"file": b"z"}})
        run = Repeated(
            tmp_path / name, Options(delete=True, atomic=True, itemize=True), monkeypatch
        )
        if name == "cut":
            with monkeypatch.context() as dying:

                def die(*_: object) -> None:
                    raise NetworkError("died")

                dying.setattr("netsync.transfer.preparing.carry_out", die)
                with pytest.raises(NetworkError):
                    await run.attempt()
            assert not (run.target / "new").exists()
            if server_restarts:
                with opened(run.target) as fd:
                    recover(fd)
                assert (run.target / "new").exists()
        reports.append(await run.attempt())
        assert read_tree(run.target) == read_tree(source)
        assert temporaries(run.target) == []
        assert {item.path for item in run.lines} >= {b"new", b"d", b"d/in", b"c"}
    assert reports[0].files == reports[1].files
    assert reports[0].files.created == 3
    assert reports[0].files.deleted == 2
    assert reports[0].bytes.literal == reports[1].bytes.literal
