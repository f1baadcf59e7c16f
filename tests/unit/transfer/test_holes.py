"""Holes arrive as holes: whole files, deltas of both kinds, in place, resumed and renamed."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from netsync.delta.levels import TWO_LEVELS_FROM
from netsync.model import Keep, Options, Report
from netsync.transfer import basis, catching_up, matching, moving
from netsync.tree.large_files import Stage
from netsync.tree.output import Output
from netsync.tree.partials import version_of
from netsync.tree.read import fill
from netsync.wire import messages as m
from tests.support.sparse import data_of, write_sparse
from tests.support.transfers import Sent, Transfer
from tests.support.trees import make_tree, opened

PAGE = 4096
MIB = 1024 * 1024
ROOM_FOR_EXTENTS = 1024 * 1024
"""What a file system may need to note where 12,000 pages lie; far less than any hole here."""
FAST = Options(fsync=False)


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Trees:
    """A source and a target with one file in each, three levels down."""

    def __init__(self, base: Path) -> None:
        self.roots = make_tree(base / "source", {"a": {"b": {}}}), make_tree(base / "target", {})
        self.source = self.roots[0] / "a" / "b" / "file"
        self.target = self.roots[1] / "a" / "b" / "file"

    async def run(self, options: Options = FAST, **more: object) -> Report:
        return await Transfer(*self.roots, options, **more).run()  # type: ignore[arg-type]

    def check(self, data: int) -> None:
        """The target has the data of the source where the source has it, and holes elsewhere."""
        assert data_of(self.target) == data_of(self.source)
        room = self.target.stat().st_blocks * 512
        assert data <= room <= data + ROOM_FOR_EXTENTS
        assert sum(len(part) for _, part in data_of(self.target)) == data


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


@pytest.mark.parametrize(
    ("size", "places"),
    [
        (25 * PAGE + 3, [4 * PAGE]),  # small
        (10 * PAGE, []),  # nothing but a hole
        (3 * MIB, [0, MIB, 3 * MIB - PAGE]),
        (10 * 1024 * MIB, [512 * MIB, 9 * 1024 * MIB]),  # staged
    ],
)
async def test_a_new_file_costs_its_data(trees: Trees, size: int, places: list[int]) -> None:
    write_sparse(trees.source, size, {place: content(place, PAGE) for place in places})
    report = await trees.run()
    trees.check(PAGE * len(places))
    assert report.bytes.literal == PAGE * len(places)
    assert report.bytes.total == size
    assert (await trees.run()).files.unchanged == report.files.considered


async def test_many_small_holes_are_all_kept(trees: Trees) -> None:
    """More than one frame can tell: 12,000 pages, each after a hole of a page."""
    data = content(0, PAGE)
    write_sparse(trees.source, 24_000 * PAGE, {2 * n * PAGE: data for n in range(12_000)})
    report = await trees.run()
    trees.check(12_000 * PAGE)
    assert report.bytes.literal == 12_000 * PAGE


async def test_zeros_that_take_room_stay_zeros_that_take_room(trees: Trees) -> None:
    write_sparse(trees.source, MIB, {0: bytes(PAGE), 100 * PAGE: bytes(50 * PAGE)})
    await trees.run()
    trees.check(51 * PAGE)


async def test_without_sparse_holes_are_sent_as_zeros(trees: Trees) -> None:
    write_sparse(trees.source, MIB, {0: b"x" * PAGE})
    report = await trees.run(Options(fsync=False, keep=Keep(sparse=False)))
    assert trees.target.read_bytes() == trees.source.read_bytes()
    assert trees.target.stat().st_blocks * 512 == MIB
    assert report.bytes.literal == MIB


LARGE = TWO_LEVELS_FROM + 16 * MIB
LEVELS = [(8 * MIB, "one level"), (LARGE, "two levels")]


@pytest.mark.parametrize("inplace", [False, True], ids=["staged", "in place"])
@pytest.mark.parametrize(("size", "levels"), LEVELS)
async def test_a_delta_keeps_makes_and_fills_holes(
    trees: Trees, size: int, levels: str, inplace: bool
) -> None:
    block = content(1, 2 * MIB)
    other = content(2, 64 * PAGE)
    before = {0: block, 4 * MIB: block[MIB:], size - 3 * MIB: other}
    trees.target.parent.mkdir(parents=True)
    write_sparse(trees.target, size, before)
    after = dict(before)
    after[0] = block[: 100 * PAGE]  # what follows became a hole
    after[3 * MIB] = content(3, 10 * PAGE)  # what was a hole was filled
    after[size - 3 * MIB] = other[: 8 * PAGE]
    after[size - 3 * MIB + 12 * PAGE] = other[12 * PAGE :]  # a small hole
    write_sparse(trees.source, size + 5 * PAGE, after)
    report = await trees.run(Options(fsync=False, inplace=inplace))
    data = 100 * PAGE + 10 * PAGE + MIB + 60 * PAGE
    trees.check(data)
    assert report.bytes.literal + report.bytes.matched == data
    assert report.bytes.literal <= 12 * PAGE + 2 * 4096, levels


async def test_a_sparse_basis_is_not_read_where_it_has_holes(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 256 GiB with little in it is a delta of little."""
    places = {1 << 30: content(1, MIB), 1 << 37: content(2, MIB)}
    trees.target.parent.mkdir(parents=True)
    write_sparse(trees.target, 1 << 38, places)
    places[1 << 37] = content(2, MIB)[: MIB - PAGE] + content(3, PAGE)
    write_sparse(trees.source, 1 << 38, places)
    os.utime(trees.source, ns=(1, 1))
    read = Counter[str]()

    def counting(fd: int, view: memoryview, offset: int) -> int:
        read["bytes"] += len(view)
        return fill(fd, view, offset)

    monkeypatch.setattr(basis, "fill", counting)
    monkeypatch.setattr(matching, "fill", counting)
    report = await trees.run()
    assert read["bytes"] < 40 * MIB
    trees.check(2 * MIB)
    assert report.bytes.literal == PAGE


