"""--delete-before: the whole listing, the guards, the deletes, and only then data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from netsync.model import Change, DeleteLimit, Entry, Kind, Options
from netsync.transfer import deferring, target
from netsync.transfer.deferring import Deferral
from netsync.transfer.wanted import Wanted
from netsync.tree.place import Attributes
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.support.transfers import Sent, Transfer, transfer
from tests.support.trees import Value, make_tree, needs_mount, read_tree, small_disk

BEFORE = Options(delete=True, delete_before=True, fsync=False)
LARGE = b"content " * 20_000

OLD: dict[str, Value] = {
    "changed": LARGE, "gone": b"1", "gone-dir": {"x": b"2"}, "way": {"y": b"3"}, "same": b"s",
}  # fmt: skip
NEW: dict[str, Value] = {
    "changed": LARGE + b"more", "new": LARGE, "way": b"a file", "sub": {"deep": {"f": b"4"}},
    "same": b"s",
}  # fmt: skip


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, destination = make_tree(tmp_path / "s", NEW), make_tree(tmp_path / "t", OLD)
    for root in (source, destination):
        os.utime(root / "same", ns=(0, 0))
    return source, destination


async def test_nothing_is_wanted_before_the_deletes_are_done(trees: tuple[Path, Path]) -> None:
    """Wants come behind ``ListEnd``, and data finds the room that was made."""
    source, destination = trees
    spoken: list[str] = []

    def from_source(message: Message, tail: bytes) -> Sequence[Sent]:
        spoken.append(type(message).__name__)
        if isinstance(message, m.Files | m.Piece):
            left = {path.name for path in destination.iterdir()}
            assert left <= {"changed", "same", "sub", "new"}
        return [(message, tail)]

    def from_target(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.Wants) and (message.whole or message.deltas):
            spoken.append("want")
        return [(message, tail)]

    run = Transfer(source, destination, BEFORE, from_source, from_target)
    report = await run.run()
    assert spoken.index("ListEnd") < spoken.index("want") < spoken.index("Files")
    assert read_tree(destination) == NEW
    assert (report.held, report.problems) == ("", ())
    assert report.bytes.matched > 100_000, "deltas are deltas all the same"
    assert (report.files.deleted, report.files.created, report.files.updated) == (5, 5, 1)
    again = await transfer(source, destination, BEFORE)
    assert again.files.unchanged == again.files.considered


async def test_held_the_data_comes_all_the_same(trees: tuple[Path, Path]) -> None:
    """The guard decides on the whole listing; the file in whose way a directory is fails."""
    source, destination = trees
    options = Options(
        delete=True, delete_before=True, max_delete=DeleteLimit(4), fsync=False, itemize=True
    )
    report = await transfer(source, destination, options)
    assert "--max-delete 4" in report.held
    assert report.files.deleted == 0
    assert [problem.path for problem in report.problems] == [b"way"]
    there = read_tree(destination)
    assert there == {**OLD, **NEW, "way": {"y": b"3"}}
    files = report.files
    assert files.considered == (
        files.created + files.updated + files.metadata + files.unchanged + files.failed
    )


async def test_more_files_than_may_be_outstanding_arrive(tmp_path: Path) -> None:
    """Neither credit nor the bound on wants can stop a run whose wants all wait."""
    count = target.WANTED_FILES + 2 * deferring.PART + 1
    source, destination = make_tree(tmp_path / "s", {}), make_tree(tmp_path / "t", {"gone": b"x"})
    for number in range(count):
        os.mknod(source / f"{number:06d}", 0o100644)
    report = await transfer(source, destination, BEFORE)
    assert (report.files.created, report.files.deleted) == (count, 1)


async def test_hard_links_survive_it(tmp_path: Path) -> None:
    """The carrier's data waits like all data; a second name replaces a full directory."""
    source = make_tree(tmp_path / "s", {"a": b"shared", "c": {}})
    destination = make_tree(tmp_path / "t", {"b": {"in": b"x"}, "c": {"old": b"y"}})
    os.link(source / "a", source / "b")
    os.link(source / "a", source / "c" / "d")
    report = await transfer(source, destination, BEFORE)
    assert report.problems == ()
    assert read_tree(destination) == read_tree(source)
    assert (destination / "a").samefile(destination / "b")
    assert (destination / "a").samefile(destination / "c" / "d")


@needs_mount
@pytest.mark.parametrize("before", [True, False])
async def test_a_target_too_full_for_both_takes_the_new_tree(tmp_path: Path, before: bool) -> None:
    """5 MB there, 5 MB to come, 8 MiB of room."""
    source = make_tree(tmp_path / "s", {"new": bytes(5_000_000)})
    with small_disk(tmp_path / "t", 8 << 20) as disk:
        make_tree(disk, {"old": bytes(5_000_000)})
        if before:
            await transfer(source, disk, BEFORE)
            assert list(read_tree(disk)) == ["new"]
        else:
            with pytest.raises(Exception, match="no space left"):
                await transfer(source, disk, Options(delete=True, fsync=False))
            assert list(read_tree(disk)) == ["old"]


def test_what_waits_comes_back_whole_in_bounded_parts() -> None:
    """Each want once, as it was; those whose way was not cleared apart."""
    deferral = Deferral()
    count = 2 * deferring.PART + 3
    for number in range(count):
        entry = Entry(b"%d" % number, Kind.FILE, 0o644, 0, 0, 5, 6)
        wanted = Wanted(number, b"d", entry, entry, Change.UPDATED)
        wanted.attributes = Attributes(0o600, 1, None, number)
        wanted.in_the_way = number < 2
        deferral.put(wanted, delta=number % 2 == 0)
    parts = list(deferral.parts({b"d/1"}))
    assert max(sum(map(len, part)) for part in parts) <= deferring.PART
    assert [w.number for part in parts for w in part.blocked] == [0]
    deltas = [w for part in parts for w in part.deltas]
    assert sorted(w.number for w in deltas) == list(range(2, count, 2))
    assert sorted(w.number for part in parts for w in part.whole) == list(range(1, count, 2))
    assert all(w.attributes.mtime_ns == w.number and w.present == w.entry for w in deltas)
    assert not any(w.in_the_way for w in deltas)
    deferral.close()
