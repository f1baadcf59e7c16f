"""Removing a subtree: deepest first, through no link, at any depth, sparing what is protected."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from netsync.tree.directories import HELD_MAX, Directories
from netsync.tree.remove import Protects, Removed, remove
from tests.support.confined import NOBODY, as_nobody, let_all_in, needs_known_calls, needs_root
from tests.support.trees import make_tree, open_descriptors, opened, read_tree

DEPTH = 1500


def nothing(path: bytes, directory: bool) -> bool:
    del path, directory
    return False


def removed(
    root: Path, path: bytes, protects: Protects = nothing, *, dry_run: bool = False
) -> list[Removed]:
    with opened(root) as fd, Directories(fd) as directories:
        return list(remove(directories, path, protects, dry_run=dry_run))


def test_a_subtree_goes_deepest_first_and_each_path_is_told(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"a": b"", "sub": {"b": b"", "c": None}}, "kept": b""})
    assert removed(tmp_path, b"d") == [
        Removed(b"d/a", False, None),
        Removed(b"d/sub/b", False, None),
        Removed(b"d/sub/c", False, None),
        Removed(b"d/sub", True, None),
        Removed(b"d", True, None),
    ]
    assert read_tree(tmp_path) == {"kept": b""}


def test_a_lone_file_goes(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"a": b"", "b": b""}})
    assert removed(tmp_path, b"d/a") == [Removed(b"d/a", False, None)]
    assert read_tree(tmp_path) == {"d": {"b": b""}}


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    assert removed(tmp_path, b"gone") == []


def test_a_dry_run_tells_the_same_and_touches_nothing(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "t", {"d": {"a": b"", "sub": {"b": b"", "empty": {}}}})
    before = read_tree(tree)
    told = removed(tree, b"d", dry_run=True)
    assert read_tree(tree) == before
    assert told == removed(tree, b"d")


def test_links_are_unlinked_and_never_followed(tmp_path: Path) -> None:
    make_tree(tmp_path, {"outside": {"victim": b"x"}})
    make_tree(tmp_path / "root", {"d": {"link": "../../outside", "file": "../../outside/victim"}})
    assert all(each.error is None for each in removed(tmp_path / "root", b"d"))
    assert read_tree(tmp_path) == {"outside": {"victim": b"x"}, "root": {}}


def test_a_link_given_as_the_path_is_unlinked(tmp_path: Path) -> None:
    make_tree(tmp_path, {"outside": {"victim": b"x"}, "link": "outside"})
    assert removed(tmp_path, b"link") == [Removed(b"link", False, None)]
    assert read_tree(tmp_path) == {"outside": {"victim": b"x"}}


def test_leftovers_of_netsync_do_not_keep_a_directory(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {".netsync-tmp-1": b"", "x": b""}})
    removed(tmp_path, b"d")
    assert read_tree(tmp_path) == {}


def test_a_protected_entry_stays_silently_with_the_directories_above_it(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"gone": b"", "sub": {"gone": b"", "keep.log": b"x"}, "other": {}}})
    told = removed(tmp_path, b"d", lambda path, _: path.endswith(b".log"))
    assert [each.path for each in told] == [b"d/gone", b"d/other", b"d/sub/gone"]
    assert read_tree(tmp_path) == {"d": {"sub": {"keep.log": b"x"}}}


def test_a_protected_directory_stays_with_all_that_is_in_it(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"keep": {"x": b"x"}, "gone": b""}})
    removed(tmp_path, b"d", lambda path, directory: directory and path == b"d/keep")
    assert read_tree(tmp_path) == {"d": {"keep": {"x": b"x"}}}


def test_protection_is_asked_with_the_path_and_the_kind(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"f": b"", "link": "f", "sub": {}}})
    asked: list[tuple[bytes, bool]] = []

    def protects(path: bytes, directory: bool) -> bool:
        asked.append((path, directory))
        return False

    removed(tmp_path, b"d", protects)
    assert asked == [(b"d", True), (b"d/f", False), (b"d/link", False), (b"d/sub", True)]


@needs_root
@needs_known_calls
def test_what_cannot_be_removed_is_told_and_the_rest_goes(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"locked": {"stays": b""}, "free": {"goes": b""}}})
    for path in (tmp_path, tmp_path / "d", tmp_path / "d" / "free"):
        os.chown(path, NOBODY, NOBODY)
    let_all_in(tmp_path.parent)
    told = as_nobody(lambda: removed(tmp_path, b"d"))
    failed = [each for each in told if each.error is not None]
    assert [each.path for each in failed] == [b"d/locked/stays"]
    assert isinstance(failed[0].error, PermissionError)
    assert read_tree(tmp_path) == {"d": {"locked": {"stays": b""}}}


def make_deep(root: Path) -> None:
    with opened(root) as start:
        fd = os.dup(start)
        for _ in range(DEPTH):
            os.mkdir(b"d", dir_fd=fd)
            below = os.open(b"d", os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open(b"file", os.O_CREAT, dir_fd=fd))
        os.close(fd)


def test_a_tree_deeper_than_recursion_and_path_lengths_allow_is_removed(tmp_path: Path) -> None:
    assert sys.getrecursionlimit() < DEPTH or sys.getrecursionlimit() == 1000
    make_deep(tmp_path)
    most = before = open_descriptors()
    count = 0
    with opened(tmp_path) as fd, Directories(fd) as directories:
        for each in remove(directories, b"d", nothing):
            assert each.error is None
            count += 1
            if count % 100 == 0:
                most = max(most, open_descriptors())
    assert count == DEPTH + 1
    assert most <= before + HELD_MAX + 2
    assert os.listdir(tmp_path) == []


@pytest.fixture(autouse=True)
def _leave_no_deep_tree(tmp_path: Path) -> object:
    yield
    if (tmp_path / "d").exists():
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
