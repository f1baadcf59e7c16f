"""A tree packed from both ends is what it is from one, wherever the two meet and whatever stops."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.tree import from_end
from netsync.tree.directories import Directories
from netsync.tree.from_end import BothEnds, FromEnd
from netsync.tree.native import NAME, Coverage, pack_directory
from netsync.tree.packing import FRESH_SECONDS, Found
from tests.support.trees import (
    Value,
    every_directory,
    make_tree,
    needs_mount,
    open_descriptors,
    small_disk,
)

ALL = Coverage(0o7777, 254, True, True, True, True, 1 << 20)
NOBODYS = (b"", b"")
needs_threads = pytest.mark.skipif(NAME != "compiled", reason="only one can run at a time")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Directories]:
    """Some 200 directories with eight files each, on three levels; here and there one uncovered."""
    leaf: dict[str, Value] = {f"file{number}": b"" for number in range(8)}
    middle: dict[str, Value] = {f"{number:02}": {**leaf, "d": dict(leaf)} for number in range(12)}
    make_tree(tmp_path, {letter: dict(middle) for letter in "abcdefgh"})
    make_tree(tmp_path / "c" / "07", {".netsyncignore": b"*.o\n"})
    make_tree(tmp_path / "h" / "03", {".netsync-tmp-0": b""})
    fd = os.open(tmp_path, os.O_RDONLY)
    before = open_descriptors()
    with Directories(fd) as directories:
        yield directories
    for thread in threading.enumerate():
        if thread.name == from_end.THREAD_NAME:
            thread.join(30)
    assert open_descriptors() == before, "no descriptor stays, whoever was left alone"
    os.close(fd)


def alone(tree: Directories, path: bytes) -> Found:
    return pack_directory(tree.fd(path), ALL, b"", b"")


class Reads:
    """Reading from the end, begun by what is tested and done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[FromEnd] = []
        self._left: list[FromEnd] = []

    def begin(self, behind: FromEnd) -> None:
        self.begun.append(behind)
        self._left.append(behind)

    def read(self) -> None:
        """Do what was begun last."""
        self._left.pop().read()

    def end(self) -> None:
        """Do what is left, which must not take long."""
        for behind in self._left:
            behind.stop()
            behind.read()


