"""Held directories: a bounded number, no link followed, forgotten when asked."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from netsync.tree.directories import HELD_MAX, Directories
from tests.support.failures import os_error
from tests.support.trees import make_tree, open_descriptors, opened


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def test_the_empty_path_is_the_root_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as root, Directories(root) as directories:
        assert directories.fd(b"") == root


def test_a_path_leads_to_its_directory(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": {"b": {"c": {}}}, "x": {}})
    with opened(tmp_path) as root, Directories(root) as directories:
        for path in ("a/b/c", "x", "a", "a/b", "a/b/c"):
            assert inode(directories.fd(path.encode())) == (tmp_path / path).stat().st_ino


def test_a_held_directory_is_not_opened_again(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": {"b": {}}})
    with opened(tmp_path) as root, Directories(root) as directories:
        first = directories.fd(b"a/b")
        assert directories.fd(b"a/b") == first
        (tmp_path / "a").rename(tmp_path / "moved")
        assert directories.fd(b"a/b") == first


def test_no_more_than_the_bound_are_held_however_many_are_used(tmp_path: Path) -> None:
    make_tree(tmp_path, {f"d{number}": {"in": {}} for number in range(2 * HELD_MAX)})
    with opened(tmp_path) as root, Directories(root) as directories:
        before = open_descriptors()
        for number in range(2 * HELD_MAX):
            path = f"d{number}/in"
            assert inode(directories.fd(path.encode())) == (tmp_path / path).stat().st_ino
            assert open_descriptors() <= before + HELD_MAX
    assert open_descriptors() == before - 1


def test_a_path_deeper_than_the_bound_works_up_and_down(tmp_path: Path) -> None:
    depth = 3 * HELD_MAX
    deepest = tmp_path.joinpath(*["d"] * depth)
    deepest.mkdir(parents=True)
    with opened(tmp_path) as root, Directories(root) as directories:
        for length in [*range(1, depth + 1), *range(depth, 0, -1)]:
            expected = tmp_path.joinpath(*["d"] * length).stat().st_ino
            assert inode(directories.fd(b"/".join([b"d"] * length))) == expected


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    make_tree(tmp_path, {f"d{number}": {} for number in range(HELD_MAX + 1)})
    with opened(tmp_path) as root, Directories(root) as directories:
        kept, gone = directories.fd(b"d0"), b"d1"
        for number in range(1, HELD_MAX):
            directories.fd(b"d%d" % number)
        directories.fd(b"d0")
        directories.fd(b"d%d" % HELD_MAX)
        (tmp_path / "d0").rename(tmp_path / "moved")
        (tmp_path / "d1").rename(tmp_path / "moved too")
        assert directories.fd(b"d0") == kept
        with pytest.raises(FileNotFoundError):
            directories.fd(gone)


@pytest.mark.parametrize("path", [b"link", b"link/sub", b"real/link", b"real/link/sub"])
def test_a_link_anywhere_in_the_path_is_an_error(tmp_path: Path, path: bytes) -> None:
    make_tree(tmp_path, {"root": {"link": "../outside", "real": {"link": "../../outside"}}})
    make_tree(tmp_path / "outside", {"sub": {}})
    refused = os_error(errno.ELOOP, errno.ENOTDIR)
    with opened(tmp_path / "root") as root, Directories(root) as directories, refused:
        directories.fd(path)


def test_a_directory_swapped_for_a_link_is_an_error_once_forgotten(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d": {"sub": {}}, "outside": {"sub": {}}})
    with opened(tmp_path) as root, Directories(root) as directories:
        directories.fd(b"d/sub")
        (tmp_path / "d").rename(tmp_path / "old")
        (tmp_path / "d").symlink_to("outside")
        directories.forget(b"d")
        with os_error(errno.ELOOP, errno.ENOTDIR):
            directories.fd(b"d/sub")


def test_a_file_in_the_path_is_an_error(tmp_path: Path) -> None:
    make_tree(tmp_path, {"file": b"x"})
    refused = pytest.raises(NotADirectoryError)
    with opened(tmp_path) as root, Directories(root) as directories, refused:
        directories.fd(b"file")


def test_forget_drops_a_directory_and_all_below_it_but_no_namesake(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": {"b": {"c": {}}}, "ab": {}})
    with opened(tmp_path) as root, Directories(root) as directories:
        directories.fd(b"a/b/c")
        namesake = directories.fd(b"ab")
        held = open_descriptors()
        directories.forget(b"a")
        assert open_descriptors() == held - 3
        assert directories.fd(b"ab") == namesake
        os.fstat(namesake)


def test_closing_leaves_the_root_to_its_owner(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": {}})
    with opened(tmp_path) as root:
        before = open_descriptors()
        with Directories(root) as directories:
            directories.fd(b"a")
        assert open_descriptors() == before
        os.fstat(root)
