"""Directories that were moved at the source are moved at the target, or left to the comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from netsync.model import Move, Options, Rule
from netsync.transfer.relocating import relocate
from tests.support.trees import Value, make_tree, needs_mount, opened, read_tree, small_disk

OPTIONS = Options(changes=True, delete=True, paths=())
TREE: Final[Mapping[str, Value]] = {
    "d": {"e": {"f": b"1"}}, "other": {"g": b"2"}, "file": b"3", "link": "other",
}  # fmt: skip


def moved(root: Path, *moves: tuple[bytes, bytes], **options: Any) -> None:
    """Move as told below ``root``."""
    told = tuple(Move(*each) for each in moves)
    with opened(root) as fd:
        relocate(fd, msgspec.structs.replace(OPTIONS, moves=told, **options))


def test_a_directory_goes_where_it_went_and_is_the_same(tmp_path: Path) -> None:
    """Also elsewhere; one after the other, so that two may change places."""
    make_tree(tmp_path, TREE)
    inode = (tmp_path / "d" / "e" / "f").stat().st_ino
    moved(tmp_path, (b"d/e", b"other/n"))
    assert (tmp_path / "other" / "n" / "f").stat().st_ino == inode
    moved(tmp_path, (b"d", b"tmp"), (b"other", b"d"), (b"tmp", b"other"))
    assert read_tree(tmp_path) == {
        "d": {"g": b"2", "n": {"f": b"1"}}, "other": {}, "file": b"3", "link": "other"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"d", b"other"), (b"d", b"other/g"), (b"d", b"file"), (b"file", b"new"), (b"link", b"new"),
        (b"none", b"new"), (b"d", b"none/new"), (b"d", b"link/new"), (b"d/../other", b"new"),
        (b"d", b"../new"), (b"d", b"/new"), (b"d", b""), (b"", b"new"), (b"d", b"d/e/d"),
        (b"d", b".netsync"), (b"d", b"d"), (b"d", b"new\0"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_as_told_is_left(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Nothing is replaced, no link followed, nothing leaves the root."""
    make_tree(tmp_path / "root", TREE)
    moved(tmp_path / "root", (old, new))
    assert read_tree(tmp_path) == {"root": TREE}


def test_an_empty_directory_in_the_way_is_not_replaced_either(tmp_path: Path) -> None:
    tree: Mapping[str, Value] = {**TREE, "empty": {}}
    make_tree(tmp_path, tree)
    moved(tmp_path, (b"d", b"empty"))
    assert read_tree(tmp_path) == tree


@pytest.mark.parametrize(
    "options",
    [
        {"delete": False}, {"changes": False}, {"dry_run": True}, {"atomic": True},
        {"rules": (Rule(True, b"*.log"),)}, {"backup_dir": b".old"}, {"existing": True},
        {"ignore_existing": True}, {"max_size": 5}, {"min_size": 5}, {"one_file_system": True},
    ],
)  # fmt: skip
def test_what_keeps_something_in_its_place_keeps_all(
    tmp_path: Path, options: dict[str, object]
) -> None:
    make_tree(tmp_path, TREE)
    moved(tmp_path, (b"d", b"new"), **options)
    assert read_tree(tmp_path) == TREE


@pytest.mark.parametrize("place", ["", "d", "other"])
def test_nothing_leaves_the_shelter_of_an_ignore_file(tmp_path: Path, place: str) -> None:
    """What it excludes may be here alone, and would be deleted where the file does not count."""
    make_tree(tmp_path, TREE)
    (tmp_path / place / ".netsyncignore").write_text("*.keep\n")
    moved(tmp_path, (b"d/e", b"other/n"))
    assert (tmp_path / "d" / "e" / "f").exists()


@needs_mount
def test_what_is_mounted_stays(tmp_path: Path) -> None:
    make_tree(tmp_path, TREE)
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (disk / "x").mkdir()
        moved(tmp_path, (b"disk", b"new"), (b"disk/x", b"x"))
        assert sorted(os.listdir(tmp_path)) == ["d", "disk", "file", "link", "other"]
        assert os.listdir(disk) == ["x"]


def test_moves_are_told_with_changes_only() -> None:
    """A server ends a session that asks for anything else."""
    options = msgspec.structs.replace(OPTIONS, moves=(Move(b"a", b"b"),))
    assert options.contradiction() == ""
    whole = msgspec.structs.replace(options, changes=False)
    assert whole.contradiction() == "moves are told with what changed"


def test_a_move_from_one_depth_to_another(tmp_path: Path) -> None:
    """Deeper than directories are held open."""
    for side in ("a", "b"):
        (tmp_path / side / "/".join("x" * 30)).mkdir(parents=True)
    far, there = (f"{side}/{'/'.join('x' * 30)}" for side in ("a", "b"))
    make_tree(tmp_path / far / "d", {"f": b"1"})
    moved(tmp_path, (f"{far}/d".encode(), f"{there}/d".encode()))
    assert read_tree(tmp_path / there) == {"d": {"f": b"1"}}
    assert read_tree(tmp_path / far) == {}
