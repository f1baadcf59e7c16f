"""Finding, making and copying holes, and digests that do not read them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.delta.digest import CHUNK
from netsync.delta.holes import Extent
from netsync.tree import content, holes
from netsync.tree.content import Hashed, content_digest, copy_data
from netsync.tree.holes import data_size, extents, find_holes, is_hole, make_hole
from tests.support.sparse import data_of, write_sparse

PAGE = 4096
DATA = {8 * PAGE: b"a" * PAGE, 20 * PAGE: b"b" * (2 * PAGE)}
SIZE = 40 * PAGE + 7


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[int]:
    """A file with data in two places."""
    write_sparse(tmp_path / "sparse", SIZE, DATA)
    fd = os.open(tmp_path / "sparse", os.O_RDWR)
    yield fd
    os.close(fd)


def test_extents_say_where_data_is(sparse: int) -> None:
    assert list(extents(sparse, 0, SIZE)) == [
        Extent(0, 8 * PAGE, is_hole=True),
        Extent(8 * PAGE, 9 * PAGE, is_hole=False),
        Extent(9 * PAGE, 20 * PAGE, is_hole=True),
        Extent(20 * PAGE, 22 * PAGE, is_hole=False),
        Extent(22 * PAGE, SIZE, is_hole=True),
    ]
    assert list(extents(sparse, 21 * PAGE, 10**9))[-1].end == SIZE
    assert list(extents(sparse, SIZE, SIZE + 1)) == []


def test_a_file_without_holes_is_one_extent(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"x" * 5 * PAGE)
    fd = os.open(tmp_path / "full", os.O_RDONLY)
    assert list(extents(fd, 0, 10**9)) == [Extent(0, 5 * PAGE, is_hole=False)]
    assert not find_holes(fd, 5 * PAGE)
    os.close(fd)


def test_where_nobody_can_say_all_is_data(sparse: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "no such thing")

    monkeypatch.setattr(os, "lseek", refuse)
    assert list(extents(sparse, 0, SIZE)) == [Extent(0, SIZE, is_hole=False)]


def test_data_is_counted_and_holes_are_found(sparse: int) -> None:
    assert data_size(sparse, SIZE) == 3 * PAGE
    assert data_size(sparse, 9 * PAGE) == PAGE
    assert is_hole(sparse, 0, 8 * PAGE)
    assert not is_hole(sparse, 0, 8 * PAGE + 1)
    assert find_holes(sparse, SIZE).left_of(9 * PAGE) == 11 * PAGE


def test_holes_past_the_bound_count_as_data(sparse: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "HOLES_MAX", 1)
    found = find_holes(sparse, SIZE)
    assert [each.is_hole for each in found.extents(0, SIZE)] == [True, False]


def test_a_hole_is_made_where_data_was_and_not_beyond_the_end(sparse: int) -> None:
    make_hole(sparse, 8 * PAGE, SIZE + 10 * PAGE)
    assert list(extents(sparse, 0, SIZE)) == [Extent(0, SIZE, is_hole=True)]
    assert os.fstat(sparse).st_size == SIZE


def test_where_no_hole_can_be_made_zeros_are_written(
    sparse: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(holes, "fallocate", refuse)
    make_hole(sparse, 20 * PAGE, 21 * PAGE)
    assert os.pread(sparse, 2 * PAGE, 20 * PAGE) == bytes(PAGE) + b"b" * PAGE


def test_a_hole_smaller_than_a_page_is_written_as_zeros(sparse: int) -> None:
    make_hole(sparse, 20 * PAGE + 5, 20 * PAGE + 10)
    assert os.pread(sparse, 15, 20 * PAGE) == b"b" * 5 + bytes(5) + b"b" * 5


def test_a_hole_from_the_end_on_changes_nothing_that_can_be_read(sparse: int) -> None:
    make_hole(sparse, SIZE, SIZE + 2**30)
    assert os.fstat(sparse).st_size == SIZE
    assert data_size(sparse, SIZE) == 3 * PAGE


def test_a_copy_has_the_same_holes(sparse: int, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "copy", os.O_CREAT | os.O_RDWR)
    copy_data(sparse, fd, SIZE)
    os.close(fd)
    assert data_of(tmp_path / "copy") == data_of(tmp_path / "sparse")


@pytest.mark.parametrize("size", [0, 7, CHUNK, 3 * CHUNK + 5])
def test_a_digest_does_not_tell_holes_from_zeros(tmp_path: Path, size: int) -> None:
    write_sparse(tmp_path / "sparse", size, {CHUNK + 5: b"x"} if size > 2 * CHUNK else {})
    (tmp_path / "full").write_bytes((tmp_path / "sparse").read_bytes())
    directory = os.open(tmp_path, os.O_RDONLY)
    assert content_digest(directory, b"sparse") == content_digest(directory, b"full")
    os.close(directory)


def test_a_hole_is_not_read_to_be_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a TiB costs what its data does."""
    read = 0

    def counting(fd: int, count: int, offset: int) -> bytes:
        nonlocal read
        read += count
        return os.pread(fd, count, offset)

    monkeypatch.setattr(content, "read_fully", counting)
    write_sparse(tmp_path / "huge", 1 << 40, {1 << 39: b"x" * CHUNK})
    directory = os.open(tmp_path, os.O_RDONLY)
    assert len(content_digest(directory, b"huge")) == 32
    os.close(directory)
    assert 0 < read <= 16 * CHUNK


def test_a_file_that_ends_early_is_hashed_up_to_there(sparse: int) -> None:
    hashed = Hashed(sparse)
    assert sum(len(data) for _, data in hashed.read_to(SIZE + CHUNK)) <= SIZE
    assert hashed.position == SIZE
