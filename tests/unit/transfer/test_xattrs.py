"""Extended attributes and ACLs in whole transfers: kept, changed and revoked without any data."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netsync.errors import ProtocolError
from netsync.model import Files, Keep, Options, Report
from netsync.modes.outcome import Outcome, outcome_of
from netsync.plan.xattrs import SET_MAX
from netsync.transfer import describing
from netsync.wire import messages as m
from tests.support.confined import needs_root
from tests.support.transfers import Meddle, Sent, Transfer, transfer
from tests.support.trees import make_tree, needs_mount, read_tree
from tests.support.xattrs import (
    acl_value,
    attributes_below,
    attributes_of,
    capability_value,
    put,
)

pytestmark = needs_root
PLAIN = Options(fsync=False)
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
SHARED = acl_value([(1234, 7), (5678, 4)], [(77, 5)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", {})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "target", {})


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode)
        for path in (root, *root.rglob("*"))
    }


def furnish(root: Path) -> None:
    """Give everything some attributes, at the root and three levels down."""
    for top in (root, root / "one" / "two" / "three"):
        make_tree(top, {"file": b"x", "link": "file", "fifo": None, "dir": {"in": b"y"}})
        put(top / "file", user__note=b"1", trusted__mark=b"\0\xff", user__empty=b"")
        put(top / "file", **{ACCESS: SHARED})
        put(top / "link", trusted__link=b"l")
        put(top / "fifo", trusted__fifo=b"f", **{ACCESS: SHARED})
        put(top / "dir", user__d=b"d", **{ACCESS: SHARED, DEFAULT: SHARED})
    (root / "one" / "program").write_bytes(b"#!")
    put(root / "one" / "program", security__capability=capability_value())
    put(root, user__root=b"r", **{DEFAULT: SHARED})


async def until_equal(source: Path, target: Path, options: Options = PLAIN) -> Report:
    """Transfer twice: the trees are equal, and the second time nothing is to do."""
    report = await transfer(source, target, options)
    assert outcome_of(report) is Outcome.OK
    assert attributes_below(target) == attributes_below(source)
    assert modes(target) == modes(source)
    again = await transfer(source, target, options)
    assert again.files == Files(considered=report.files.considered,
                                unchanged=report.files.considered)  # fmt: skip
    return report


async def test_attributes_of_every_kind_are_kept(source: Path, target: Path) -> None:
    furnish(source)
    await until_equal(source, target)


CHANGES: list[Callable[[Path], None]] = [
    lambda top: put(top / "file", user__new=b"new"),
    lambda top: put(top / "file", user__note=b"2"),
    lambda top: put(top / "file", user__note=None),
    lambda top: put(top / "file", trusted__mark=None, user__empty=None),
    lambda top: put(top / "file", **{ACCESS: None}),
    lambda top: put(top / "file", **{ACCESS: acl_value([(1234, 1)], mode=0o644)}),
    lambda top: put(top / "dir" / "in", **{ACCESS: acl_value([(9, 6)], mode=0o660)}),
    lambda top: (top / "file").chmod(0o600),
    lambda top: put(top / "link", trusted__link=None),
    lambda top: put(top / "link", trusted__link=b"changed", trusted__more=b""),
    lambda top: put(top / "fifo", trusted__fifo=None, **{ACCESS: None}),
    lambda top: put(top / "dir", user__d=None),
    lambda top: put(top / "dir", **{DEFAULT: None}),
    lambda top: put(top / "dir", **{DEFAULT: acl_value([(4, 4)])}),
    lambda top: put(top / "dir", **{ACCESS: None, DEFAULT: None}),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
@pytest.mark.parametrize("below", ["", "one/two/three"])
async def test_a_change_on_an_otherwise_unchanged_entry_is_made_without_its_data(
    source: Path, target: Path, number: int, below: str
) -> None:
    furnish(source)
    await transfer(source, target, PLAIN)
    CHANGES[number](source / below)
    report = await until_equal(source, target)
    assert report.files.metadata == 1
    assert report.files.created == report.files.updated == 0
    assert report.bytes.literal == report.bytes.matched == 0


async def test_the_roots_own_attributes_are_set_changed_and_revoked(
    source: Path, target: Path
) -> None:
    put(target, user__old=b"1")
    for changes in ({"user__a": b"1", DEFAULT: SHARED}, {"user__a": b"2"},
                    {"user__a": None, DEFAULT: None}):  # fmt: skip
        put(source, **changes)
        await until_equal(source, target)
    assert attributes_of(target) == {}


async def test_an_acl_that_the_targets_directory_hands_down_is_removed(
    source: Path, target: Path
) -> None:
    make_tree(source, {"small": b"x", "large": b"x" * 400_000, "dir": {"in": b"y"}, "fifo": None})
    put(target, **{DEFAULT: SHARED})
    make_tree(target, {"kept": {}})
    make_tree(source, {"kept": {"new": b"z"}})
    await until_equal(source, target)


async def test_a_replaced_file_gets_the_sources_attributes_only(source: Path, target: Path) -> None:
    make_tree(target, {"f": b"old", "big": b"old" * 50_000})
    make_tree(source, {"f": b"newer", "big": b"newer" * 50_000})
    for name in ("f", "big"):
        put(target / name, user__old=b"1", **{ACCESS: SHARED})
        put(source / name, user__new=b"2")
    await until_equal(source, target)


async def test_in_place_capabilities_survive_the_writing(source: Path, target: Path) -> None:
    make_tree(target, {"f": b"old" * 30_000})
    make_tree(source, {"f": b"new" * 30_000})
    for path in (source / "f", target / "f"):
        put(path, security__capability=capability_value())
    put(target / "f", user__old=b"1")
    await until_equal(source, target, Options(inplace=True, fsync=False))


async def test_a_change_of_owner_does_not_cost_a_capability(source: Path, target: Path) -> None:
    make_tree(source, {"f": b"x"})
    put(source / "f", security__capability=capability_value())
    await until_equal(source, target)
    os.chown(source / "f", 1234, 2345)
    put(source / "f", security__capability=capability_value())
    report = await until_equal(source, target)
    assert report.files.metadata == 1


async def test_hard_links_share_their_attributes(source: Path, target: Path) -> None:
    make_tree(source, {"a": b"x", "d": {}})
    os.link(source / "a", source / "d" / "b")
    put(source / "a", user__n=b"1", **{ACCESS: SHARED})
    await until_equal(source, target)
    put(source / "a", user__n=b"2", **{ACCESS: None})
    await until_equal(source, target)
    assert (target / "a").stat().st_ino == (target / "d" / "b").stat().st_ino


async def test_a_name_parted_from_its_inode_keeps_what_is_not_compared(
    source: Path, target: Path
) -> None:
    make_tree(source, {"a": b"x", "b": b"x"})
    for name in ("a", "b"):
        os.utime(source / name, ns=(0, 10**18))
    await transfer(source, target, PLAIN)
    (target / "b").unlink()
    os.link(target / "a", target / "b")
    put(target / "a", user__n=b"kept")
    await transfer(source, target, Options(fsync=False, keep=Keep(xattrs=False)))
    assert [attributes_of(target / name) for name in ("a", "b")] == [{"user.n": b"kept"}] * 2
    assert (target / "a").stat().st_ino != (target / "b").stat().st_ino


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(Keep(xattrs=False), {DEFAULT, ACCESS}), (Keep(acls=False), {"user.a", "trusted.b"}),
     (Keep(xattrs=False, acls=False), set()), (Keep(perms=False), {"user.a", "trusted.b"})],
)  # fmt: skip
async def test_what_is_not_kept_is_left_alone(
    source: Path, target: Path, keep: Keep, kept: set[str]
) -> None:
    make_tree(source, {"d": {}})
    make_tree(target, {"d": {}})
    put(source / "d", user__a=b"1", trusted__b=b"2", **{ACCESS: SHARED, DEFAULT: SHARED})
    put(target / "d", user__mine=b"3", **{DEFAULT: acl_value([(1, 1)])})
    before = attributes_of(target / "d")
    await transfer(source, target, Options(keep=keep, fsync=False))
    after, wanted = attributes_of(target / "d"), attributes_of(source / "d")
    assert {name for name in wanted if after.get(name) == wanted[name]} == kept
    for name in before.keys() - kept - ({"user.mine"} if keep.xattrs else set()):
        assert after[name] == before[name]
    assert ("user.mine" in after) is not keep.xattrs


async def test_nothing_is_asked_for_when_nothing_is_kept(source: Path, target: Path) -> None:
    make_tree(source, {"f": b"x"})
    put(source / "f", user__a=b"1")
    run = Transfer(source, target, Options(keep=Keep(xattrs=False, acls=False), fsync=False))
    await run.run()
    lists = [message for message in run.sent_by_source if isinstance(message, m.List)]
    assert all(not each.xattrs for each in lists)


async def test_netsyncs_own_attributes_stay_where_they_are(source: Path, target: Path) -> None:
    make_tree(source, {"f": b"x", "d": {}})
    await transfer(source, target, PLAIN)
    put(source / "d", user__netsync__note=b"source")
    put(target / "d", user__netsync__note=b"target")
    assert (await transfer(source, target, PLAIN)).files.unchanged == 2
    assert attributes_of(target / "d") == {"user.netsync.note": b"target"}


async def test_a_dry_run_tells_of_a_change_and_makes_none(source: Path, target: Path) -> None:
    make_tree(source, {"f": b"x", "d": {"in": b""}})
    await transfer(source, target, PLAIN)
    put(source / "f", user__a=b"1")
    put(source / "d", **{DEFAULT: SHARED})
    report = await transfer(source, target, Options(dry_run=True, fsync=False))
    assert report.files.metadata == 2
    assert attributes_below(target) == {}


async def test_equal_sets_travel_once_a_message(source: Path, target: Path) -> None:
    make_tree(source, {f"{number:03}": b"" for number in range(300)})
    for path in source.iterdir():
        put(path, user__same=b"v" * 3000)
    run = Transfer(source, target, PLAIN)
    await run.run()
    assert attributes_below(target) == attributes_below(source)
    lists = [message for message in run.sent_by_source if isinstance(message, m.List)]
    assert [len(each.xattrs) for each in lists] == [1]


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Source and target where an entry may have more attributes than ext4 has room for."""
    base = tmp_path / "tmpfs"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(base)], check=True)
    try:
        yield make_tree(base / "source", {}), make_tree(base / "target", {})
    finally:
        subprocess.run(["umount", "--lazy", str(base)], check=True)


