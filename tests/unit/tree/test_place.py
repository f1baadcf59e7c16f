"""Single entries: what is set, in which order, through no link, and never a bit too much."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from netsync.model import Entry, Kind
from netsync.tree.place import (
    Attributes,
    Refusals,
    create_directory,
    create_special,
    set_on_descriptor,
    set_on_name,
)
from netsync.tree.scan import entry_at
from tests.support.confined import NOBODY, as_nobody, let_all_in, needs_known_calls, needs_root
from tests.support.failures import os_error
from tests.support.trees import make_tree, opened, read_tree

TIME = 1_234_567_890_123_456_789
ALL = Attributes(0o6754, 12, 34, TIME)


def facts(path: Path) -> tuple[int, int, int, int]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns


def on_name(path: Path, wanted: Attributes) -> Refusals:
    with opened(path.parent) as directory:
        name = os.fsencode(path.name)
        return set_on_name(directory, name, entry_at(directory, name), wanted)


def on_descriptor(path: Path, wanted: Attributes) -> Refusals:
    fd = os.open(path, os.O_RDONLY)
    try:
        return set_on_descriptor(fd, wanted)
    finally:
        os.close(fd)


Setter = Callable[[Path, Attributes], Refusals]
SETTERS = pytest.mark.parametrize("setter", [on_name, on_descriptor])


@needs_root
@SETTERS
def test_owner_mode_and_time_are_all_set_set_id_bits_included(
    tmp_path: Path, setter: Setter
) -> None:
    make_tree(tmp_path, {"f": b"x"})
    setter(tmp_path / "f", ALL)
    assert facts(tmp_path / "f") == (0o6754, 12, 34, TIME)


@needs_root
@SETTERS
def test_a_change_of_owner_alone_keeps_set_id_bits_that_are_wanted(
    tmp_path: Path, setter: Setter
) -> None:
    make_tree(tmp_path, {"f": b"x"})
    (tmp_path / "f").chmod(0o6755)
    setter(tmp_path / "f", Attributes(0o6755, 12, None, None))
    assert facts(tmp_path / "f")[:2] == (0o6755, 12)


@SETTERS
def test_none_leaves_a_thing_as_it_is(tmp_path: Path, setter: Setter) -> None:
    make_tree(tmp_path, {"f": b"x"})
    before = facts(tmp_path / "f")
    setter(tmp_path / "f", Attributes(None, None, None, None))
    assert facts(tmp_path / "f") == before
    setter(tmp_path / "f", Attributes(None, None, None, TIME))
    assert facts(tmp_path / "f") == (*before[:3], TIME)


@needs_root
def test_a_link_itself_is_changed_and_not_what_it_points_to(tmp_path: Path) -> None:
    make_tree(tmp_path, {"victim": b"x", "link": "victim"})
    before = facts(tmp_path / "victim")
    on_name(tmp_path / "link", ALL)
    assert facts(tmp_path / "link")[1:] == (12, 34, TIME)
    assert facts(tmp_path / "victim") == before


@needs_root
@pytest.mark.parametrize(
    "wanted",
    [
        Attributes(0o4777, None, None, TIME),
        Attributes(0o600, NOBODY, NOBODY, None),
        Attributes(None, None, None, TIME),
    ],
    ids=["mode", "owner", "time"],
)
def test_a_name_that_became_a_link_since_is_not_followed(
    tmp_path: Path, wanted: Attributes
) -> None:
    make_tree(tmp_path, {"victim": b"x", "name": "victim"})
    before = facts(tmp_path / "victim")
    thought = Entry(b"name", Kind.FILE, 0o600, os.getuid(), os.getgid(), 1, 5)
    with opened(tmp_path) as directory, contextlib.suppress(OSError):
        set_on_name(directory, b"name", thought, wanted)
    assert facts(tmp_path / "victim") == before


def nobodys(tmp_path: Path, mode: int) -> Path:
    """Return a file of nobody's that nobody can reach."""
    path = tmp_path / "f"
    path.write_bytes(b"x")
    os.chown(path, NOBODY, NOBODY)
    path.chmod(mode)
    let_all_in(tmp_path)
    return path


