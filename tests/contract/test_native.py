"""One contract, two sets of file calls: each must do this, and the compiled one must be there.

As with the kernels a compiled set that is missing is a failure and not a skip; who means to test
without it says NETSYNC_KERNEL=pure.
"""

from __future__ import annotations

import array
import contextlib
import errno
import importlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from netsync.errors import ConfigError
from netsync.model import Entry
from netsync.tree import _plain
from netsync.tree import native as selector
from netsync.tree.native import Buffer, Native, Status
from netsync.tree.scan import entry_from
from tests.support.confined import (
    NOBODY,
    as_nobody,
    needs_known_calls,
    needs_root,
    without_unnamed_files,
)
from tests.support.failures import os_error
from tests.support.twins import WISHED

MODULES = {"pure": "netsync.tree._plain", "compiled": "netsync.tree._native"}

TIMES = [0, 1, -1, -1_500_000_001, 1_700_000_000_123_456_789, 10_413_792_000_000_000_005]
"""Before 1970, to the nanosecond, and in 2300, which 64 bits of nanoseconds do not hold."""


@contextlib.contextmanager
def staged(native: Native, directory: int, data: Buffer = b"") -> Iterator[int]:
    fd = native.stage_file(directory, data, -1, -1, -1, None)
    try:
        yield fd
    finally:
        os.close(fd)


def read(native: Native, directory: int, name: bytes, room: int) -> tuple[bytes, tuple[int, ...]]:
    memory = memoryview(bytearray(room))
    count, *status = native.read_file(directory, name, memory)
    return bytes(memory[:count]), tuple(status)


def expected(path: Path, attributes: bytes | None = b"") -> Status:
    found = path.lstat()
    return (
        found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns,
        found.st_rdev, found.st_nlink, found.st_dev, found.st_ino, found.st_blocks, attributes,
    )  # fmt: skip


def test_it_says_which_one_it_is(native: Native) -> None:
    assert MODULES[native.NAME] == getattr(native, "__name__", None)


