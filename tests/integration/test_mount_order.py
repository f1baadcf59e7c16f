"""The log of a mount is what happened: done again elsewhere, it makes the same tree."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from netsync.mirror.mounting import mounted_on
from netsync.operation import AnyOperation, Create, Mode, Rename, SetXattr, Unlink, Write
from netsync.plan.xattrs import Scope
from netsync.tree.apply import Applier
from netsync.tree.directories import OPEN_DIRECTORY
from tests.support import mount_server
from tests.support.actors import Actor, described, times
from tests.support.confined import let_all_in
from tests.support.mounts import Served, remove_mount
from tests.support.processes import wait_until

SOMEBODY = 65534
DEVICE = Path("/dev/fuse")
SCOPE = Scope(("user", "trusted", "security", "acl"))

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners"),
    pytest.mark.timeout(150),
]


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


def as_somebody(work: Callable[[], object]) -> int:
    """Begin ``work`` in a process of another user, and return its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def ended_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def device_for_all() -> Iterator[None]:
    """Open the device to everybody meanwhile, as udev does where it runs."""
    before = DEVICE.stat().st_mode
    DEVICE.chmod(0o666)
    yield
    DEVICE.chmod(stat.S_IMODE(before))


@pytest.mark.usefixtures("device_for_all")
def test_a_user_who_is_not_root_mounts_through_the_helper(tmp_path: Path) -> None:
    let_all_in(tmp_path)
    mounted = Served(tmp_path)
    for each in (tmp_path, mounted.directory, mounted.mountpoint):
        os.chown(each, SOMEBODY, SOMEBODY)
    places = os.fsencode(mounted.directory), os.fsencode(mounted.mountpoint), str(mounted.log)
    server = as_somebody(lambda: trio.run(mount_server.serve, *places))
    try:
        wait_until(lambda: mounted_on(places[1]), "mounted")
        writer = as_somebody(lambda: (mounted.mountpoint / "file").write_bytes(b"mine"))
        assert ended_well(writer)
        with pytest.raises(PermissionError):  # whoever mounted did not ask for others
            os.listdir(mounted.mountpoint)
        os.kill(server, signal.SIGTERM)
        assert ended_well(server)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
        remove_mount(mounted.mountpoint)
    assert (mounted.directory / "file").stat().st_uid == SOMEBODY
    assert [type(each) for each in mounted.operations()] == [Create, Write]


def test_the_kernels_pages_are_kept_over_opens_and_after_writes(mounted: Served) -> None:
    """What is changed behind the mount's back is not seen: nobody had to read it again."""
    path = mounted.mountpoint / "file"
    path.write_bytes(b"a" * 8192)
    assert path.read_bytes() == b"a" * 8192
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"b", 0)
    path.stat()
    os.close(fd)
    with open(mounted.directory / "file", "r+b") as behind:
        behind.seek(5000)
        behind.write(b"c")
    assert path.read_bytes() == b"b" + b"a" * 8191


def test_what_is_on_the_disk_only_is_read(mounted: Served) -> None:
    content = os.urandom(3_000_000)
    (mounted.mountpoint / "file").write_bytes(content)
    for place in (mounted.directory, mounted.mountpoint):
        fd = os.open(place / "file", os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    with open(mounted.mountpoint / "file", "rb") as file:
        file.seek(1_000_001)
        assert file.read(1_500_000) == content[1_000_001:2_500_001]
        assert file.read() == content[2_500_001:]