@pytest.fixture
def reads(tree: Directories, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    reads = Reads()

    def start(behind: FromEnd) -> None:
        reads.begin(behind)

    monkeypatch.setattr(FromEnd, "start", start)
    yield reads
    reads.end()


@needs_threads
@pytest.mark.parametrize("piece", [1, 3000, 1 << 20])
def test_each_is_what_it_is_alone(
    tree: Directories, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a thread that runs as it likes."""
    monkeypatch.setattr(from_end, "_PIECE", piece)
    packer = BothEnds(tree, ALL)
    for path in every_directory(tree):
        assert packer.pack(path, NOBODYS) == alone(tree, path), path
    packer.close()


@needs_threads
def test_in_any_order_too(tree: Directories) -> None:
    paths = every_directory(tree)
    random.Random(1).shuffle(paths)
    packer = BothEnds(tree, ALL)
    for path in paths:
        assert packer.pack(path, NOBODYS) == alone(tree, path), path
    packer.close()


@needs_threads
def test_what_was_read_from_the_end_is_not_read_again(tree: Directories, reads: Reads) -> None:
    packer = BothEnds(tree, ALL)
    paths = every_directory(tree)
    half = paths.index(b"e")
    for path in paths[:half]:
        packer.pack(path, NOBODYS)
    reads.read()
    os.mkdir("new", dir_fd=tree.fd(b"h/11"))
    found, _ = packer.pack(b"h/11", NOBODYS)
    assert found is not None
    assert found[1] == 9, "as it was then"
    assert packer.pack(b"h/11", NOBODYS) == alone(tree, b"h/11"), "and given once"
    packer.close()


@needs_threads
def test_it_stops_where_the_two_meet(
    tree: Directories, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_end, "_PIECE", 1)
    packer = BothEnds(tree, ALL)
    paths = every_directory(tree)
    half = paths.index(b"f/05")
    for path in paths[: half + 1]:
        packer.pack(path, NOBODYS)
    (behind,) = reads.begun
    reads.read()
    for path in paths[half + 1 :]:
        assert behind.take(path) == alone(tree, path), path
    assert behind.take(b"f/03") is None
    packer.close()


@needs_threads
def test_a_directory_that_both_are_in_is_no_meeting(
    tree: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is packed before what is in it also backwards: the rest of it is still to be read."""
    monkeypatch.setattr(from_end, "_PIECE", 1)
    behind = FromEnd(tree.root, ALL, NOBODYS)
    behind.take(b"h/05")
    behind.read()
    assert behind.take(b"h/06") == alone(tree, b"h/06")
    assert behind.take(b"h/03") is None


@needs_threads
def test_it_ends_at_a_bound_and_when_told_to(
    tree: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_end, "READ_MAX", 5000)
    monkeypatch.setattr(from_end, "_PIECE", 1000)
    bound, told = (FromEnd(tree.root, ALL, NOBODYS) for _ in range(2))
    bound.read()
    assert bound.take(b"h/11") is not None
    assert bound.take(b"a") is None
    told.stop()
    told.read()
    assert told.take(b"h/11") is None


@needs_threads
def test_small_directories_are_bounded_too(
    tree: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Python needs for a directory counts, whatever is in it."""
    monkeypatch.setattr(from_end, "READ_MAX", 20_000)
    monkeypatch.setattr(from_end, "_PIECE", 1)
    for number in range(100):
        os.mkdir(f"z{number:02}", dir_fd=tree.root)
    behind = FromEnd(tree.root, ALL, NOBODYS)
    behind.read()
    taken = [number for number in range(100) if behind.take(b"z%02d" % number) is not None]
    assert 10 < len(taken) < 30
    assert taken[-1] == 99


@needs_threads
def test_what_had_to_wait_is_no_reason_to_read_on(
    tree: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back to what lies before, and the rest was asked for all the same."""
    monkeypatch.setattr(from_end, "_PIECE", 1)
    behind = FromEnd(tree.root, ALL, NOBODYS)
    behind.take(b"h/05")
    behind.take(b"a/03")
    behind.read()
    assert behind.take(b"h/06") is not None
    assert behind.take(b"g/11") is None


@needs_threads
@needs_mount
def test_nothing_is_entered_where_something_is_mounted(tmp_path: Path) -> None:
    """It may hang, and the comparison need not come there."""
    make_tree(tmp_path, {"a": {}, "b": {}})
    with small_disk(tmp_path / "b", 1 << 20):
        fd = os.open(tmp_path, os.O_RDONLY)
        behind = FromEnd(fd, ALL, NOBODYS)
        os.close(fd)
        behind.read()
    assert behind.take(b"a") is None


@needs_threads
def test_other_owners_have_it_read_anew_but_not_for_ever(tree: Directories, reads: Reads) -> None:
    mine = os.geteuid()
    packer = BothEnds(tree, ALL)
    for number, path in enumerate(every_directory(tree) * 3):
        other = 70 + number // 100
        owners = (mine.to_bytes(4, "little") + other.to_bytes(4, "little"), b"")
        found, _ = packer.pack(path, owners)
        if number % 100 == 60 and number < 300:
            reads.read()
        assert found is None or found[4] in ([other], [])
    packer.close()
    assert len(reads.begun) == 3


@needs_threads
def test_what_rested_too_long_is_forgotten(tree: Directories, reads: Reads) -> None:
    moment = [0.0]
    packer = BothEnds(tree, ALL, lambda: moment[0])
    paths = every_directory(tree)
    for path in paths[:60]:
        packer.pack(path, NOBODYS)
    reads.read()
    os.mkdir("new", dir_fd=tree.fd(b"h/11"))
    moment[0] = FRESH_SECONDS + 1
    assert packer.pack(b"h/11", NOBODYS) == alone(tree, b"h/11")
    for path in paths:
        packer.pack(path, NOBODYS)
    packer.close()
    assert len(reads.begun) == 1, "it would be too old again"


def test_a_small_tree_is_not_worth_a_thread(tree: Directories, reads: Reads) -> None:
    packer = BothEnds(tree, ALL)
    for path in every_directory(tree)[:12]:
        assert packer.pack(path, NOBODYS) == alone(tree, path)
    packer.close()
    assert not reads.begun


@needs_threads
@pytest.mark.parametrize("error", [OSError(24, "no descriptor"), RuntimeError("no thread")])
def test_where_there_is_no_descriptor_or_thread_one_end_will_do(
    tree: Directories, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    if isinstance(error, OSError):
        monkeypatch.setattr(FromEnd, "__init__", fail)
    else:
        monkeypatch.setattr(threading.Thread, "start", fail)
    packer = BothEnds(tree, ALL)
    for path in every_directory(tree):
        assert packer.pack(path, NOBODYS) == alone(tree, path)
    packer.close()
