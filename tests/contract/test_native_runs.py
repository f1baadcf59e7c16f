"""One contract, two sets of file calls: those that deal with neighbours in a directory at once."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest

from netsync.tree.native import AS_NOT_LISTED, LESS_THAN_ITS_SIZE, Native, Staging
from tests.support.confined import needs_known_calls, needs_root, without_unnamed_files
from tests.support.interfering import when_read
from tests.support.sparse import write_sparse

TIME = 1_700_000_000_123_456_789
MANY = 150
"""Files: more than are dealt with in one release of the GIL."""


def plan(size: int, mode: int = 0o644, time: int | None = TIME) -> Staging:
    return size, mode, -1, -1, time


def make(path: Path, content: bytes) -> tuple[bytes, int, int]:
    path.write_bytes(content)
    os.utime(path, ns=(TIME, TIME))
    return path.name.encode(), len(content), TIME


class TestReading:
    def read(
        self, native: Native, directory: int, files: list[tuple[bytes, int, int]], room: int
    ) -> tuple[list[int], bytes]:
        memory = bytearray(room)
        names, sizes, times = zip(*files, strict=True)
        return native.read_listed(directory, names, sizes, times, memoryview(memory)), bytes(memory)

    def test_contents_lie_one_behind_the_other(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        contents = [b"%d" % number * (number % 7) for number in range(MANY)]
        files = [make(tmp_path / f"{n}", content) for n, content in enumerate(contents)]
        whole = b"".join(contents)
        assert self.read(native, directory, files, len(whole)) == ([0] * MANY, whole)

    def test_a_file_that_takes_less_room_than_it_is_long_is_read_and_told(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        write_sparse(tmp_path / "sparse", 40_000, {20_000: b"data"})
        os.utime(tmp_path / "sparse", ns=(TIME, TIME))
        sparse = b"sparse", 40_000, TIME
        full = make(tmp_path / "full", b"full")
        told, data = self.read(native, directory, [sparse, full], 40_004)
        assert told == [LESS_THAN_ITS_SIZE, 0]
        assert data == (tmp_path / "sparse").read_bytes() + b"full"

    def test_what_cannot_be_read_keeps_its_place_and_harms_no_neighbour(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        first, last = make(tmp_path / "a", b"aaa"), make(tmp_path / "z", b"zz")
        (tmp_path / "link").symlink_to("a")
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "folder").mkdir()
        odd = [(name, 4, TIME) for name in (b"absent", b"link", b"fifo", b"folder")]
        told, data = self.read(native, directory, [first, *odd, last], 3 + 4 * 4 + 2)
        assert told == [0, errno.ENOENT, errno.ELOOP, errno.ESTALE, errno.ESTALE, 0]
        assert data[:3] + data[-2:] == b"aaazz"

    @pytest.mark.parametrize(("size", "time"), [(2, TIME), (4, TIME), (3, TIME + 1), (3, 0)])
    def test_a_file_that_is_not_as_listed_is_told(
        self, native: Native, tmp_path: Path, directory: int, size: int, time: int
    ) -> None:
        name, _, _ = make(tmp_path / "f", b"abc")
        assert self.read(native, directory, [(name, size, time)], size)[0] == [AS_NOT_LISTED]

    @needs_root
    def test_a_file_that_changes_while_it_is_read_is_told_though_its_time_is_put_back(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        name, size, time = make(tmp_path / "f", b"abc")

        def rewrite() -> None:
            with (tmp_path / "f").open("r+b") as file:
                file.write(b"ab2")
            os.utime(tmp_path / "f", ns=(TIME, TIME))

        with when_read(tmp_path / "f", rewrite):
            told, _ = self.read(native, directory, [(name, size, time)], size)
        assert told == [AS_NOT_LISTED]
        assert self.read(native, directory, [(name, size, time)], size) == ([0], b"ab2")

    def test_a_time_beyond_64_bits_is_never_as_listed(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        far = 10_413_792_000_000_000_005
        (tmp_path / "f").touch()
        os.utime(tmp_path / "f", ns=(far, far))
        for listed in (0, 2**63 - 1):
            assert self.read(native, directory, [(b"f", 0, listed)], 0)[0] == [AS_NOT_LISTED]

    @pytest.mark.parametrize("sizes", [[3, 3], [-1, 1], [2**62, 2**62]])
    def test_no_more_is_read_than_there_is_room(
        self, native: Native, tmp_path: Path, directory: int, sizes: list[int]
    ) -> None:
        files = [(make(tmp_path / f"{n}", b"abc")[0], size, TIME) for n, size in enumerate(sizes)]
        with pytest.raises(ValueError, match="too small"):
            self.read(native, directory, files, 5)

    def test_a_name_with_a_nul_is_refused(self, native: Native, directory: int) -> None:
        with pytest.raises(ValueError, match="null"):
            self.read(native, directory, [(b"a\0b", 0, TIME)], 0)


class TestStaging:
    def test_each_file_has_its_content_mode_and_time(self, native: Native, directory: int) -> None:
        modes = [(0o600, 0o644, 0o755, 0o4755, 0, -1)[number % 6] for number in range(MANY)]
        contents = [b"%d" % number * (number % 5) for number in range(MANY)]
        plans = [plan(len(c), mode, TIME + len(c)) for c, mode in zip(contents, modes, strict=True)]
        umask = os.umask(0o027)
        try:
            fds = native.stage_files(directory, b"".join(contents), plans)
        finally:
            os.umask(umask)
        for fd, content, mode in zip(fds, contents, modes, strict=True):
            found = os.fstat(fd)
            assert os.pread(fd, 1000, 0) == content
            assert stat.S_IMODE(found.st_mode) == (0o600 if mode == -1 else mode)
            assert (found.st_mtime_ns, found.st_nlink) == (TIME + len(content), 0)
            os.close(fd)

    @pytest.mark.parametrize("time", [0, -1, -(10**9), 1 - 10**9, -(10**18) - 7])
    def test_a_time_may_lie_before_1970(self, native: Native, directory: int, time: int) -> None:
        (fd,) = native.stage_files(directory, b"x", [plan(1, time=time)])
        try:
            assert os.fstat(fd).st_mtime_ns == time
        finally:
            os.close(fd)

    def test_what_needs_no_time_gets_none(self, native: Native, directory: int) -> None:
        (fd,) = native.stage_files(directory, b"x", [plan(1, time=None)])
        assert os.fstat(fd).st_mtime_ns > TIME
        os.close(fd)

    @needs_root
    def test_owners_are_set(self, native: Native, directory: int) -> None:
        fds = native.stage_files(directory, b"", [(0, 0o4755, 66, 77, 0), (0, 0o755, -1, 77, 0)])
        found = [os.fstat(fd) for fd in fds]
        assert [(s.st_uid, s.st_gid) for s in found] == [(66, 77), (os.geteuid(), 77)]
        assert [stat.S_IMODE(s.st_mode) for s in found] == [0o4755, 0o755]
        for fd in fds:
            os.close(fd)

    @pytest.mark.parametrize("last", [plan(3), plan(-1), (0, 0o644, 2**32, -1, 0)])
    def test_an_impossible_file_leaves_none_of_them(
        self, native: Native, directory: int, last: Staging
    ) -> None:
        with pytest.raises((ValueError, OverflowError)):
            native.stage_files(directory, b"ab" * MANY, [*[plan(2)] * (MANY - 1), last])

    def test_a_failure_is_told_for_each(self, native: Native, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        assert native.stage_files(fd, b"", [plan(0)] * 2) == [-errno.ENOTDIR] * 2
        os.close(fd)

    @needs_known_calls
    def test_a_file_system_without_unnamed_files_is_told_by_its_error(
        self, native: Native, directory: int
    ) -> None:
        def work() -> None:
            assert native.stage_files(directory, b"x", [plan(1)]) == [-errno.EOPNOTSUPP]

        without_unnamed_files(work, errno.EOPNOTSUPP)


class TestLinking:
    def test_files_get_their_names_and_are_closed(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        names = [b"%d" % number for number in range(MANY)]
        fds = native.stage_files(directory, bytes(MANY), [plan(1)] * MANY)
        assert native.link_files(directory, fds, names) == [0] * MANY
        assert sorted(map(os.fsencode, os.listdir(tmp_path))) == sorted(names)

    def test_a_taken_name_is_told_and_its_file_stays_open(
        self, native: Native, tmp_path: Path, directory: int
    ) -> None:
        (tmp_path / "b").write_bytes(b"kept")
        fds = native.stage_files(directory, b"123", [plan(1)] * 3)
        assert native.link_files(directory, fds, [b"a", b"b", b"c"]) == [0, errno.EEXIST, 0]
        assert os.pread(fds[1], 9, 0) == b"2"
        os.close(fds[1])
        assert [(tmp_path / name).read_bytes() for name in "abc"] == [b"1", b"kept", b"3"]

    def test_as_many_names_as_files(self, native: Native, directory: int) -> None:
        with contextlib.closing(open(os.devnull)) as file, pytest.raises(ValueError, match="many"):
            native.link_files(directory, [file.fileno()], [])
