"""What changed and nothing else: tombstones, trees, renames, and guards over many transfers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from netsync.model import DeleteLimit, Options, Report
from netsync.plan.guards import Changes
from netsync.transfer.guarding import UNGUARDED, Guarding
from netsync.wire import messages as m
from tests.support.transfers import Transfer, transfer
from tests.support.trees import make_tree, read_tree

SMALL = 100
LARGE = 300_000


def changed(*paths: bytes, delete: bool = True, **more: object) -> Options:
    return Options(paths=paths, changes=True, delete=delete, fsync=False, **more)  # type: ignore[arg-type]


class Pair:
    """A source and a target that were equal a moment ago."""

    def __init__(self, base: Path) -> None:
        content: dict[str, Any] = {"a": b"1", "d": {"f": b"2", "g": b"3"}, "e": {"h": {"i": b"4"}}}
        self.source = make_tree(base / "source", content)
        self.target = make_tree(base / "target", {})
        self.last: Transfer | None = None

    async def begin(self) -> None:
        await transfer(self.source, self.target, Options(fsync=False))

    async def run(self, options: Options, guarding: Guarding = UNGUARDED) -> Report:
        self.last = Transfer(self.source, self.target, options, guarding=guarding)
        return await self.last.run()

    @property
    def is_equal(self) -> bool:
        return read_tree(self.source) == read_tree(self.target)


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    found = Pair(tmp_path)
    await found.begin()
    return found


async def test_only_what_is_named_is_looked_at(pair: Pair) -> None:
    (pair.source / "d" / "f").write_bytes(b"22")
    (pair.source / "e" / "h" / "i").write_bytes(b"44")
    report = await pair.run(changed(b"d/f"))
    assert report.files.updated == 1
    assert report.files.considered == 2  # d, and d/f
    assert read_tree(pair.target)["e"] == {"h": {"i": b"4"}}


async def test_what_is_gone_is_deleted_and_what_is_not_named_stays(pair: Pair) -> None:
    shutil.rmtree(pair.source / "d")
    (pair.source / "a").unlink()
    (pair.source / "e" / "h" / "i").unlink()
    report = await pair.run(changed(b"d/f", b"d", b"a"))
    assert report.files.deleted == 4
    assert read_tree(pair.target) == {"e": {"h": {"i": b"4"}}}
    assert report.problems == ()


async def test_without_delete_what_is_gone_stays(pair: Pair) -> None:
    (pair.source / "a").unlink()
    report = await pair.run(changed(b"a", delete=False))
    assert report.files.deleted == 0
    assert (pair.target / "a").exists()


async def test_what_never_was_is_nothing(pair: Pair) -> None:
    report = await pair.run(changed(b"never", b"d/never/there", b"f/g"))
    assert (report.problems, report.files.deleted) == ((), 0)
    assert pair.is_equal


async def test_a_tree_is_looked_at_whole(pair: Pair) -> None:
    (pair.source / "e" / "h" / "i").unlink()
    make_tree(pair.source / "e" / "new", {"x": {"y": b"5"}})
    report = await pair.run(changed(b"e/"))
    assert (report.files.deleted, report.files.created) == (1, 3)
    assert pair.is_equal


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_renamed_file_costs_no_data(pair: Pair, size: int) -> None:
    (pair.source / "a").write_bytes(os.urandom(size))
    await pair.run(changed(b"a"))
    (pair.source / "a").rename(pair.source / "d" / "z")
    report = await pair.run(changed(b"a", b"d/z"))
    assert (report.bytes.literal, report.files.deleted) == (0, 1)
    assert pair.is_equal


async def test_a_renamed_directory_costs_no_data(pair: Pair) -> None:
    (pair.source / "e").rename(pair.source / "d" / "moved")
    report = await pair.run(changed(b"e", b"d/moved/"))
    assert (report.bytes.literal, report.bytes.matched) == (0, 1)
    assert pair.is_equal


async def test_a_directory_that_became_a_file_and_the_reverse(pair: Pair) -> None:
    shutil.rmtree(pair.source / "d")
    (pair.source / "d").write_bytes(b"file")
    (pair.source / "a").unlink()
    make_tree(pair.source / "a", {"in": b"6"})
    await pair.run(changed(b"d", b"d/f", b"a/"))
    assert pair.is_equal


async def test_a_source_that_is_empty_is_guarded_though_only_some_paths_are_told(
    pair: Pair,
) -> None:
    for name in ("d", "e"):
        shutil.rmtree(pair.source / name)
    (pair.source / "a").unlink()
    report = await pair.run(changed(b"a"))
    assert "no entries" in report.held
    assert read_tree(pair.target)["d"]
    report = await pair.run(changed(b"a", allow_empty_source=True))
    assert pair.is_equal


async def test_an_empty_directory_is_no_empty_source(pair: Pair) -> None:
    shutil.rmtree(pair.source / "d")
    (pair.source / "d").mkdir()
    report = await pair.run(changed(b"d/"))
    assert report.held == ""
    assert pair.is_equal


@pytest.mark.parametrize(
    ("limit", "before", "held"),
    [
        (DeleteLimit(1), Changes(10, 0), False),
        (DeleteLimit(1), Changes(10, 1), True),
        (DeleteLimit(30, percent=True), Changes(10, 2), False),
        (DeleteLimit(30, percent=True), Changes(10, 3), True),
        (DeleteLimit(30, percent=True), Changes(0, 0), True),
        (DeleteLimit(100, percent=True), Changes(0, 9), False),
    ],
)
async def test_a_limit_counts_what_went_lately(
    pair: Pair, limit: DeleteLimit, before: Changes, held: bool
) -> None:
    """A percentage is of the whole tree, not of the few paths that a transfer is about."""
    (pair.source / "a").unlink()
    report = await pair.run(changed(b"a"), Guarding(limit, changes=before))
    assert bool(report.held) is held
    assert (pair.target / "a").exists() is held


async def test_nobody_may_tell_what_is_gone_unasked(tmp_path: Path) -> None:
    """A pull would otherwise delete what the server likes."""
    source = make_tree(tmp_path / "source", {"a": b"1"})
    target = make_tree(tmp_path / "target", {"a": b"1", "mine": b"2"})

    def bury(message: m.Message, tail: bytes) -> list[tuple[m.Message, bytes]]:
        if isinstance(message, m.List) and message.listings:
            listing = m.Listing(0, [], final=True, partial=True, gone=[b"mine"])
            message = m.List([listing])
        return [(message, tail)]

    with pytest.raises(Exception, match="nobody asked"):
        await transfer(source, target, Options(delete=True, fsync=False), from_source=bury)
    assert (target / "mine").exists()


async def test_a_directory_is_not_read_for_one_name_in_it(pair: Pair) -> None:
    """What a dead session left beside it is swept by whoever reads the directory, not by us."""
    left = pair.target / "d" / ".netsync-0123456789abcdef-1"
    left.write_bytes(b"")
    (pair.source / "d" / "f").write_bytes(b"changed")
    await pair.run(changed(b"d/f"))
    assert left.exists()
    left.unlink()
    assert pair.is_equal
