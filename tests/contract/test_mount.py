"""One suite, two subjects: a mount answers like the directory behind it, errors included."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netsync.tree.directories import OPEN_DIRECTORY
from tests.support.mounts import Served
from tests.support.renaming import EXCHANGE, NO_REPLACE, rename_with

SOMEBODY = 65534
"""A user without privileges."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other users, devices")


@pytest.fixture(scope="module")
def mounted() -> Iterator[Served]:
    """A directory and its mount where other users may go too, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="netsync-mount-") as name:
        base = Path(name)
        base.chmod(0o755)
        with Served(base) as mount:
            yield mount


@pytest.fixture(params=["directory", "mount"])
def place(request: pytest.FixtureRequest, mounted: Served, tmp_path: Path) -> Iterator[Path]:
    """An empty directory of the subject, in which everybody may create."""
    within = mounted.mountpoint if request.param == "mount" else mounted.directory
    place = within / f"{request.param}-{abs(hash(request.node.nodeid))}"
    place.mkdir()
    place.chmod(0o777)
    before = Path.cwd()
    mask = os.umask(0o022)
    yield place
    os.umask(mask)
    os.chdir(before)


def refused(number: int, call: Callable[..., object], *args: object, **kwargs: object) -> None:
    """Expect ``call`` to fail with just that error."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        call(*args, **kwargs)
    assert caught.value.errno == number, caught.value