class TestReading:
    @pytest.mark.parametrize("room", [0, 1, 4999, 5000, 5001, 70_000])
    def test_it_fills_the_room_or_ends_with_the_file(
        self, native: Native, tmp_path: Path, directory: int, room: int
    ) -> None:
        data = os.urandom(5000)
        (tmp_path / "f").write_bytes(data)
        mode, _, _, size, mtime_ns, *_ = expected(tmp_path / "f")
        assert read(native, directory, b"f", room) == (data[:room], (size, mtime_ns, mode))

    def test_an_empty_file_is_read(self, native: Native, tmp_path: Path, directory: int) -> None:
        (tmp_path / "f").touch()
        assert read(native, directory, b"f", 10)[0] == b""

    @pytest.mark.parametrize("time", TIMES)
    def test_its_time_is_exact(
        self, native: Native, tmp_path: Path, directory: int, time: int
    ) -> None:
        (tmp_path / "f").touch()
        os.utime(tmp_path / "f", ns=(time, time))
        assert read(native, directory, b"f", 0)[1][1] == time

    def test_errors_are_the_systems(self, native: Native, tmp_path: Path, directory: int) -> None:
        (tmp_path / "link").symlink_to("elsewhere")
        for name, number in (
            (b"absent", errno.ENOENT),
            (b"link", errno.ELOOP),
            (b"n" * 256, errno.ENAMETOOLONG),
        ):
            with os_error(number):
                read(native, directory, name, 10)
        with pytest.raises(FileNotFoundError) as caught:
            read(native, directory, b"absent", 10)
        assert caught.value.filename == b"absent"
        assert caught.value.strerror == os.strerror(errno.ENOENT)

    def test_no_directory_is_an_error(self, native: Native, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        with os_error(errno.ENOTDIR):
            read(native, fd, b"f", 10)
        os.close(fd)
        with os_error(errno.EBADF):
            read(native, fd, b"f", 10)

    def test_from_a_directory_nothing_is_read(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "d").mkdir()
        data, (_, _, mode) = read(native, directory, b"d", 10)
        assert data == b""
        assert stat.S_ISDIR(mode)

    def test_a_fifo_neither_hangs_nor_loses_its_data(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        os.mkfifo(tmp_path / "fifo")
        data, (_, _, mode) = read(native, directory, b"fifo", 10)
        assert data == b""
        assert stat.S_ISFIFO(mode)
        end = os.open(tmp_path / "fifo", os.O_RDWR)
        os.write(end, b"kept")
        assert read(native, directory, b"fifo", 10)[0] == b""
        assert os.read(end, 10) == b"kept"
        os.close(end)

    def test_memory_that_cannot_be_filled_is_refused(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "f").write_bytes(b"content")
        for room in (memoryview(b"read-only"), memoryview(bytearray(10))[::2]):
            with pytest.raises((BufferError, TypeError, ValueError)):
                native.read_file(directory, b"f", room)


class TestStaging:
    @pytest.mark.parametrize("size", [0, 1, 5000, 3_000_000])
    def test_the_content_is_whole_and_has_no_name(
        self, native: Native, tmp_path: Path, directory: int, size: int
    ) -> None:
        data = os.urandom(size)
        with staged(native, directory, data) as fd:
            assert os.pread(fd, size + 1, 0) == data
            assert os.fstat(fd).st_nlink == 0
            assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
            assert not os.get_inheritable(fd)
            os.pwrite(fd, b"x", 0)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    def test_any_contiguous_buffer_is_taken(
        self, native: Native, directory: int, make: Callable[[bytes], Buffer]
    ) -> None:
        with staged(native, directory, make(b"content")) as fd:
            assert os.pread(fd, 10, 0) == b"content"

    def test_a_buffers_length_is_counted_in_bytes(self, native: Native, directory: int) -> None:
        numbers = array.array("H", [1, 2, 3])
        with staged(native, directory, memoryview(numbers)) as fd:
            assert os.pread(fd, 10, 0) == numbers.tobytes()
        with pytest.raises((BufferError, TypeError)):
            native.stage_file(directory, memoryview(b"abcdef")[::2], -1, -1, -1, None)

    @pytest.mark.parametrize("mode", [0, 0o600, 0o644, 0o7777])
    def test_the_mode_is_set_whatever_the_umask(
        self, native: Native, directory: int, mode: int
    ) -> None:
        umask = os.umask(0o077)
        try:
            fd = native.stage_file(directory, b"x", mode, -1, -1, None)
        finally:
            os.umask(umask)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == mode
        os.close(fd)

    @pytest.mark.parametrize("time", TIMES)
    def test_the_time_is_set_to_the_nanosecond(
        self, native: Native, directory: int, time: int
    ) -> None:
        fd = native.stage_file(directory, b"x", -1, -1, -1, time)
        assert os.fstat(fd).st_mtime_ns == os.fstat(fd).st_atime_ns == time
        os.close(fd)

    @needs_root
    @pytest.mark.parametrize(("uid", "gid"), [(-1, 77), (66, -1), (66, 77), (0, 0), (2**31, 2**31)])
    def test_owner_and_group_are_set_before_the_mode(
        self, native: Native, directory: int, uid: int, gid: int
    ) -> None:
        fd = native.stage_file(directory, b"x", 0o6755, uid, gid, None)
        found = os.fstat(fd)
        assert (found.st_uid, found.st_gid) == (max(uid, 0), max(gid, 0))
        assert stat.S_IMODE(found.st_mode) == 0o6755
        os.close(fd)

    @needs_root
    def test_the_group_of_a_set_group_id_directory_is_inherited(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        os.chown(tmp_path, -1, 4321)
        os.chmod(tmp_path, 0o2755)
        with staged(native, directory) as fd:
            assert os.fstat(fd).st_gid == 4321

    @pytest.mark.parametrize(("uid", "gid"), [(2**32, -1), (-1, 2**32), (-2, -1), (-1, -2)])
    def test_impossible_owners_are_refused(
        self, native: Native, directory: int, uid: int, gid: int
    ) -> None:
        with pytest.raises(OverflowError):
            native.stage_file(directory, b"x", -1, uid, gid, None)

    @needs_root
    @needs_known_calls
    def test_an_owner_that_may_not_be_given_leaves_nothing(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        os.chmod(tmp_path, 0o777)

        def work() -> None:
            os.close(native.stage_file(directory, b"x", 0o644, NOBODY, NOBODY, 0))
            with os_error(errno.EPERM):
                native.stage_file(directory, b"x", 0o4755, 0, -1, None)

        as_nobody(work)
        assert list(tmp_path.iterdir()) == []

    def test_no_directory_is_an_error(self, native: Native, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        with os_error(errno.ENOTDIR):
            native.stage_file(fd, b"x", -1, -1, -1, None)
        os.close(fd)
        with os_error(errno.EBADF):
            native.stage_file(fd, b"x", -1, -1, -1, None)

    @needs_known_calls
    @pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT])
    def test_a_file_system_without_unnamed_files_is_told_by_its_error(
        self, native: Native, directory: int, error: int
    ) -> None:
        def work() -> None:
            with os_error(error):
                native.stage_file(directory, b"x", -1, -1, -1, None)

        without_unnamed_files(work, error)

    @needs_root
    def test_a_full_file_system_keeps_nothing(self, native: Native, tmp_path: Path) -> None:
        with small_file_system(tmp_path) as directory:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                with os_error(errno.ENOSPC):
                    native.stage_file(directory, bytes(200_000), 0o644, -1, -1, 0)
            assert len(os.listdir("/proc/self/fd")) == before
            with staged(native, directory, bytes(30_000)) as fd:
                native.link_staged(fd, directory, b"f")
            assert (tmp_path / "f").stat().st_size == 30_000


@contextlib.contextmanager
def small_file_system(where: Path) -> Iterator[int]:
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", where], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs to mount a file system")
    try:
        fd = os.open(where, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        subprocess.run(["umount", where], check=True)


class TestLinking:
    def test_the_file_gets_its_name(self, native: Native, tmp_path: Path, directory: int) -> None:
        with staged(native, directory, b"content") as fd:
            native.link_staged(fd, directory, b"f\xff")
        assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xff")).read_bytes() == b"content"

    def test_a_name_that_is_taken_is_not_replaced(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "file").write_bytes(b"kept")
        (tmp_path / "directory").mkdir()
        (tmp_path / "link").symlink_to("nowhere")
        with staged(native, directory, b"new") as fd:
            for name in (b"file", b"directory", b"link"):
                with pytest.raises(FileExistsError):
                    native.link_staged(fd, directory, name)
        assert (tmp_path / "file").read_bytes() == b"kept"

    def test_a_directory_that_is_gone_is_an_error(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "gone").mkdir()
        gone = os.open(tmp_path / "gone", os.O_RDONLY)
        with staged(native, directory, b"new") as fd:
            (tmp_path / "gone").rmdir()
            with os_error(errno.ENOENT):
                native.link_staged(fd, gone, b"f")
            native.link_staged(fd, directory, b"f")
        os.close(gone)

    @needs_root
    @needs_known_calls
    def test_who_may_not_link_a_bare_descriptor_still_can_link(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        os.chmod(tmp_path, 0o777)
        fds = [native.stage_file(directory, b"new", -1, NOBODY, -1, None) for _ in range(2)]

        def work() -> None:
            native.link_staged(fds[0], directory, b"f")
            with pytest.raises(FileExistsError):
                native.link_staged(fds[1], directory, b"f")

        as_nobody(work)
        native.link_staged(fds[1], directory, b"g")
        for fd in fds:
            os.close(fd)
        assert sorted(os.listdir(tmp_path)) == ["f", "g"]


class TestLooking:
    def test_every_kind_is_seen_as_the_system_sees_it(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "file").write_bytes(b"content")
        (tmp_path / "directory").mkdir(mode=0o1777)
        (tmp_path / "link").symlink_to("/nowhere")
        os.mkfifo(tmp_path / "fifo")
        os.link(tmp_path / "file", tmp_path / "second")
        if os.geteuid() == 0:
            os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(300, 70_000))
            os.chown(tmp_path / "file", 2**31, 2**32 - 2)
        names = sorted(os.listdir(tmp_path))
        found = native.stat_entries(directory, [name.encode() for name in names])
        assert found == [expected(tmp_path / name) for name in names]

    @pytest.mark.parametrize("time", TIMES)
    def test_times_are_exact(
        self, native: Native, tmp_path: Path, directory: int, time: int
    ) -> None:
        (tmp_path / "f").touch()
        os.utime(tmp_path / "f", ns=(time, time))
        (found,) = native.stat_entries(directory, [b"f"])
        assert isinstance(found, tuple)
        assert found[4] == time

    @pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 300])
    def test_an_error_stands_in_its_names_place(
        self, native: Native, tmp_path: Path, directory: int, count: int
    ) -> None:
        paths = [tmp_path / str(number) for number in range(count)]
        for path in paths[::3]:
            path.touch()
        found = native.stat_entries(directory, [path.name.encode() for path in paths])
        assert found == [
            errno.ENOENT if number % 3 else expected(path) for number, path in enumerate(paths)
        ]

    def test_errors_are_the_systems(self, native: Native, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        assert native.stat_entries(fd, [b"f"]) == [errno.ENOTDIR]
        os.close(fd)
        assert native.stat_entries(fd, [b"f", b"g"]) == [errno.EBADF, errno.EBADF]


class TestPlainEntries:
    """Files with one name and directories are entries at once; all else is as ``stat_entries``."""

    def test_only_what_is_plain_is_an_entry(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "directory").mkdir(mode=0o1777)
        (tmp_path / "file").write_bytes(b"content")
        (tmp_path / "file").chmod(0o4751)
        (tmp_path / "link").symlink_to("file")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "shared").touch()
        os.link(tmp_path / "shared", tmp_path / "shared2")
        names = [name.encode() for name in sorted(os.listdir(tmp_path))] + [b"absent"]
        statuses = native.stat_entries(directory, names)
        found = native.plain_entries(directory, names)
        assert found[:2] == [entry_from(statuses[i], names[i], directory) for i in range(2)]
        assert found[2:] == statuses[2:]

    def test_attributes_count_if_they_are_asked_for(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        for name in ("directory", "sub"):
            (tmp_path / name).mkdir()
        (tmp_path / "file").touch()
        for name in ("directory", "file"):
            os.setxattr(tmp_path / name, "user.a", b"1")
        names = [b"directory", b"file", b"sub"]
        found = native.plain_entries(directory, names, True)
        assert [isinstance(each, Entry) for each in found] == [False, False, True]
        assert found[:2] == native.stat_entries(directory, names, True)[:2]
        assert all(isinstance(each, Entry) for each in native.plain_entries(directory, names))

    @pytest.mark.parametrize("time", TIMES)
    def test_times_that_64_bits_do_not_hold_are_not_plain(
        self, native: Native, tmp_path: Path, directory: int, time: int
    ) -> None:
        (tmp_path / "f").touch()
        os.utime(tmp_path / "f", ns=(time, time))
        (found,) = native.plain_entries(directory, [b"f"])
        if time == TIMES[-1]:
            assert isinstance(found, tuple)
        else:
            assert isinstance(found, Entry)
            assert found.mtime_ns == time

    @pytest.mark.parametrize("count", [0, 63, 64, 65, 300])
    def test_each_has_its_names_place(
        self, native: Native, tmp_path: Path, directory: int, count: int
    ) -> None:
        names = [b"%d" % number for number in range(count)]
        for number in range(0, count, 3):
            (tmp_path / str(number)).write_bytes(bytes(number))
        for number, found in enumerate(native.plain_entries(directory, names)):
            if number % 3:
                assert found == errno.ENOENT
            else:
                assert isinstance(found, Entry)
                assert (found.name, found.size) == (names[number], number)


class TestAttributeNames:
    """The names of extended attributes, told along with what ``lstat`` says."""

    def test_they_are_told_only_when_asked_for(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "with").touch()
        (tmp_path / "without").touch()
        os.setxattr(tmp_path / "with", "user.a", b"1")
        os.setxattr(tmp_path / "with", "user.b", b"")
        names = [b"with", b"without", b"absent"]
        assert native.stat_entries(directory, names) == [
            expected(tmp_path / "with"), expected(tmp_path / "without"), errno.ENOENT
        ]  # fmt: skip
        told = native.stat_entries(directory, names, True)
        assert told[1:] == [expected(tmp_path / "without"), errno.ENOENT]
        assert isinstance(told[0], tuple)
        assert told[0][:10] == expected(tmp_path / "with")[:10]
        assert told[0][10] is not None
        assert sorted(told[0][10].split(b"\0")) == [b"", b"user.a", b"user.b"]

    @pytest.mark.parametrize("told", [True, False])
    def test_too_many_for_the_room_are_told_as_such(
        self, native: Native, tmp_path: Path, directory: int, told: bool
    ) -> None:
        (tmp_path / "f").touch()
        name = b"user." + b"n" * 250
        os.setxattr(tmp_path / "f", name, b"1")
        if not told:
            os.setxattr(tmp_path / "f", "user.one more", b"1")
        (found,) = native.stat_entries(directory, [b"f"], True)
        assert found == expected(tmp_path / "f", name + b"\0" if told else None)

    @needs_root
    def test_a_link_is_not_followed_and_has_its_own(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "f").touch()
        os.setxattr(tmp_path / "f", "user.a", b"1")
        (tmp_path / "plain").symlink_to("f")
        (tmp_path / "labelled").symlink_to("f")
        os.setxattr(tmp_path / "labelled", "trusted.l", b"1", follow_symlinks=False)
        assert native.stat_entries(directory, [b"plain", b"labelled"], True) == [
            expected(tmp_path / "plain"), expected(tmp_path / "labelled", b"trusted.l\0")
        ]  # fmt: skip

    @needs_known_calls
    @pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
    def test_older_kernels_tell_the_same(
        self, native: Native, tmp_path: Path, directory: int, error: int
    ) -> None:
        """In the order of real life: who has seen the call refused does not ask again."""
        (tmp_path / "f").touch()
        os.setxattr(tmp_path / "f", "user.a", b"1")
        (tmp_path / "link").symlink_to("f")
        script = (
            "import importlib, os, sys\n"
            "from tests.support.confined import without_listxattrat\n"
            "native = importlib.import_module(sys.argv[1])\n"
            "fd = os.open(sys.argv[2], os.O_RDONLY)\n"
            "look = lambda: native.stat_entries(fd, [b'f', b'link'], True)\n"
            f"for told in (without_listxattrat(look, {error}), look()):\n"
            "    print([each[10] for each in told])\n"
        )
        words = [sys.executable, "-c", script, MODULES[native.NAME], str(tmp_path)]
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        assert done.stdout.splitlines() == ["[b'user.a\\x00', b'']"] * 2

    def test_each_of_many_gets_its_own(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        paths = [tmp_path / str(number) for number in range(200)]
        for number, path in enumerate(paths):
            path.touch()
            if number % 3:
                os.setxattr(path, f"user.{number}", b"1")
        found = native.stat_entries(directory, [path.name.encode() for path in paths], True)
        assert found == [
            expected(path, b"user.%d\0" % number if number % 3 else b"")
            for number, path in enumerate(paths)
        ]


class TestNames:
    @pytest.mark.parametrize("count", [0, 1, 500])
    def test_all_are_found_each_time(
        self, native: Native, tmp_path: Path, directory: int, count: int
    ) -> None:
        names = {b"%d-\xff" % number + b"n" * 240 for number in range(count)}
        names |= {b"...", b".a", b"..b", b" ", b"\n"}
        for name in names:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
        for _ in range(2):
            found = native.list_names(directory)
            assert len(found) == len(names)
            assert set(found) == names

    def test_an_empty_directory_and_one_that_is_gone_hold_none(
        self, native: Native, tmp_path: Path
    ) -> None:
        (tmp_path / "d").mkdir()
        fd = os.open(tmp_path / "d", os.O_RDONLY)
        assert native.list_names(fd) == []
        (tmp_path / "d").rmdir()
        assert native.list_names(fd) == []
        os.close(fd)

    def test_errors_are_the_systems(self, native: Native, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        before = len(os.listdir("/proc/self/fd"))
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        with os_error(errno.ENOTDIR):
            native.list_names(fd)
        os.close(fd)
        with os_error(errno.EBADF):
            native.list_names(fd)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_with_a_nul_is_refused(native: Native, tmp_path: Path, directory: int) -> None:
    (tmp_path / "f").write_bytes(b"content")
    for name in (b"f\0", b"\0", b"f\0g"):
        with pytest.raises(ValueError, match="embedded null"):
            native.read_file(directory, name, memoryview(bytearray(10)))
        with pytest.raises(ValueError, match="embedded null"):
            native.stat_entries(directory, [b"f", name])
        with staged(native, directory) as fd, pytest.raises(ValueError, match="embedded null"):
            native.link_staged(fd, directory, name)
    assert os.listdir(tmp_path) == ["f"]


def test_the_selector_gives_what_it_is_asked_for(native: Native) -> None:
    assert selector.load(native.NAME) is native


def test_the_selector_prefers_the_compiled_calls() -> None:
    assert selector.load("").NAME in WISHED[-1:] or "compiled" not in WISHED


def test_forced_calls_that_are_missing_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        if name.endswith("_native"):
            raise ModuleNotFoundError(name)
        return _plain

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="NETSYNC_KERNEL=compiled"):
        selector.load("compiled")
    assert selector.load("") is cast("Native", _plain)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="NETSYNC_KERNEL"):
        selector.load("fast")
