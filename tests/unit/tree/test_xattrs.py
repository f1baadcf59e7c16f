"""Attributes of open files and of names: read, set, removed; what is refused is told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsync.plan.xattrs import Scope, WantedXattrs
from netsync.tree.xattrs import (
    Refusal,
    Where,
    differ,
    hands_down,
    names_of,
    of_name,
    read_set,
    settle,
    supports,
)
from tests.support.confined import NOBODY, as_nobody, let_all_in, needs_known_calls, needs_root
from tests.support.trees import opened
from tests.support.xattrs import acl_value, attributes_of, put

USER = Scope(("user",))
ALL = Scope(("user", "trusted", "security", "acl"))
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def reached(path: Path, by_name: bool, work: Callable[[Where], Any]) -> Any:
    """Return what ``work`` returns for a file, reached by name or by descriptor."""
    if by_name:
        with opened(path.parent) as directory:
            return work(of_name(directory, os.fsencode(path.name)))
    fd = os.open(path, os.O_RDONLY)
    try:
        return work(fd)
    finally:
        os.close(fd)


both = pytest.mark.parametrize("by_name", [True, False])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.touch()
    return path


@both
def test_a_set_holds_what_is_in_the_scope_sorted(file: Path, by_name: bool) -> None:
    put(file, user__b=b"2", user__a=b"1", user__netsync__own=b"x", **{ACCESS: acl_value([(1, 7)])})
    assert reached(file, by_name, lambda where: read_set(where, USER)) == (
        (b"user.a", b"1"), (b"user.b", b"2")
    )  # fmt: skip
    wide = reached(file, by_name, lambda where: read_set(where, ALL))
    assert [name for name, _ in wide] == [ACCESS.encode(), b"user.a", b"user.b"]


def test_names_told_by_a_scan_are_not_asked_for_again(file: Path) -> None:
    put(file, user__a=b"1", user__b=b"2")
    assert names_of(-1, b"user.a\0user.b\0") == [b"user.a", b"user.b"]
    found = reached(file, True, lambda where: read_set(where, USER, b"user.b\0user.gone\0"))
    assert found == ((b"user.b", b"2"),)


@both
def test_settling_sets_changes_and_removes_in_the_scope_only(file: Path, by_name: bool) -> None:
    put(file, user__keep=b"1", user__change=b"2", user__remove=b"3", user__netsync__own=b"4",
        **{ACCESS: acl_value([(1, 7)])})  # fmt: skip
    items = ((b"user.change", b"new"), (b"user.keep", b"1"), (b"user.set", b""))
    wanted = WantedXattrs(USER, items)
    assert reached(file, by_name, lambda where: differ(where, wanted))
    assert reached(file, by_name, lambda where: settle(where, wanted)) == ()
    assert not reached(file, by_name, lambda where: differ(where, wanted))
    assert attributes_of(file) == {
        "user.change": b"new", "user.keep": b"1", "user.set": b"", "user.netsync.own": b"4",
        ACCESS: acl_value([(1, 7)]),
    }  # fmt: skip


@needs_root
def test_a_link_has_its_own_and_is_not_followed(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("f")
    wanted = WantedXattrs(ALL, ((b"trusted.l", b"1"),))
    assert reached(link, True, lambda where: settle(where, wanted)) == ()
    assert (attributes_of(link), attributes_of(file)) == ({"trusted.l": b"1"}, {})


@needs_root
def test_what_is_refused_is_told_and_the_rest_is_set(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("f")
    wanted = WantedXattrs(ALL, ((b"trusted.l", b"1"), (b"user.not on links", b"2")))
    (refused,) = reached(link, True, lambda where: settle(where, wanted))
    assert (refused.op, refused.error.errno) == ("set user.not on links of", errno.EPERM)
    assert attributes_of(link) == {"trusted.l": b"1"}


@needs_root
@needs_known_calls
@both
def test_a_mode_that_shuts_its_owner_out_is_opened_for_a_moment(file: Path, by_name: bool) -> None:
    os.chown(file, NOBODY, NOBODY)
    file.chmod(0o444)
    let_all_in(file.parent)
    wanted = WantedXattrs(USER, ((b"user.a", b"1"),))

    def work() -> tuple[Refusal, ...]:
        result: tuple[Refusal, ...] = reached(file, by_name, lambda where: settle(where, wanted))
        return result

    assert as_nobody(work) == ()
    assert attributes_of(file) == {"user.a": b"1"}
    assert file.stat().st_mode & 0o7777 == 0o444


def test_a_directory_hands_down_its_default_acl(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with opened(tmp_path / "d") as fd:
        assert not hands_down(fd)
        put(tmp_path / "d", **{DEFAULT: acl_value([(1, 7)])})
        assert hands_down(fd)


def test_what_a_file_system_can_hold_is_found_out_without_writing(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        assert [supports(fd, each) for each in ("user", "acl")] == [True, True]
        assert attributes_of(tmp_path) == {}
    with opened(Path("/proc")) as fd:
        assert not supports(fd, "user")
