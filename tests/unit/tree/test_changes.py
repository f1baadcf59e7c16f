"""What the kernel tells of changes below a directory: everything, also in what is new or moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from netsync.tree.changes import Changes, watchable
from tests.support.samples import write


@contextmanager
def directory(path: Path) -> Any:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


async def watched(*paths: Path) -> Changes:
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        return await Changes.below(fds)
    finally:
        for fd in fds:
            os.close(fd)


async def changed(changes: Changes) -> bool:
    """Tell whether something has changed by now: what the kernel knows is told at once."""
    with trio.move_on_after(0.05) as scope:
        await changes.wait()
    return not scope.cancelled_caught


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path / "tree", {"a": "1", "sub/deep/b": "2", "other/c": "3"})


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file is made": lambda tree: (tree / "sub/deep/new").write_text(""),
    "a file is written": lambda tree: (tree / "sub/deep/b").write_text("longer"),
    "a file is removed": lambda tree: (tree / "a").unlink(),
    "a mode": lambda tree: (tree / "other").chmod(0o700),
    "a time": lambda tree: os.utime(tree / "a", (1, 1)),
    "an attribute": lambda tree: os.setxattr(tree / "a", "user.x", b"1"),
    "a directory is made": lambda tree: (tree / "new").mkdir(),
    "a directory moves": lambda tree: (tree / "sub").rename(tree / "other" / "sub"),
    "a link is made": lambda tree: (tree / "link").symlink_to("/"),
    "a file is linked": lambda tree: os.link(tree / "a", tree / "sub" / "a"),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_every_change_is_told_once(tree: Path, what: str) -> None:
    changes = await watched(tree)
    try:
        assert not await changed(changes)
        CHANGES[what](tree)
        assert await changed(changes)
        assert not await changed(changes)
        assert not changes.ended
        assert changes.trouble == ""
    finally:
        changes.close()


async def test_reading_is_no_change(tree: Path) -> None:
    changes = await watched(tree)
    try:
        (tree / "a").read_text()
        list(tree.rglob("*"))
        assert not await changed(changes)
    finally:
        changes.close()


async def test_netsyncs_own_names_are_no_change_but_its_ignore_files_are(tree: Path) -> None:
    changes = await watched(tree)
    try:
        (tree / ".netsync").mkdir()
        (tree / ".netsync" / "stage").write_text("x")
        (tree / "sub" / ".netsync-1").write_text("x")
        assert not await changed(changes)
        (tree / ".netsyncignore").write_text("x")
        assert await changed(changes)
    finally:
        changes.close()


async def test_what_is_new_is_watched_with_all_below_it(tree: Path) -> None:
    changes = await watched(tree)
    try:
        write(tree / "new", {"x/y/z": "1"})
        assert await changed(changes)
        await changed(changes)
        (tree / "new/x/y/z").write_text("2")
        assert await changed(changes)
    finally:
        changes.close()


async def test_what_moved_is_watched_where_it_is_now(tree: Path) -> None:
    """A directory made in it later is found by its new path."""
    changes = await watched(tree)
    try:
        (tree / "sub").rename(tree / "other" / "moved")
        assert await changed(changes)
        (tree / "other/moved/deep/below").mkdir()
        assert await changed(changes)
        (tree / "other/moved/deep/below/file").write_text("1")
        assert await changed(changes)
    finally:
        changes.close()


async def test_what_moved_out_is_not_watched_any_more(tree: Path, tmp_path: Path) -> None:
    changes = await watched(tree)
    try:
        (tree / "sub").rename(tmp_path / "out")
        assert await changed(changes)
        await changes.gather()
        (tmp_path / "out/deep/b").write_text("changed elsewhere")
        assert not await changed(changes)
    finally:
        changes.close()


async def test_a_link_is_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"f": "1"})
    (tree / "link").symlink_to(outside)
    changes = await watched(tree)
    try:
        (outside / "f").write_text("2")
        assert not await changed(changes)
    finally:
        changes.close()


async def test_a_root_that_goes_ends_the_watch(tree: Path, tmp_path: Path) -> None:
    changes = await watched(tree)
    try:
        tree.rename(tmp_path / "elsewhere")
        assert await changed(changes)
        assert changes.ended
    finally:
        changes.close()


async def test_several_roots_are_watched_as_one(tree: Path, tmp_path: Path) -> None:
    second = write(tmp_path / "second", {"d/f": "1"})
    changes = await watched(tree, second)
    try:
        (second / "d/f").write_text("2")
        assert await changed(changes)
        (tree / "sub/deep/b").write_text("3")
        assert await changed(changes)
    finally:
        changes.close()


async def test_an_overflow_is_a_change_and_the_watch_goes_on(tree: Path) -> None:
    changes = await watched(tree)
    try:
        changes._notifiers[0]._overflowed = True
        (tree / "a").write_text("2")
        assert await changed(changes)
        assert not changes.ended
        (tree / "sub/deep/b").write_text("2")
        assert await changed(changes)
    finally:
        changes.close()


async def test_too_few_watches_are_said_with_what_to_do(tree: Path) -> None:
    changes = await watched(tree)
    try:
        changes._notifiers[0].uncovered.add(b"sub")
        (tree / "a").write_text("2")
        assert await changed(changes)
        assert "too few inotify watches" in changes.trouble
        assert "raise fs.inotify.max_user_watches" in changes.trouble
    finally:
        changes.close()


def test_what_to_watch_for_a_source(tree: Path) -> None:
    """A directory itself, and for a file the directory that holds it."""
    with directory(tree) as fd:
        for name, expected in ((b"", tree), (b"sub", tree / "sub"), (b"a", tree)):
            found = watchable(fd, name)
            assert os.readlink(f"/proc/self/fd/{found}") == str(expected)
            os.close(found)


async def test_closing_leaves_no_descriptor(tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    changes = await watched(tree)
    (tree / "new").mkdir()
    await changed(changes)
    changes.close()
    changes.close()
    assert len(os.listdir("/proc/self/fd")) == before
