"""Staging: nobody sees it before it is whole, and nothing of it stays when it is dropped."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from netsync.names import is_component, is_reserved
from netsync.tree.stage import TEMPORARY_PREFIX, UNLOCKED_SECONDS, Staged, sweep, temporary_name
from tests.support.confined import needs_known_calls, without_unnamed_files
from tests.support.failures import os_error
from tests.support.trees import make_tree, open_descriptors, opened, read_tree


def staged_with(directory: int, content: bytes) -> Staged:
    staged = Staged.create(directory)
    os.write(staged.fd, content)
    return staged


def publish(root: Path, name: bytes, content: bytes, *, replace: bool) -> None:
    with opened(root) as directory:
        staged = staged_with(directory, content)
        staged.publish(directory, name, replace=replace)
        staged.close()


def test_temporary_names_are_reserved_and_refused_from_peers() -> None:
    names = {temporary_name() for _ in range(100)}
    assert len(names) == 100
    assert all(is_reserved(name) and not is_component(name) for name in names)


def test_a_staged_file_is_not_seen_until_it_is_published(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        staged = staged_with(directory, b"content")
        assert read_tree(tmp_path) == {}
        staged.publish(directory, b"new", replace=False)
        staged.close()
    assert read_tree(tmp_path) == {"new": b"content"}


def test_a_staged_file_is_private_until_its_mode_is_set(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        staged = Staged.create(directory)
        assert os.fstat(staged.fd).st_mode & 0o7777 == 0o600
        staged.close()


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("there", [b"old content", "a link", None], ids=["file", "link", "fifo"])
def test_what_is_there_is_replaced_by_one_rename_even_if_it_came_late(
    tmp_path: Path, replace: bool, there: bytes | str | None
) -> None:
    make_tree(tmp_path, {"name": there})
    publish(tmp_path, b"name", b"new", replace=replace)
    assert read_tree(tmp_path) == {"name": b"new"}


def test_readers_of_the_old_file_keep_the_old_content(tmp_path: Path) -> None:
    make_tree(tmp_path, {"name": b"old"})
    with (tmp_path / "name").open("rb") as reader:
        publish(tmp_path, b"name", b"new", replace=True)
        assert reader.read() == b"old"


def test_other_names_of_a_replaced_file_keep_the_old_content(tmp_path: Path) -> None:
    make_tree(tmp_path, {"name": b"old"})
    os.link(tmp_path / "name", tmp_path / "other")
    publish(tmp_path, b"name", b"new", replace=True)
    assert read_tree(tmp_path) == {"name": b"new", "other": b"old"}


@pytest.mark.parametrize("replace", [True, False])
def test_a_directory_in_the_way_is_an_error_that_leaves_nothing(
    tmp_path: Path, replace: bool
) -> None:
    make_tree(tmp_path, {"name": {"kept": b"kept"}})
    before = open_descriptors()
    with opened(tmp_path) as directory:
        staged = staged_with(directory, b"new")
        with pytest.raises(IsADirectoryError):
            staged.publish(directory, b"name", replace=replace)
        staged.discard(directory)
    assert read_tree(tmp_path) == {"name": {"kept": b"kept"}}
    assert open_descriptors() == before


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    before = open_descriptors()
    with opened(tmp_path) as directory:
        staged_with(directory, b"x").discard(directory)
    assert read_tree(tmp_path) == {}
    assert open_descriptors() == before


@needs_known_calls
@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
class TestWithoutUnnamedFiles:
    """A file system that lacks ``O_TMPFILE`` gets named temporaries."""

    def test_a_locked_temporary_stands_in_and_is_renamed(self, tmp_path: Path, error: int) -> None:
        def work() -> None:
            with opened(tmp_path) as directory:
                staged = staged_with(directory, b"content")
                (name,) = os.listdir(tmp_path)
                assert name.encode() == staged.temporary
                assert staged.temporary.startswith(TEMPORARY_PREFIX)
                sweep(directory, [staged.temporary])
                assert os.listdir(tmp_path) == [name]
                staged.publish(directory, b"new", replace=False)
                staged.close()

        without_unnamed_files(work, error)
        assert read_tree(tmp_path) == {"new": b"content"}

    def test_it_replaces_what_is_there(self, tmp_path: Path, error: int) -> None:
        make_tree(tmp_path, {"new": b"old"})
        without_unnamed_files(lambda: publish(tmp_path, b"new", b"content", replace=True), error)
        assert read_tree(tmp_path) == {"new": b"content"}

    def test_discard_leaves_nothing(self, tmp_path: Path, error: int) -> None:
        def work() -> None:
            with opened(tmp_path) as directory:
                staged_with(directory, b"x").discard(directory)

        without_unnamed_files(work, error)
        assert read_tree(tmp_path) == {}

    def test_a_failed_publish_leaves_nothing(self, tmp_path: Path, error: int) -> None:
        make_tree(tmp_path, {"name": {"kept": b"kept"}})

        def work() -> None:
            with opened(tmp_path) as directory:
                staged = staged_with(directory, b"x")
                with pytest.raises(IsADirectoryError):
                    staged.publish(directory, b"name", replace=True)
                staged.discard(directory)

        without_unnamed_files(work, error)
        assert read_tree(tmp_path) == {"name": {"kept": b"kept"}}


@needs_known_calls
def test_an_error_that_says_something_else_is_not_hidden_by_the_fallback(tmp_path: Path) -> None:
    def work() -> None:
        with opened(tmp_path) as directory, os_error(errno.ENOSPC):
            Staged.create(directory)

    without_unnamed_files(work, errno.ENOSPC)
    assert read_tree(tmp_path) == {}


def test_sweep_removes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    leftover, locked = temporary_name(), temporary_name()
    make_tree(tmp_path, {leftover.decode(): b"x", locked.decode(): b"y", "user": b"z",
                         ".netsync-other": b"w", ".netsyncignore": b"*.o"})  # fmt: skip
    with opened(tmp_path) as directory, (tmp_path / locked.decode()).open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        sweep(directory, [os.fsencode(name) for name in os.listdir(tmp_path)])
    assert sorted(read_tree(tmp_path)) == sorted(
        [".netsync-other", ".netsyncignore", locked.decode(), "user"]
    )


def test_sweep_survives_names_that_are_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        sweep(directory, [temporary_name()])


@pytest.mark.parametrize("there", ["anywhere", None], ids=["link", "fifo"])
def test_sweep_removes_the_leftover_of_a_link_or_special_file(
    tmp_path: Path, there: str | None
) -> None:
    make_tree(tmp_path, {temporary_name().decode(): there})
    later = time.time() + UNLOCKED_SECONDS + 1
    with opened(tmp_path) as directory:
        sweep(directory, [os.fsencode(name) for name in os.listdir(tmp_path)], now=later)
    assert read_tree(tmp_path) == {}


def test_sweep_does_not_follow_a_link_with_a_temporarys_name(tmp_path: Path) -> None:
    make_tree(tmp_path, {"root": {temporary_name().decode(): "../victim"}, "victim": b"kept"})
    with opened(tmp_path / "root") as directory:
        sweep(directory, [os.fsencode(name) for name in os.listdir(tmp_path / "root")])
    assert (tmp_path / "victim").read_bytes() == b"kept"
