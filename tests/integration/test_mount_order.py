"""The log of a mount is what happened: done again elsewhere, it makes the same tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.operation import AnyOperation, Create, Mode, Rename, SetXattr, Unlink, Write
from netsync.plan.xattrs import Scope
from netsync.tree.apply import Applier
from netsync.tree.directories import OPEN_DIRECTORY
from tests.support.actors import Actor, described, times
from tests.support.mounts import Served

SCOPE = Scope(("user", "trusted", "security", "acl"))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as mount:
        yield mount


def replay(operations: list[AnyOperation], onto: Path) -> Path:
    """Do ``operations`` to a directory."""
    onto.mkdir(exist_ok=True)
    root = os.open(onto, OPEN_DIRECTORY)
    try:
        with Applier(root, SCOPE, special=True) as applier:
            for operation in operations:
                applier.apply(operation)
            applier.settle()
            assert applier.refused == 0, applier.last_refusal
    finally:
        os.close(root)
    return onto


@pytest.mark.parametrize("seed", range(2))
def test_random_operations_do_the_same_as_on_a_directory_and_so_does_their_log(
    mounted: Served, tmp_path: Path, seed: int
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    actor = Actor(plain, mounted.mountpoint, seed)
    actor.act(1200)
    assert described(plain) == described(mounted.mountpoint)
    actor.finish()
    assert described(plain) == described(mounted.directory)
    mounted.stop()
    copy = replay(mounted.operations(), tmp_path / "copy")
    assert described(copy) == described(plain)
    assert times(copy) == times(mounted.directory)


def test_a_file_with_several_names_is_logged_under_one_that_it_has(tmp_path: Path) -> None:
    mounted = Served(tmp_path)
    (mounted.directory / "d").mkdir()
    (mounted.directory / "a").touch()
    os.link(mounted.directory / "a", mounted.directory / "d" / "other")
    with mounted:
        fd = os.open(mounted.mountpoint / "a", os.O_RDWR)
        os.unlink(mounted.mountpoint / "a")
        os.write(fd, b"under its other name")
        os.fchmod(fd, 0o600)
        os.close(fd)
    assert [type(each) for each in mounted.operations()] == [Unlink, Write, Mode]
    assert [each.path for each in mounted.operations()] == [b"a", b"d/other", b"d/other"]


def test_what_has_no_name_is_not_logged(mounted: Served) -> None:
    fd = os.open(mounted.mountpoint / "a", os.O_CREAT | os.O_RDWR)
    os.unlink(mounted.mountpoint / "a")
    os.write(fd, b"for nobody")
    os.fsync(fd)
    os.close(fd)
    mounted.stop()
    assert [type(each) for each in mounted.operations()] == [Create, Unlink]


def test_what_is_written_through_a_moved_directory_is_logged_where_it_is(mounted: Served) -> None:
    (mounted.mountpoint / "a" / "b").mkdir(parents=True)
    fd = os.open(mounted.mountpoint / "a" / "b" / "file", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"one")
    os.rename(mounted.mountpoint / "a", mounted.mountpoint / "c")
    os.write(fd, b"two")
    os.close(fd)
    mounted.stop()
    writes = [each for each in mounted.operations() if isinstance(each, Write | Rename)]
    assert [each.path for each in writes] == [b"a/b/file", b"a", b"c/b/file"]


def test_an_inherited_acl_is_in_the_log(mounted: Served) -> None:
    user = b"\x02\x00\x00\x00" + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + number.to_bytes(4, "little")
        for tag, rights, number in (
            (1, 7, 2**32 - 1), (2, 7, 77), (4, 7, 2**32 - 1), (16, 7, 2**32 - 1),
            (32, 0, 2**32 - 1),
        )
    )  # fmt: skip
    os.setxattr(mounted.mountpoint, "system.posix_acl_default", user)
    (mounted.mountpoint / "file").touch()
    mounted.stop()
    named = [each for each in mounted.operations() if isinstance(each, SetXattr)]
    assert [(each.path, each.name) for each in named] == [
        (b"", b"system.posix_acl_default"),
        (b"file", b"system.posix_acl_access"),
    ]


def test_netsyncs_own_names_and_attributes_are_not_to_be_had(tmp_path: Path) -> None:
    mounted = Served(tmp_path)
    (mounted.directory / ".netsync").mkdir()
    (mounted.directory / ".netsync" / "stage").touch()
    (mounted.directory / ".netsyncignore").write_text("*.tmp")
    os.setxattr(mounted.directory / ".netsyncignore", "user.netsync.metadata", b"ours")
    with mounted:
        inside = mounted.mountpoint
        assert os.listdir(inside) == [".netsyncignore"]
        assert os.listxattr(inside / ".netsyncignore") == []
        for call in (
            lambda: os.stat(inside / ".netsync"),
            lambda: os.mkdir(inside / ".netsync-mine"),
            lambda: os.rename(inside / ".netsyncignore", inside / ".netsync-moved"),
            lambda: os.setxattr(inside, "user.netsync.metadata", b"forged"),
        ):
            with pytest.raises(OSError, match=r"not permitted|No such file"):
                call()
        (inside / ".netsyncignore").write_text("*.log")
    assert {each.path for each in mounted.operations()} == {b".netsyncignore"}