@needs_mount
async def test_large_and_different_sets_fit_their_frames(roomy: tuple[Path, Path]) -> None:
    source, target = roomy
    make_tree(source, {f"{number:02}": b"" for number in range(12)})
    for number, path in enumerate(sorted(source.iterdir())):
        for index in range(3):
            os.setxattr(path, f"user.{index}", bytes([number]) * 20_000)
    await until_equal(source, target)


@needs_mount
async def test_a_set_too_large_to_send_is_one_entrys_problem_and_stays_as_it_is(
    roomy: tuple[Path, Path],
) -> None:
    source, target = roomy
    make_tree(source, {"large": b"new content", "small": b"y"})
    make_tree(target, {"large": b"old"})
    put(source / "small", user__a=b"1")
    for index in range(3):
        os.setxattr(source / "large", f"user.{index}", b"v" * (SET_MAX // 3))
    put(target / "large", user__kept=b"2")
    (source / "gone").mkdir()
    await transfer(source, target, PLAIN)
    (source / "gone").rmdir()
    report = await transfer(source, target, Options(fsync=False, delete=True))
    assert outcome_of(report) is Outcome.PARTIAL
    assert [(each.path, each.op) for each in report.problems] == [
        (b"large", "send the attributes of")
    ]
    assert read_tree(target) == read_tree(source)
    assert attributes_below(target) == {"large": {"user.kept": b"2"}, "small": {"user.a": b"1"}}
    assert (report.files.deleted, report.files.unchanged) == (1, 2)


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """A file system that has neither attributes nor ACLs."""
    base = tmp_path / "ramfs"
    base.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", str(base)], check=True)
    try:
        yield base
    finally:
        subprocess.run(["umount", "--lazy", str(base)], check=True)


@needs_mount
async def test_a_target_without_attributes_says_so_once_for_each_kind(
    source: Path, ramfs: Path
) -> None:
    furnish(source)
    report = await transfer(source, ramfs, PLAIN)
    assert outcome_of(report) is Outcome.PARTIAL
    assert [each.error for each in report.problems] == [
        f"the target's file system has no {what}: all were left out"
        for what in ("user attributes", "ACLs", "trusted attributes", "security attributes")
    ]
    assert read_tree(ramfs) == read_tree(source)
    assert modes(ramfs) == modes(source)
    again = await transfer(source, ramfs, PLAIN)
    assert again.files == Files(considered=report.files.considered,
                                unchanged=report.files.considered)  # fmt: skip
    assert len(again.problems) == 4


@needs_mount
async def test_a_source_without_attributes_has_those_of_the_target_revoked(
    ramfs: Path, target: Path
) -> None:
    make_tree(ramfs, {"f": b"x"})
    await transfer(ramfs, target, PLAIN)
    put(target / "f", user__a=b"1", **{ACCESS: SHARED})
    (target / "f").chmod((ramfs / "f").stat().st_mode)
    assert (await until_equal(ramfs, target)).files.metadata == 1


async def test_a_module_that_forbids_specials_takes_no_attribute_that_grants_privileges(
    source: Path, target: Path
) -> None:
    make_tree(source, {"f": b"x"})
    put(source / "f", user__a=b"1", trusted__b=b"2", security__capability=capability_value())
    run = Transfer(source, target, PLAIN, special=False)
    report = await run.run()
    assert attributes_of(target / "f") == {"user.a": b"1"}
    assert outcome_of(report) is Outcome.OK
    assert len(report.notices) == 2
    again = await Transfer(source, target, PLAIN, special=False).run()
    assert again.files.unchanged == 1


def lists_with(**changes: Any) -> Meddle:
    """Return what changes the lists that name entries on their way."""

    def meddle(message: m.Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.List) and message.listings:
            message = msgspec.structs.replace(message, **changes)
        return [(message, tail)]

    return meddle


MALFORMED: list[list[tuple[tuple[bytes, bytes], ...]]] = [
    [],
    [((b"user.netsync.x", b"1"),)],
    [((b"system.nfs4_acl", b"1"),)],
    [((b"nonamespace", b"1"),)],
    [((b"user.", b"1"),)],
    [((b"user.a\0b", b"1"),)],
    [((b"user.b", b"1"), (b"user.a", b"1"))],
    [((b"user.a", b"1"), (b"user.a", b"2"))],
    [((b"user.a", b"v" * SET_MAX),)],
    [((b"system.posix_acl_access", b"short"),)],
    [((b"system.posix_acl_default", SHARED[:-8]),)],
    [((b"system.posix_acl_default", SHARED + SHARED[4:]),)],
]


@pytest.mark.parametrize("table", MALFORMED)
async def test_attributes_that_no_honest_source_lists_end_the_session(
    source: Path, target: Path, table: list[tuple[tuple[bytes, bytes], ...]]
) -> None:
    make_tree(source, {"f": b"x"})
    put(source / "f", user__a=b"1")
    with pytest.raises(ProtocolError):
        await transfer(source, target, PLAIN, from_source=lists_with(xattrs=table))
    assert read_tree(target) == {}


async def test_a_source_that_sees_less_revokes_nothing_it_cannot_see(
    source: Path, target: Path
) -> None:
    make_tree(source, {"f": b"x"})
    await transfer(source, target, PLAIN)
    put(target / "f", user__a=b"1", trusted__b=b"2", security__c=b"3")

    def unprivileged(message: m.Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.Offer):
            message = msgspec.structs.replace(message, namespaces=["user", "acl"])
        return [(message, tail)]

    await transfer(source, target, PLAIN, from_source=unprivileged)
    assert attributes_of(target / "f") == {"trusted.b": b"2", "security.c": b"3"}


async def test_an_attribute_that_the_disk_has_no_room_for_is_that_entrys_problem(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 says "no space" where one entry's attributes outgrow their block."""
    make_tree(source, {"a": b"x", "b": b"y"})
    put(source / "a", user__huge=b"1")
    put(source / "b", user__small=b"2")
    really = os.setxattr

    def setxattr(path: Any, name: Any, value: Any, **more: Any) -> None:
        if name == b"user.huge":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(path, name, value, **more)

    monkeypatch.setattr(os, "setxattr", setxattr)
    report = await transfer(source, target, PLAIN)
    assert [(each.path, each.op) for each in report.problems] == [(b"a", "set user.huge of")]
    assert read_tree(target) == read_tree(source)
    assert attributes_below(target) == {"b": {"user.small": b"2"}}


async def test_attributes_that_cannot_be_read_stay_as_they_are(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(source, {"a": b"new one"})
    make_tree(target, {"a": b"old"})
    put(source / "a", user__unreadable=b"1")
    put(target / "a", user__kept=b"2")
    really = os.getxattr

    def getxattr(path: Any, name: Any, **more: Any) -> bytes:
        if name == b"user.unreadable":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(path, name, **more)

    monkeypatch.setattr(os, "getxattr", getxattr)
    report = await transfer(source, target, PLAIN)
    assert [(each.path, each.op) for each in report.problems] == [(b"a", "read the attributes of")]
    assert read_tree(target) == {"a": b"new one"}
    assert attributes_of(target / "a") == {"user.kept": b"2"}
    assert (await transfer(source, target, PLAIN)).files.unchanged == 1


async def test_a_root_that_refers_to_attributes_not_told_ends_the_session(
    source: Path, target: Path
) -> None:
    def lying(message: m.Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.Offer) and message.root is not None:
            root = msgspec.structs.replace(message.root, xattrs=2)
            message = msgspec.structs.replace(message, root=root)
        return [(message, tail)]

    put(source, user__a=b"1")
    with pytest.raises(ProtocolError):
        await transfer(source, target, PLAIN, from_source=lying)
    assert attributes_of(target) == {}


async def test_many_long_names_of_owners_come_in_messages_before(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many ids as an ACL can name, each with the longest name, still fit their frames."""
    monkeypatch.setattr(describing, "user_name", lambda number: b"u%d-" % number + b"n" * 240)
    make_tree(source, {f"{number}": b"" for number in range(8)})
    for number, path in enumerate(sorted(source.iterdir())):
        first = 100_000 + number * 300
        put(path, **{DEFAULT if path.is_dir() else ACCESS:
                     acl_value([(first + each, 5) for each in range(300)])})  # fmt: skip
    run = Transfer(source, target, PLAIN)
    await run.run()
    assert attributes_below(target) == attributes_below(source)
    lists = [message for message in run.sent_by_source if isinstance(message, m.List)]
    assert sum(len(each.users) for each in lists) == 8 * 300
    assert [bool(each.listings) for each in lists][-1]
    assert all(not each.users for each in lists if each.listings)