def as_somebody(work: Callable[[], object], groups: tuple[int, ...] = ()) -> None:
    """Do ``work`` in a process of another user; it must not raise."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
            work()
            status = 0
        except BaseException as error:
            sys.__stderr__.write(f"as somebody: {error!r}\n")  # type: ignore[union-attr]
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- files


def test_what_is_written_is_read(place: Path) -> None:
    (place / "file").write_bytes(b"content")
    assert (place / "file").read_bytes() == b"content"
    assert (place / "file").stat().st_size == 7
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0o644


def test_creating_what_is_there(place: Path) -> None:
    (place / "file").write_bytes(b"old")
    refused(errno.EEXIST, os.open, place / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR)
    assert os.read(fd, 10) == b"old"
    os.close(fd)
    os.close(os.open(place / "file", os.O_WRONLY | os.O_TRUNC))
    assert (place / "file").stat().st_size == 0


def test_a_file_created_read_only_is_written_by_its_creator(place: Path) -> None:
    def work() -> None:
        fd = os.open(place / "file", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o400)
        assert os.write(fd, b"once") == 4
        os.close(fd)
        refused(errno.EACCES, os.open, place / "file", os.O_WRONLY)

    as_somebody(work)
    assert (place / "file").read_bytes() == b"once"


def test_appending_goes_to_the_end_for_everyone(place: Path) -> None:
    one = os.open(place / "file", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    other = os.open(place / "file", os.O_WRONLY | os.O_APPEND)
    for fd, text in ((one, b"a"), (other, b"bb"), (one, b"ccc")):
        os.write(fd, text)
    os.pwrite(one, b"d", 0)  # Linux appends all the same
    assert (place / "file").read_bytes() == b"abbcccd"
    os.close(one)
    os.close(other)


def test_opening_what_cannot_be(place: Path) -> None:
    (place / "directory").mkdir()
    (place / "file").touch()
    (place / "link").symlink_to("file")
    (place / "loop").symlink_to("loop")
    refused(errno.ENOENT, os.open, place / "missing", os.O_RDONLY)
    refused(errno.EISDIR, os.open, place / "directory", os.O_WRONLY)
    refused(errno.ENOTDIR, os.open, place / "file", os.O_RDONLY | os.O_DIRECTORY)
    refused(errno.ENOTDIR, os.stat, place / "file" / "below")
    refused(errno.ELOOP, os.open, place / "link", os.O_RDONLY | os.O_NOFOLLOW)
    refused(errno.ELOOP, os.open, place / "loop", os.O_RDONLY)


def test_names_of_any_bytes_and_of_any_length(place: Path) -> None:
    base = os.fsencode(place)
    for name in (b"n" * 255, b"\xff\xfe", b"new\nline", b" ", b"\\", "ü".encode()):
        os.close(os.open(base + b"/" + name, os.O_CREAT | os.O_WRONLY, 0o600))
        assert name in os.listdir(base)
    for call in (os.stat, os.mkdir, os.rmdir, os.unlink):
        refused(errno.ENAMETOOLONG, call, base + b"/" + b"n" * 256)


def test_holes_read_as_zeros_and_take_no_room(place: Path) -> None:
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(fd, b"end", 64 << 20)
    status = os.fstat(fd)
    assert status.st_size == (64 << 20) + 3
    assert status.st_blocks * 512 < 1 << 20
    assert os.pread(fd, 8, 1 << 20) == bytes(8)
    assert os.pread(fd, 8, 64 << 20) == b"end"
    assert os.pread(fd, 8, 65 << 20) == b""
    os.close(fd)


def test_truncating(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"x" * 10000)
    os.truncate(path, 5000)
    assert path.read_bytes() == b"x" * 5000
    os.truncate(path, 9000)
    assert path.read_bytes() == b"x" * 5000 + bytes(4000)
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 1)
    assert os.fstat(fd).st_size == 1
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    refused(errno.EINVAL, os.ftruncate, fd, 0)
    os.close(fd)
    refused(errno.EINVAL, os.truncate, path, -1)
    refused(errno.EISDIR, os.truncate, place, 0)


def test_a_file_without_a_name_lives_until_it_is_closed(place: Path) -> None:
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(fd, b"before")
    os.unlink(place / "file")
    assert os.fstat(fd).st_nlink == 0
    os.write(fd, b" after")
    os.ftruncate(fd, 9)
    os.fchmod(fd, 0o640)
    os.utime(fd, ns=(1, 2))
    os.fsync(fd)
    assert os.pread(fd, 100, 0) == b"before af"
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640
    assert os.fstat(fd).st_mtime_ns == 2
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    assert os.pread(again, 100, 0) == b"before af"
    os.close(again)
    (place / "file").write_bytes(b"another")
    assert (place / "file").stat().st_ino != os.fstat(fd).st_ino
    os.close(fd)


def test_what_is_replaced_lives_until_it_is_closed(place: Path) -> None:
    (place / "old").write_bytes(b"old")
    (place / "new").write_bytes(b"new")
    fd = os.open(place / "old", os.O_RDWR)
    os.rename(place / "new", place / "old")
    os.pwrite(fd, b"OLD", 0)
    assert os.pread(fd, 9, 0) == b"OLD"
    assert os.fstat(fd).st_nlink == 0
    assert (place / "old").read_bytes() == b"new"
    os.close(fd)


def test_flushing(place: Path) -> None:
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR | os.O_SYNC, 0o600)
    os.write(fd, b"synchronous")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    fd = os.open(place / "file", os.O_RDWR | os.O_DSYNC)
    os.pwritev(fd, [b"S"], 0, os.RWF_DSYNC)
    os.close(fd)
    fd = os.open(place, OPEN_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
    assert (place / "file").read_bytes() == b"Synchronous"


def test_direct_writes(place: Path) -> None:
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    page = mmap.mmap(-1, 4096)
    page[:] = b"d" * 4096
    os.pwritev(fd, [page], 0)
    os.pwritev(fd, [page], 4096)
    os.close(fd)
    assert (place / "file").read_bytes() == b"d" * 8192


def test_shared_memory_and_calls_see_the_same(place: Path) -> None:
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(fd, 3 * 4096)
    with mmap.mmap(fd, 3 * 4096) as memory:
        memory[5000:5005] = b"hello"
        memory.flush()
        assert os.pread(fd, 5, 5000) == b"hello"
        os.pwrite(fd, b"HE", 5000)
        assert memory[5000:5005] == b"HEllo"
        memory[0:3] = b"end"
    os.close(fd)
    assert (place / "file").read_bytes()[:3] == b"end"


def test_copying_within_the_kernel(place: Path) -> None:
    (place / "file").write_bytes(bytes(range(256)) * 1000)
    source = os.open(place / "file", os.O_RDONLY)
    target = os.open(place / "copy", os.O_CREAT | os.O_RDWR, 0o600)
    done = 0
    while done < 256000:
        done += os.copy_file_range(source, target, 256000 - done, done, done)
    os.sendfile(target, source, 0, 256)
    assert (place / "copy").read_bytes()[256:] == bytes(range(256)) * 999
    os.close(source)
    os.close(target)


def test_room_is_reserved_by_writing_where_it_cannot_be_otherwise(place: Path) -> None:
    fd = os.open(place / "file", os.O_CREAT | os.O_RDWR, 0o600)
    os.posix_fallocate(fd, 0, 100_000)
    assert os.fstat(fd).st_size == 100_000
    os.close(fd)


# -- names


def test_making_and_removing_directories(place: Path) -> None:
    (place / "a").mkdir()
    (place / "a" / "b").mkdir()
    (place / "file").touch()
    refused(errno.EEXIST, os.mkdir, place / "a")
    refused(errno.EEXIST, os.mkdir, place / "file")
    refused(errno.ENOENT, os.mkdir, place / "missing" / "b")
    refused(errno.ENOTDIR, os.mkdir, place / "file" / "b")
    refused(errno.ENOTEMPTY, os.rmdir, place / "a")
    refused(errno.ENOTDIR, os.rmdir, place / "file")
    refused(errno.EISDIR, os.unlink, place / "a")
    assert (place / "a").stat().st_nlink == 3
    (place / "a" / "b").rmdir()
    assert (place / "a").stat().st_nlink == 2
    refused(errno.ENOENT, os.rmdir, place / "a" / "b")


def test_nothing_is_made_in_a_directory_that_is_gone(place: Path) -> None:
    (place / "gone").mkdir()
    os.chdir(place / "gone")
    (place / "gone").rmdir()
    refused(errno.ENOENT, os.mkdir, "below")
    refused(errno.ENOENT, os.open, "file", os.O_CREAT | os.O_WRONLY)
    assert os.listdir(".") == []
    assert os.stat(".").st_nlink == 0


def test_renaming(place: Path) -> None:
    (place / "a").write_bytes(b"a")
    (place / "b").write_bytes(b"b")
    (place / "d").mkdir()
    (place / "d" / "inner").mkdir()
    (place / "empty").mkdir()
    number = (place / "a").stat().st_ino
    os.rename(place / "a", place / "b")
    assert (place / "b").read_bytes() == b"a"
    assert (place / "b").stat().st_ino == number
    refused(errno.ENOENT, os.stat, place / "a")
    refused(errno.ENOENT, os.rename, place / "a", place / "c")
    refused(errno.EISDIR, os.rename, place / "b", place / "d")
    refused(errno.ENOTDIR, os.rename, place / "d", place / "b")
    refused(errno.ENOTEMPTY, os.rename, place / "empty", place / "d")
    refused(errno.EINVAL, os.rename, place / "d", place / "d" / "inner" / "d")
    os.rename(place / "d", place / "empty")
    assert os.listdir(place / "empty") == ["inner"]
    os.rename(place / "b", place / "empty" / "inner" / "deep")
    assert (place / "empty" / "inner" / "deep").read_bytes() == b"a"


def test_files_below_a_renamed_directory_are_where_it_is(place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    fd = os.open(place / "a" / "b" / "file", os.O_CREAT | os.O_RDWR, 0o600)
    os.rename(place / "a", place / "c")
    os.write(fd, b"through it")
    assert (place / "c" / "b" / "file").read_bytes() == b"through it"
    (place / "a").mkdir()
    refused(errno.ENOENT, os.stat, place / "a" / "b")
    os.close(fd)


def test_renaming_without_replacing(place: Path) -> None:
    (place / "a").touch()
    (place / "b").touch()
    refused(errno.EEXIST, rename_with, place / "a", place / "b", NO_REPLACE)
    rename_with(place / "a", place / "c", NO_REPLACE)
    assert sorted(os.listdir(place)) == ["b", "c"]
    refused(errno.EINVAL, rename_with, place / "b", place / "c", NO_REPLACE | EXCHANGE)


def test_renaming_one_name_of_an_inode_to_another_leaves_both(place: Path) -> None:
    (place / "a").touch()
    os.link(place / "a", place / "b")
    os.rename(place / "a", place / "b")
    assert sorted(os.listdir(place)) == ["a", "b"]


def test_links(place: Path) -> None:
    (place / "a").write_bytes(b"shared")
    (place / "d").mkdir()
    os.link(place / "a", place / "d" / "b")
    assert (place / "a").stat().st_nlink == 2
    assert (place / "d" / "b").stat().st_ino == (place / "a").stat().st_ino
    with open(place / "d" / "b", "ab") as file:
        file.write(b" still")
    assert (place / "a").read_bytes() == b"shared still"
    refused(errno.EEXIST, os.link, place / "a", place / "d" / "b")
    refused(errno.EPERM, os.link, place / "d", place / "e")
    refused(errno.ENOENT, os.link, place / "missing", place / "e")
    os.unlink(place / "a")
    assert (place / "d" / "b").stat().st_nlink == 1
    assert (place / "d" / "b").read_bytes() == b"shared still"


def test_symbolic_links(place: Path) -> None:
    (place / "short").symlink_to("target")
    (place / "long").symlink_to("x" * 3000)
    assert os.readlink(place / "short") == "target"
    assert os.readlink(place / "long") == "x" * 3000
    assert (place / "short").lstat().st_size == 6
    refused(errno.ENOENT, os.stat, place / "short")
    refused(errno.EEXIST, os.symlink, "other", place / "short")
    refused(errno.EINVAL, os.readlink, place)
    os.link(place / "short", place / "second", follow_symlinks=False)
    assert (place / "second").lstat().st_nlink == 2
    os.chown(place / "short", 7, 8, follow_symlinks=False)
    os.utime(place / "short", ns=(3, 4), follow_symlinks=False)
    status = (place / "short").lstat()
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (7, 8, 4)
    (place / "target").touch()
    assert (place / "target").stat().st_uid == 0


def test_pipes_sockets_and_devices(place: Path) -> None:
    os.mkfifo(place / "pipe", 0o622)
    assert stat.S_ISFIFO((place / "pipe").stat().st_mode)
    reader = threading.Thread(target=lambda: (place / "pipe").write_bytes(b"through"))
    reader.start()
    assert (place / "pipe").read_bytes() == b"through"
    reader.join()
    os.mknod(place / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    assert (place / "null").stat().st_rdev == os.makedev(1, 3)
    (place / "null").write_bytes(b"nowhere")
    os.chdir(place)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
    assert stat.S_ISSOCK((place / "socket").stat().st_mode)
    os.chmod("socket", 0o600)
    assert stat.S_IMODE(os.stat("socket").st_mode) == 0o600


def test_a_listing_tells_what_is_there(place: Path) -> None:
    for number in range(1000):
        (place / f"file-{number}").touch()
    (place / "d").mkdir()
    names = [f"file-{number}" for number in range(1000)] + ["d"]
    assert sorted(os.listdir(place)) == sorted(names)
    with os.scandir(place) as entries:
        for entry in entries:
            assert entry.is_dir(follow_symlinks=False) == (entry.name == "d")
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino


def test_removing_while_listing_leaves_nothing(place: Path) -> None:
    for number in range(1000):
        (place / f"file-{number}").touch()
    with os.scandir(place) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(place) == []


def test_an_open_directory_is_read_again_from_its_beginning(place: Path) -> None:
    fd = os.open(place, OPEN_DIRECTORY)
    assert os.listdir(fd) == []
    (place / "file").touch()
    assert os.listdir(fd) == ["file"]
    os.unlink(place / "file")
    assert os.listdir(fd) == []
    os.close(fd)


def test_deep_trees(place: Path) -> None:
    os.chdir(place)
    for _ in range(300):
        os.mkdir("deeper")
        os.chdir("deeper")
    Path("file").write_bytes(b"deep")
    assert Path("file").read_bytes() == b"deep"
    os.rename("file", "renamed")
    os.unlink("renamed")
    os.chdir(place)
    subprocess.run(["rm", "-r", "deeper"], check=True)


# -- metadata


def test_modes_owners_and_times(place: Path) -> None:
    path = place / "file"
    path.touch()
    os.chmod(path, 0o6751)
    assert stat.S_IMODE(path.stat().st_mode) == 0o6751
    os.chown(path, 1234, 5678)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1234, 5678)
    assert stat.S_IMODE(status.st_mode) == 0o751
    os.chown(path, -1, 99)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 99)
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    os.utime(path, ns=(-5, -1))
    assert path.stat().st_mtime_ns == -1
    os.utime(path)
    assert path.stat().st_mtime_ns > 10**18


def test_writing_and_creating_change_the_times(place: Path) -> None:
    path = place / "file"
    path.touch()
    for each in (path, place):
        os.utime(each, ns=(1, 1))
    path.write_bytes(b"new")
    assert path.stat().st_mtime_ns > 1
    assert place.stat().st_mtime_ns == 1
    (place / "other").touch()
    assert place.stat().st_mtime_ns > 1
    changed = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == changed:
        path.chmod(0o600)


def test_who_creates_owns(place: Path) -> None:
    def work() -> None:
        os.umask(0o027)
        (place / "file").touch(0o666)
        (place / "directory").mkdir()
        (place / "link").symlink_to("nowhere")
        os.mkfifo(place / "pipe", 0o666)

    as_somebody(work)
    for name in ("file", "directory", "link", "pipe"):
        status = (place / name).lstat()
        assert (status.st_uid, status.st_gid) == (SOMEBODY, SOMEBODY)
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((place / "pipe").stat().st_mode) == 0o640
    assert stat.S_IMODE((place / "directory").stat().st_mode) == 0o750


def test_a_directory_hands_down_its_group(place: Path) -> None:
    os.chown(place, 0, 777)
    os.chmod(place, 0o2777)

    def work() -> None:
        (place / "file").touch()
        (place / "directory").mkdir()

    as_somebody(work)
    assert (place / "file").stat().st_gid == 777
    assert not (place / "file").stat().st_mode & stat.S_ISGID
    assert (place / "directory").stat().st_gid == 777
    assert (place / "directory").stat().st_mode & stat.S_ISGID


def test_permissions_hold(place: Path) -> None:
    (place / "secret").write_bytes(b"secret")
    (place / "secret").chmod(0o600)
    (place / "closed").mkdir(0o700)
    (place / "closed" / "file").touch()
    (place / "read").mkdir()

    def work() -> None:
        refused(errno.EACCES, os.open, place / "secret", os.O_RDONLY)
        refused(errno.EACCES, os.listdir, place / "closed")
        refused(errno.EACCES, os.stat, place / "closed" / "file")
        refused(errno.EACCES, os.mkdir, place / "read" / "new")
        refused(errno.EACCES, os.truncate, place / "secret", 0)
        refused(errno.EPERM, os.chmod, place / "secret", 0o666)
        refused(errno.EPERM, os.chown, place / "secret", SOMEBODY, -1)
        refused(errno.EPERM, os.utime, place / "secret", (1, 1))
        refused(errno.EPERM, os.mknod, place / "null", stat.S_IFCHR, os.makedev(1, 3))
        assert not os.access(place / "secret", os.R_OK)
        assert os.access(place / "read", os.R_OK | os.X_OK)

    as_somebody(work)
    assert (place / "secret").read_bytes() == b"secret"


def test_in_a_sticky_directory_each_removes_his_own(place: Path) -> None:
    place.chmod(0o1777)
    (place / "mine").touch()

    def work() -> None:
        (place / "his").touch()
        refused(errno.EPERM, os.unlink, place / "mine")
        refused(errno.EPERM, os.rename, place / "mine", place / "stolen")
        os.rename(place / "his", place / "other")

    as_somebody(work)
    assert sorted(os.listdir(place)) == ["mine", "other"]


def test_who_writes_into_a_program_takes_its_privileges(place: Path) -> None:
    for name in ("written", "truncated", "opened"):
        (place / name).write_bytes(b"program")
        (place / name).chmod(0o6777)

    def work() -> None:
        with open(place / "written", "r+b") as file:
            file.write(b"evil")
        os.truncate(place / "truncated", 1)
        os.close(os.open(place / "opened", os.O_WRONLY | os.O_TRUNC))

    as_somebody(work)
    for name in ("written", "truncated", "opened"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o777, name


def test_programs_run(place: Path) -> None:
    (place / "script").write_text("#!/bin/sh\necho it runs\n")
    (place / "script").chmod(0o755)
    done = subprocess.run([place / "script"], capture_output=True, check=True)
    assert done.stdout == b"it runs\n"


def test_extended_attributes(place: Path) -> None:
    path = place / "file"
    path.touch()
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "trusted.two", bytes(3000))
    assert sorted(os.listxattr(path)) == ["trusted.two", "user.empty", "user.one"]
    assert os.getxattr(path, "trusted.two") == bytes(3000)
    assert os.getxattr(path, "user.empty") == b""
    refused(errno.EEXIST, os.setxattr, path, "user.one", b"", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, path, "user.new", b"", os.XATTR_REPLACE)
    os.setxattr(path, "user.one", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b"2"
    os.removexattr(path, "user.one")
    refused(errno.ENODATA, os.getxattr, path, "user.one")
    refused(errno.ENODATA, os.removexattr, path, "user.one")
    refused(errno.EOPNOTSUPP, os.setxattr, path, "nonsense.one", b"")
    os.setxattr(place, "user.directory", b"too")
    assert os.listxattr(place) == ["user.directory"]
    (place / "link").symlink_to("file")
    os.setxattr(place / "link", "trusted.link", b"own", follow_symlinks=False)
    assert os.listxattr(place / "link", follow_symlinks=False) == ["trusted.link"]

    def work() -> None:
        assert os.listxattr(path) == ["user.empty"]
        refused(errno.EACCES, os.setxattr, path, "user.one", b"")

    as_somebody(work)


def acl_of(path: Path) -> list[str]:
    done = subprocess.run(["getfacl", "-cnpE", path], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_access_control_lists(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"for some")
    path.chmod(0o600)
    as_somebody(lambda: refused(errno.EACCES, os.open, path, os.O_RDONLY))
    subprocess.run(["setfacl", "-m", f"u:{SOMEBODY}:r", path], check=True)
    as_somebody(lambda: os.close(os.open(path, os.O_RDONLY)))
    as_somebody(lambda: refused(errno.EACCES, os.open, path, os.O_WRONLY))
    assert acl_of(path) == [
        "user::rw-",
        f"user:{SOMEBODY}:r--",
        "group::---",
        "mask::r--",
        "other::---",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    as_somebody(lambda: refused(errno.EACCES, os.open, path, os.O_RDONLY))
    assert "mask::---" in acl_of(path)
    subprocess.run(["setfacl", "-b", path], check=True)
    assert acl_of(path) == ["user::rw-", "group::---", "other::---"]


def test_a_directory_hands_down_its_acl_and_not_the_umask(place: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:77:rwx,g::rwx,o::-", place], check=True)
    os.umask(0o077)
    (place / "file").touch(0o666)
    (place / "directory").mkdir()
    os.mkfifo(place / "pipe")
    expected = ["user::rw-", "user:77:rwx", "group::rwx", "mask::rw-", "other::---"]
    assert acl_of(place / "file") == acl_of(place / "pipe") == expected
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0o660
    assert stat.S_IMODE((place / "pipe").stat().st_mode) == 0o660
    assert stat.S_IMODE((place / "directory").stat().st_mode) == 0o770
    assert "default:user:77:rwx" in acl_of(place / "directory")


def test_setting_an_acl_takes_the_group_bit_from_who_is_not_in_it(place: Path) -> None:
    path = place / "file"
    path.touch()
    os.chown(path, SOMEBODY, 777)
    path.chmod(0o2755)
    as_somebody(lambda: subprocess.run(["setfacl", "-m", "u:5:r", path], check=True), groups=(777,))
    assert path.stat().st_mode & stat.S_ISGID
    as_somebody(lambda: subprocess.run(["setfacl", "-m", "u:6:r", path], check=True))
    assert not path.stat().st_mode & stat.S_ISGID


# -- locks and the rest


def test_locks(place: Path) -> None:
    (place / "file").touch()
    with open(place / "file", "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.lockf(held, fcntl.LOCK_EX, 10, 0)

        def work() -> None:
            with open(place / "file", "r+b") as wanted:
                refused(errno.EAGAIN, fcntl.flock, wanted, fcntl.LOCK_SH | fcntl.LOCK_NB)
                refused(errno.EAGAIN, fcntl.lockf, wanted, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)
                fcntl.lockf(wanted, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 20)

        (place / "file").chmod(0o666)
        as_somebody(work)


def test_room_is_told(place: Path) -> None:
    room = os.statvfs(place)
    assert room.f_blocks > 0
    assert room.f_bavail <= room.f_bfree <= room.f_blocks
    assert room.f_namemax == 255


def test_numbers_stay(place: Path) -> None:
    (place / "d").mkdir()
    (place / "d" / "file").touch()
    number = (place / "d" / "file").stat().st_ino
    os.rename(place / "d", place / "e")
    os.rename(place / "e" / "file", place / "moved")
    assert (place / "moved").stat().st_ino == number
