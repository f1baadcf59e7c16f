"""New files of one directory that are wanted, staged, named and settled as one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from xxhash import xxh3_128_digest

from netsync.errors import ProtocolError
from netsync.model import Change, Entry, Kind
from netsync.transfer import awaited as bounds
from netsync.transfer.awaited import Awaited
from netsync.transfer.neighbours import Neighbours, StagedTogether, Together
from netsync.transfer.runs import Run, make_durable, name_last, runs
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.durable import EACH_MAX
from netsync.tree.place import Attributes
from netsync.wire.messages import FileHead

TIME = 1_700_000_000_000_000_001


def neighbours(first: int, count: int, directory: bytes = b"a") -> Neighbours:
    entries = [
        Entry(b"n%d" % n, Kind.FILE, 0o644, 0, 0, 1, TIME) for n in range(first, first + count)
    ]
    bare = [(0o640, -1, -1)] * count
    return Neighbours(first, directory, entries, bare, True, bytearray(count), count)


def head(number: int, data: bytes = b"x") -> FileHead:
    return FileHead(number, len(data), TIME, xxh3_128_digest(data))


def never(given: object) -> NoReturn:
    raise AssertionError(given)


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Directories]:
    """The directories below ``tmp_path``, with ``a`` in it."""
    (tmp_path / "a").mkdir()
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with Directories(root) as held:
        yield held
    os.close(root)


@pytest.fixture
def staged(directories: Directories) -> Iterator[StagedTogether]:
    """Three neighbours with their content, numbered from 5."""
    made = Together(neighbours(5, 3), [head(5), head(6), head(7)], memoryview(b"xxx"))
    found = made.stage(directories)
    assert found is not None
    yield found
    found.close()


def alone(files: Awaited, number: int) -> Wanted:
    found = files.alone(number)
    assert found is not None
    return found


def test_a_neighbour_alone_is_what_it_would_have_been() -> None:
    wanted = neighbours(5, 3).alone(6)
    assert (wanted.number, wanted.path, wanted.change) == (6, b"a/n6", Change.CREATED)
    assert wanted.attributes == Attributes(0o640, None, None, TIME)
    assert wanted.is_new
    assert not wanted.arrived


def test_what_is_taken_alone_has_no_neighbours_any_more() -> None:
    files = Awaited()
    assert files.add([neighbours(5, 4)]) == 4
    wanted = alone(files, 6)
    assert files.alone(6) is wanted
    assert files.alone(99) is None
    near = files.together([head(5), head(6), head(7)], 0)
    assert near is not None
    assert near[1] == 1
    assert files.together([head(5), head(6), head(7)], 1) is None
    assert len(files) == 4
    files.settled(range(5, 9))
    assert len(files) == 0


def test_files_that_came_once_do_not_come_together_again() -> None:
    files = Awaited()
    files.add([neighbours(5, 2)])
    assert files.together([head(5), head(6)], 0) is not None
    assert files.together([head(6)], 0) is None
    assert alone(files, 6).arrived


def test_a_frame_is_cut_where_neighbours_end() -> None:
    """Another directory, a gap, the same number again, and a file of its own end them."""
    files = Awaited()
    files.add([neighbours(1, 3), neighbours(4, 2, b"b"), neighbours(9, 3).alone(9)])

    def expect(number: int) -> Wanted:
        return alone(files, number)

    numbers = [1, 3, 4, 5, 9]
    cut = list(runs([head(n) for n in numbers], memoryview(b"xxxxx"), files, expect, never))
    assert [
        [each.number for each in run.heads] if isinstance(run, Together) else "run" for run in cut
    ] == [[1], [3], [4, 5], "run"]
    assert [bytes(run.tail) for run in cut if isinstance(run, Together)] == [b"x", b"x", b"xx"]


def test_of_a_frame_with_a_damaged_file_each_is_alone() -> None:
    files = Awaited()
    files.add([neighbours(1, 3)])
    damaged: list[int] = []

    def expect(number: int) -> Wanted:
        return alone(files, number)

    heads = [head(1), head(2, b"y"), head(3)]
    cut = list(
        runs(heads, memoryview(b"xxx"), files, expect, lambda each: damaged.append(each.number))
    )
    assert damaged == [2]
    assert all(isinstance(run, Run) for run in cut)
    assert len(cut) == 2


@pytest.mark.parametrize("tail", [b"x", b"xxx"])
def test_neighbours_fill_their_frame_exactly(tail: bytes) -> None:
    files = Awaited()
    files.add([neighbours(1, 2)])
    with pytest.raises(ProtocolError):
        list(runs([head(1), head(2)], memoryview(tail), files, never, never))


def test_they_are_staged_and_named_as_one(
    tmp_path: Path, directories: Directories, staged: StagedTogether
) -> None:
    assert list(staged.numbers) == [5, 6, 7]
    assert os.listdir(tmp_path / "a") == []
    assert staged.name(directories) == [0, 0, 0]
    for name in ("n5", "n6", "n7"):
        found = (tmp_path / "a" / name).stat()
        assert (found.st_size, found.st_mode & 0o777, found.st_mtime_ns) == (1, 0o640, TIME)
    assert staged.fds == [-1, -1, -1]


def test_a_name_that_appeared_is_not_taken(
    tmp_path: Path, directories: Directories, staged: StagedTogether
) -> None:
    (tmp_path / "a" / "n6").write_bytes(b"kept")
    assert staged.name(directories) == [0, errno.EEXIST, 0]
    assert [fd >= 0 for fd in staged.fds] == [False, True, False]
    assert (tmp_path / "a" / "n6").read_bytes() == b"kept"


def test_without_their_directory_none_is_staged_or_named(
    tmp_path: Path, directories: Directories, staged: StagedTogether
) -> None:
    assert Together(neighbours(1, 1, b"gone"), [head(1)], memoryview(b"x")).stage(
        directories
    ) is None  # fmt: skip
    gone = StagedTogether(neighbours(1, 1, b"gone"), 1, [-1])
    assert gone.name(directories) == []


def test_they_and_files_of_their_own_are_named_apart(
    directories: Directories, staged: StagedTogether
) -> None:
    assert name_last([staged], directories) == []


@pytest.mark.parametrize("count", [3, EACH_MAX + 1])
def test_every_neighbour_is_flushed(
    monkeypatch: pytest.MonkeyPatch, directories: Directories, count: int
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr("netsync.transfer.runs.flush", lambda fds, many: flushed.extend(fds))
    monkeypatch.setattr("netsync.transfer.runs.flush_file_systems", flushed.extend)
    heads = [head(n) for n in range(1, count + 1)]
    staged = Together(neighbours(1, count), heads, memoryview(b"x" * count)).stage(directories)
    assert staged is not None
    make_durable([staged])
    assert flushed == (staged.fds if count <= EACH_MAX else staged.fds[:1])
    staged.close()


def test_a_file_that_is_left_of_many_does_not_hold_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A source that sends all but one of each has us hold these, not all that were listed."""
    monkeypatch.setattr(bounds, "HELD_MAX", 100)
    freed: list[bytes] = []

    class Name(bytes):
        def __del__(self) -> None:
            freed.append(bytes(self))

    files = Awaited()
    for first in range(1, 1000, 10):
        entries = [Entry(Name(b"n%d" % n), Kind.FILE, 0, 0, 0, 0, 0) for n in range(10)]
        files.add([Neighbours(first, b"", entries, [(0, 0, 0)] * 10, True, bytearray(10), 10)])
        del entries
        files.settled(range(first + 1, first + 10))
    assert len(files) == 100
    assert 1000 - len(freed) <= 2 * 100 + 10
    assert alone(files, 1).name == b"n0"
    files.settled(range(1, 1000, 10))
    assert len(files) == 0
    assert len(freed) == 1000
