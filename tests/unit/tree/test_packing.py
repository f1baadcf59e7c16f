"""Directories are packed several at a time, and are the same as if packed one by one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.tree.directories import Directories
from netsync.tree.native import Coverage, pack_directory
from netsync.tree.packing import FRESH_SECONDS, Packer
from netsync.tree.records import name_at
from tests.support.trees import Value, every_directory, make_tree

ALL = Coverage(0o7777, 254, True, True, True, True, 1 << 20)
LEAF: dict[str, Value] = {f"file{number}": b"" for number in range(12)}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Directories]:
    """Three levels of five directories each, and here and there what is not covered."""
    lowest: dict[str, Value] = {**LEAF, "d": {}, ".netsync-tmp-0": b""}
    middle: dict[str, Value] = {f"{letter}": dict(lowest) for letter in "abcde"}
    make_tree(tmp_path, {f"{letter}": {**middle, "x": b""} for letter in "klmno"})
    make_tree(tmp_path / "l" / "c", {".netsyncignore": b"*.o\n"})
    os.link(tmp_path / "m" / "x", tmp_path / "m" / "y")
    fd = os.open(tmp_path, os.O_RDONLY)
    with Directories(fd) as directories:
        yield directories
    os.close(fd)


def test_in_the_order_of_a_listing_each_is_what_it_is_alone(tree: Directories) -> None:
    packer = Packer(tree, ALL, {})
    for path in every_directory(tree):
        assert packer.pack(path) == pack_directory(tree.fd(path), ALL, b"", b"")


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_too(tree: Directories, seed: int) -> None:
    paths = every_directory(tree)
    random.Random(seed).shuffle(paths)
    packer = Packer(tree, ALL, {})
    for path in paths:
        assert packer.pack(path) == pack_directory(tree.fd(path), ALL, b"", b"")


def test_other_owners_have_it_read_anew(tree: Directories) -> None:
    packer = Packer(tree, ALL, {})
    mine = os.geteuid()
    owners = (mine.to_bytes(4, "little") + (77).to_bytes(4, "little"), b"")
    for number, path in enumerate(every_directory(tree)):
        found, _ = packer.pack(path, owners if number % 7 > 3 else (b"", b""))
        if found is not None and found[1]:
            assert found[4] == [77 if number % 7 > 3 else mine]


def test_what_was_known_is_believed(tree: Directories) -> None:
    found, own = pack_directory(tree.fd(b"k/a"), ALL, b"", b"")
    assert found is not None
    known = (found[0], 99, *found[2:]), own
    packer = Packer(tree, ALL, {b"k/b": known})
    assert packer.pack(b"l/c") == (None, [b".netsync-tmp-0"]), "what nobody covers was not missed"
    assert packer.pack(b"k/b") == known


def test_what_rested_too_long_is_read_anew(tree: Directories) -> None:
    """A walk that waits for the other side goes on with what is there then."""
    moment = [0.0]
    packer = Packer(tree, ALL, {}, lambda: moment[0])
    for path in (b"k", b"k/a", b"k/a/d", b"k/b", b"k/b/d", b"k/c", b"k/c/d", b"k/d"):
        packer.pack(path)
    os.mkdir("new", dir_fd=tree.fd(b"k/d/d"))
    moment[0] = FRESH_SECONDS
    taken_along, _ = packer.pack(b"k/d/d")
    assert taken_along is not None
    assert taken_along[1] == 0, "it was read with the others"
    os.mkdir("new", dir_fd=tree.fd(b"k/e"))
    moment[0] += 2 * FRESH_SECONDS
    assert packer.pack(b"k/e") == pack_directory(tree.fd(b"k/e"), ALL, b"", b"")


def test_what_is_gone_is_an_error(tree: Directories) -> None:
    packer = Packer(tree, ALL, {})
    with pytest.raises(FileNotFoundError):
        packer.pack(b"k/gone")
    assert name_at(packer.pack(b"")[0][0], 0) == b"k"  # type: ignore[index]