async def test_a_backup_of_a_file_changed_in_place_keeps_its_holes(trees: Trees) -> None:
    trees.target.parent.mkdir(parents=True)
    write_sparse(trees.target, 8 * MIB, {MIB: b"old" * PAGE})
    old = data_of(trees.target)
    write_sparse(trees.source, 8 * MIB, {2 * MIB: b"new" * PAGE})
    os.utime(trees.source, ns=(1, 1))
    await trees.run(Options(fsync=False, inplace=True, backup_dir=b".old"))
    trees.check(3 * PAGE)
    assert data_of(trees.roots[1] / ".old" / "a" / "b" / "file") == old


@pytest.mark.parametrize("size", [MIB, 64 * MIB], ids=["beside", "staged"])
async def test_a_renamed_file_keeps_its_holes_and_costs_nothing(trees: Trees, size: int) -> None:
    options = Options(fsync=False, delete=True)
    write_sparse(trees.source, size, {10 * PAGE: content(1, 3 * PAGE), size // 2: b"x" * PAGE})
    await trees.run(options)
    trees.source = trees.source.rename(trees.source.parent / "renamed")
    trees.target = trees.target.parent / "renamed"
    report = await trees.run(options)
    trees.check(4 * PAGE)
    assert (report.bytes.literal, report.bytes.matched) == (0, 4 * PAGE)


async def test_checksums_tell_content_not_holes(trees: Trees) -> None:
    options = Options(fsync=False, checksum=True)
    write_sparse(trees.source, 8 * MIB, {MIB: b"x" * PAGE})
    trees.target.parent.mkdir(parents=True)
    trees.target.write_bytes(trees.source.read_bytes())
    report = await trees.run(options)
    assert report.files.updated == 0
    assert report.bytes.literal == 0


def leave(trees: Trees, data: bytes, version: bytes = b"") -> None:
    """Leave what a session that was cut leaves of the file."""
    with opened(trees.roots[1]) as fd:
        stage = Stage(fd)
        stage.open()
        staged = stage.create(fd, b"a/b/file", version)
        os.write(staged.fd, data)
        staged.keep(fd)
        stage.close()


@pytest.mark.parametrize("tail", [0, 5 * PAGE], ids=["ends with data", "ends with a hole"])
async def test_a_partial_with_holes_is_gone_on_with(trees: Trees, tail: int) -> None:
    size = 96 * MIB
    data = {0: content(1, MIB), 20 * MIB: content(2, 40 * MIB), 95 * MIB: content(3, MIB - tail)}
    write_sparse(trees.source, size, data)
    sent = 0

    def cut(message: m.Message, body: bytes) -> list[Sent]:
        nonlocal sent
        sent += len(body)
        if sent > 36 * MIB:  # some 20 MiB of it may not have been written yet
            raise ConnectionResetError("cut")
        return [(message, body)]

    with pytest.raises(Exception, match="cut"):
        await trees.run(from_source=cut)
    report = await trees.run()
    total = 42 * MIB - tail
    trees.check(total)
    assert report.bytes.literal + report.bytes.matched == total
    assert report.bytes.matched >= 4 * MIB
    assert not (trees.roots[1] / ".netsync").exists()


async def test_a_resumed_file_with_a_long_hole_at_its_end_is_gone_on_with_at_once(
    trees: Trees,
) -> None:
    write_sparse(trees.source, 1 << 34, {0: content(1, 8 * MIB), 12 * MIB: content(2, MIB)})
    status = trees.source.stat()
    leave(trees, content(1, 6 * MIB), version_of(status.st_size, status.st_mtime_ns))
    run = Transfer(*trees.roots, FAST)
    report = await run.run()
    trees.check(9 * MIB)
    assert (report.bytes.literal, report.bytes.matched) == (3 * MIB, 6 * MIB)
    assert not [each for each in run.sent_by_target if isinstance(each, m.WantDelta)]


async def test_a_source_that_is_cut_while_it_is_read_again_does_not_go_on_for_ever(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 32 * MIB
    trees.source.write_bytes(content(1, size))
    status = trees.source.stat()
    leave(trees, content(1, size - MIB), version_of(status.st_size, status.st_mtime_ns))
    monkeypatch.setattr(catching_up, "STEP_BYTES", MIB)
    pieces = 0

    def cut(message: m.Message, body: bytes) -> list[Sent]:
        nonlocal pieces
        pieces += isinstance(message, m.Piece)
        if pieces == 3:
            os.truncate(trees.source, 5 * MIB)
        return [(message, body)]

    await trees.run(from_source=cut)
    assert trees.target.read_bytes() == content(1, size)[: 5 * MIB]


async def test_a_hole_that_is_cut_off_is_not_published(trees: Trees) -> None:
    """With ``--changing publish`` what is there when it is read is taken, not what was."""
    write_sparse(trees.source, 512 * MIB, {0: b"x" * PAGE, 511 * MIB: b"y" * PAGE})
    write_sparse(trees.roots[0] / "a/first", 8 * MIB, {0: content(1, 8 * MIB)})

    def cut(message: m.Message, body: bytes) -> list[Sent]:
        if isinstance(message, m.Piece):
            os.truncate(trees.source, 5)
            os.truncate(trees.source, 512 * MIB)
            os.truncate(trees.source, 5)
        return [(message, body)]

    await trees.run(Options(fsync=False, changing="publish"), from_source=cut)
    assert trees.target.read_bytes() == b"xxxxx"


def test_what_was_hashed_of_a_renamed_file_is_what_is_written(tmp_path: Path) -> None:
    """Also if the old file is punched, or cut, between hashing and writing."""
    data = content(1, 8 * PAGE)
    for size, holes in ((8 * PAGE, {0: data[:PAGE]}), (2 * PAGE, {})):
        write_sparse(tmp_path / "old", size, holes)
        fd = os.open(tmp_path / "old", os.O_RDONLY)
        directory = os.open(tmp_path, os.O_RDONLY)
        output = Output.create(directory, b"new", inplace=False)
        moving._copy_part(fd, output, 0, memoryview(data), len(data))
        assert os.pread(output.fd, len(data) + 1, 0) == data
        output.discard(directory)
        os.close(directory)
        os.close(fd)


async def test_a_hole_that_a_partial_fills_is_made_a_hole(trees: Trees) -> None:
    """The source changed after the cut: a part of what had arrived is a hole now."""
    size = 64 * MIB
    first = content(1, 16 * MIB)
    leave(trees, first)
    write_sparse(trees.source, size, {0: first[: 4 * MIB], 8 * MIB: first[8 * MIB :]})
    report = await trees.run()
    trees.check(12 * MIB)
    assert report.bytes.matched == 12 * MIB


async def test_a_hole_beyond_what_a_file_may_be_is_that_files_problem(trees: Trees) -> None:
    write_sparse(trees.source, 8 * PAGE, {0: b"x" * PAGE})

    def grow(message: m.Message, body: bytes) -> list[Sent]:
        if isinstance(message, m.Piece):
            message = m.Piece(message.number, [-1, PAGE, -2, 2**63 - 1 - PAGE])
        if isinstance(message, m.FileEnd):
            message = m.FileEnd(message.number, 2**63 - 1, message.mtime_ns, message.digest)
        return [(message, body)]

    report = await trees.run(from_source=grow)
    assert report.files.failed == 1
    assert not trees.target.exists()