@needs_root
@needs_known_calls
@SETTERS
def test_where_the_owner_cannot_be_changed_set_id_bits_are_not_given(
    tmp_path: Path, setter: Setter
) -> None:
    path = nobodys(tmp_path, 0o600)
    wanted = Attributes(0o6755, 0, None, TIME)
    refused = as_nobody(lambda: setter(path, wanted))
    assert [(each.op, type(each.error)) for each in refused] == [("set owner of", PermissionError)]
    assert facts(path)[:2] == (0o755, NOBODY)
    assert path.stat().st_mtime_ns == TIME


@needs_root
@needs_known_calls
@SETTERS
def test_where_the_owner_cannot_be_changed_set_id_bits_there_are_taken_away(
    tmp_path: Path, setter: Setter
) -> None:
    path = nobodys(tmp_path, 0o6755)
    refused = as_nobody(lambda: setter(path, Attributes(0o6755, 0, None, None)))
    assert [(each.op, type(each.error)) for each in refused] == [("set owner of", PermissionError)]
    assert facts(path)[0] == 0o755


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        create_directory(directory, b"d")
    assert facts(tmp_path / "d")[0] == 0o700


LINK = Entry(b"name", Kind.SYMLINK, 0o777, 0, 0, 0, 0, b"\xff/no/where")
SPECIALS = [
    LINK,
    Entry(b"name", Kind.FIFO, 0o640, 0, 0, 0, 0),
    Entry(b"name", Kind.SOCKET, 0o640, 0, 0, 0, 0),
    pytest.param(Entry(b"name", Kind.CHARACTER, 0o640, 0, 0, 0, 0, b"", 0x103), marks=needs_root),
    pytest.param(Entry(b"name", Kind.BLOCK, 0o640, 0, 0, 0, 0, b"", 0x700), marks=needs_root),
]


@pytest.mark.parametrize("entry", SPECIALS, ids=lambda entry: entry.kind.name)
@pytest.mark.parametrize("replace", [False, True])
def test_a_special_entry_gets_its_content_and_metadata(
    tmp_path: Path, entry: Entry, replace: bool
) -> None:
    if replace:
        make_tree(tmp_path, {"name": b"in the way"})
    wanted = Attributes(entry.mode, None, None, TIME)
    with opened(tmp_path) as directory:
        create_special(directory, entry, wanted, replace=replace)
        made = entry_at(directory, b"name")
    assert (made.kind, made.target, made.device) == (entry.kind, entry.target, entry.device)
    assert made.mtime_ns == TIME
    assert entry.kind is Kind.SYMLINK or made.mode == 0o640
    assert os.listdir(tmp_path) == ["name"]


def test_without_replace_what_is_there_stays(tmp_path: Path) -> None:
    make_tree(tmp_path, {"name": b"mine"})
    with opened(tmp_path) as directory, pytest.raises(FileExistsError):
        create_special(directory, LINK, ALL, replace=False)
    assert read_tree(tmp_path) == {"name": b"mine"}


def test_a_directory_in_the_way_of_a_special_entry_leaves_no_temporary(tmp_path: Path) -> None:
    make_tree(tmp_path, {"name": {"kept": b"x"}})
    with opened(tmp_path) as directory, pytest.raises(IsADirectoryError):
        create_special(directory, LINK, Attributes(None, None, None, None), replace=True)
    assert read_tree(tmp_path) == {"name": {"kept": b"x"}}


def test_a_device_number_that_cannot_be_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    entry = Entry(b"name", Kind.BLOCK, 0o600, 0, 0, 0, 0, b"", 2**63 - 1)
    with opened(tmp_path) as directory, os_error(errno.EINVAL):
        create_special(directory, entry, ALL, replace=False)
    assert read_tree(tmp_path) == {}


@needs_root
@needs_known_calls
def test_a_link_whose_owner_cannot_be_set_is_made_all_the_same(tmp_path: Path) -> None:
    nobodys(tmp_path, 0o600).rename(tmp_path / "name")
    os.chown(tmp_path, NOBODY, NOBODY)

    def work() -> Refusals:
        with opened(tmp_path) as directory:
            return create_special(directory, LINK, Attributes(None, 0, 0, None), replace=True)

    assert [each.op for each in as_nobody(work)] == ["set owner of"]
    assert os.readlink(os.fsencode(tmp_path / "name")) == LINK.target
