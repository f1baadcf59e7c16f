"""The backup directory by itself: names, copies where names cannot be, and nothing outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netsync.errors import RootError
from netsync.model import Options
from netsync.tree.backup import Backup, check_backup_directory
from netsync.tree.directories import Directories
from netsync.tree.remove import remove
from netsync.tree.scan import entry_at
from tests.support.trees import make_tree, open_descriptors, opened, read_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "root", {"f": b"1", "d": {"g": b"2", "l": "f", "p": None}})


def test_what_is_replaced_gets_a_second_name(root: Path) -> None:
    """The inode itself: nothing is copied, and the old name stays until it is replaced."""
    before = open_descriptors()
    with opened(root / "d") as fd:
        backup = Backup(fd, Options(backup_dir=b"b"))  # relative to any root
        backup.keep(fd, b"g")
        backup.keep(fd, b"g")  # a cut run has done it already
        backup.keep(fd, b"not there")
        backup.close()
    assert (root / "d" / "g").samefile(root / "d" / "b" / "g")
    assert open_descriptors() == before


def test_an_older_backup_of_any_kind_makes_way(root: Path) -> None:
    make_tree(root / "b", {"f": {"x": {"y": b"old"}}, "d": b"old"})
    with opened(root) as fd, opened(root / "d") as inner:
        backup = Backup(fd, Options(backup_dir=b"b"))
        backup.keep(fd, b"f")
        backup.move(inner, b"d/g")
        backup.move(inner, b"d/l")
        backup.close()
    assert read_tree(root / "b") == {"f": b"1", "d": {"g": b"2", "l": "f"}}
    assert read_tree(root / "d") == {"p": None}


def test_what_a_copy_that_was_cut_left_in_the_backup_is_removed(root: Path) -> None:
    """Nobody else looks there: a backup directory is neither listed nor deleted in."""
    make_tree(root / "b", {"d": {".netsync-tmp-1": b"half a copy", "old": b"kept"}})
    with opened(root / "d") as inner, opened(root) as fd:
        backup = Backup(fd, Options(backup_dir=b"b"))
        backup.copy_once(inner, b"d/g")
        backup.close()
    assert read_tree(root / "b") == {"d": {"g": b"2", "old": b"kept"}}


def test_a_directory_is_not_replaced_so_it_is_not_kept(root: Path) -> None:
    with opened(root) as fd:
        backup = Backup(fd, Options(backup_dir=b"b"))
        with pytest.raises(IsADirectoryError):
            backup.keep(fd, b"d")
        backup.close()
    assert not (root / "b").exists()


def test_what_sessions_left_is_nobodys_content(root: Path) -> None:
    make_tree(root / "d", {".netsync": {"session-1": {"part": b"1"}}, ".netsync-tmp-1": b"2"})
    with opened(root) as fd, Directories(fd) as directories:
        backup = Backup(fd, Options(backup_dir=b"b"))
        assert all(
            each.error is None
            for each in remove(directories, b"d", lambda *_: False, keeper=backup)
        )
        backup.close()
    assert read_tree(root) == {"f": b"1", "b": {"d": {"g": b"2", "l": "f", "p": None}}}


def test_in_place_the_first_content_is_copied_once(root: Path) -> None:
    """A second attempt at the same file must not back up what the first has written."""
    with opened(root) as fd:
        backup = Backup(fd, Options(backup_dir=b"b"))
        backup.copy_once(fd, b"f")
        (root / "f").write_bytes(b"half written")
        backup.copy_once(fd, b"f")
        backup.keep(fd, b"f")
        assert read_tree(root / "b") == {"f": b"1"}
        backup.copy_once(fd, b"f")
        backup.close()
    assert read_tree(root / "b") == {"f": b"half written"}


def test_a_removed_tree_is_there_with_its_directories(root: Path) -> None:
    """Modes and times as they were, empty directories too; temporaries of ours are not kept."""
    make_tree(root / "d", {"empty": {}, ".netsync-tmp-00": b"left behind"})
    (root / "d" / "empty").chmod(0o710)
    os.utime(root / "d" / "empty", ns=(0, 10**18))
    with opened(root) as fd:
        before = entry_at(fd, b"d")
        backup, directories = Backup(fd, Options(backup_dir=b"b")), Directories(fd)
        removed = list(remove(directories, b"d", lambda *_: False, keeper=backup))
        assert [each.error for each in removed] == [None] * 6
        backup.close()
        directories.close()
        with opened(root / "b") as kept:
            assert entry_at(kept, b"d") == before
    assert read_tree(root / "b") == {"d": {"g": b"2", "l": "f", "p": None, "empty": {}}}
    assert (root / "b" / "d" / "empty").stat().st_mode & 0o777 == 0o710
    assert (root / "b" / "d" / "empty").stat().st_mtime_ns == 10**18


def test_copies_and_directories_carry_attributes(root: Path) -> None:
    """Extended attributes go along, and with them ACLs, which say what a mode means."""
    for name in ("f", "d"):
        os.setxattr(root / name, "user.k", name.encode())
    with opened(root) as fd, opened(root / "d") as inner:
        backup = Backup(fd, Options(backup_dir=b"b"))
        backup.copy_once(fd, b"f")
        backup.keep(inner, b"d/g")
        backup.close()
    for name in ("f", "d"):
        assert os.getxattr(root / "b" / name, "user.k") == name.encode()


def test_without_a_directory_what_is_moved_is_gone(root: Path) -> None:
    with opened(root) as fd:
        backup = Backup(fd, Options(backup_dir=b""))
        backup.keep(fd, b"f")
        backup.copy_once(fd, b"f")
        backup.move(fd, b"f")
        backup.directory(entry_at(fd, b"d"), b"d")
        backup.close()
    assert read_tree(root) == {"d": {"g": b"2", "l": "f", "p": None}}


@pytest.mark.parametrize("path", [b"link", b"link/in", b"f", b"f/x", b"d/l", b"d/l/x"])
def test_a_link_or_file_in_the_path_is_refused(root: Path, tmp_path: Path, path: bytes) -> None:
    """When the run begins, and again when it is used: it may have come since."""
    outside = make_tree(tmp_path / "outside", {"in": {}})
    (root / "link").symlink_to(outside)
    with opened(root) as fd:
        with pytest.raises(RootError, match="backup directory"):
            check_backup_directory(fd, path)
        backup = Backup(fd, Options(backup_dir=path))
        with pytest.raises(NotADirectoryError):
            backup.move(fd, b"f")
        backup.close()
        check_backup_directory(fd, b"d/new/deep")
        check_backup_directory(fd, b"d")
    assert read_tree(outside) == {"in": {}}
    assert (root / "f").read_bytes() == b"1"
