"""Marks of files that are being written in place: which backup must not be replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from netsync.tree.half_written import HalfWritten
from netsync.tree.large_files import Stage
from tests.support.trees import make_tree, opened, temporaries


def marked(root: Path, fd: int) -> None:
    """Leave the mark of a session that died while it wrote ``f`` in place."""
    make_tree(root, {"f": b"half old, half new", ".kept": {"f": b"good"}})
    stage = Stage(fd)
    stage.open()
    marks = HalfWritten(fd, stage)
    assert not marks.has_backup(fd, b"f")
    marks.note(fd, b"f", b".kept")
    assert marks.has_backup(fd, b"f")
    marks.close()
    stage.close()


def has_backup(fd: int, *, forget: bool = False) -> bool:
    """Return what the next session thinks of ``f``."""
    stage = Stage(fd)
    stage.open()
    marks = HalfWritten(fd, stage)
    try:
        return marks.has_backup(fd, b"f")
    finally:
        if forget:
            marks.forget(b"f")
        marks.close()
        stage.close()


def test_the_next_session_finds_the_mark(tmp_path: Path) -> None:
    """However often it dies; once the file is complete the mark is gone, and the stage with it."""
    with opened(tmp_path) as fd:
        marked(tmp_path, fd)
        assert has_backup(fd)
        assert has_backup(fd)
        assert has_backup(fd, forget=True)
        assert not has_backup(fd)
        assert temporaries(tmp_path) == []


def test_a_file_that_is_complete_has_no_mark(tmp_path: Path) -> None:
    """It died when all was written but the mark was not removed: the comparison finds no change."""
    with opened(tmp_path) as fd:
        marked(tmp_path, fd)
        stage = Stage(fd)
        stage.open()
        assert stage.has_leftovers
        stage.complete(b"another")
        assert stage.has_leftovers
        stage.complete(b"f")
        stage.close()
        assert temporaries(tmp_path) == []


def test_another_file_in_its_place_is_backed_up(tmp_path: Path) -> None:
    """The mark is of one inode: what was put there since is nobody's half."""
    with opened(tmp_path) as fd:
        marked(tmp_path, fd)
        os.rename(tmp_path / "f", tmp_path / "elsewhere")
        (tmp_path / "f").write_bytes(b"a whole one")
        assert not has_backup(fd)


def test_without_its_backup_the_mark_says_nothing(tmp_path: Path) -> None:
    """Half a file is better than none: it is kept where the good version is gone."""
    with opened(tmp_path) as fd:
        marked(tmp_path, fd)
        (tmp_path / ".kept" / "f").unlink()
        assert not has_backup(fd)


def test_a_mark_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """It is our file, but a disk may have lost what is in it."""
    with opened(tmp_path) as fd:
        marked(tmp_path, fd)
        (mark,) = tmp_path.glob(".netsync/*/half-*")
        mark.write_bytes(b"")
        assert not has_backup(fd)


def test_without_a_stage_there_are_no_marks(tmp_path: Path) -> None:
    """A stage that others may write to is not used; the run goes on."""
    (tmp_path / ".netsync").mkdir(mode=0o777)
    (tmp_path / ".netsync").chmod(0o777)
    (tmp_path / "f").write_bytes(b"")
    with opened(tmp_path) as fd:
        stage = Stage(fd)
        stage.open()
        marks = HalfWritten(fd, stage)
        marks.note(fd, b"f", b".kept")
        assert not marks.has_backup(fd, b"f")
        marks.close()
        stage.close()


def test_a_mark_that_cannot_be_removed_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is complete: it is backed up as ever before it is written over again."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(tmp_path) as fd:
        marked(tmp_path, fd)
        with monkeypatch.context() as broken:
            broken.setattr(os, "unlink", refuse)
            assert has_backup(fd, forget=True)
        assert not has_backup(fd)
        marked(tmp_path, fd)
        with monkeypatch.context() as broken:
            broken.setattr(os, "unlink", refuse)
            broken.setattr(os, "ftruncate", refuse)
            with pytest.raises(OSError, match="error"):
                has_backup(fd, forget=True)


def test_a_mark_that_cannot_be_written_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full the file is not written either."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(tmp_path) as fd, monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="space"):
            marked(tmp_path, fd)
        assert list(tmp_path.glob(".netsync/*/*")) == []
