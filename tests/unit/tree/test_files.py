"""Reading, writing, scanning, flushing and owners: the small parts of the tree."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from netsync.errors import UsageError
from netsync.model import Kind, Name
from netsync.plan.ownership import parse_map
from netsync.tree.capability import capability
from netsync.tree.durable import EACH_MAX, flush, sync_file_system
from netsync.tree.output import Output
from netsync.tree.owners import IdMap, IdNames, group_id, group_name, user_id, user_name
from netsync.tree.read import PAGE, PageBuffers, fill, open_regular, read_fully
from netsync.tree.scan import entry_at, names_in, root_entry
from tests.support.confined import NOBODY, as_nobody, needs_known_calls, needs_root
from tests.support.failures import os_error
from tests.support.trees import make_tree, open_descriptors, opened, read_tree

# --- reading ------------------------------------------------------------------------------------


def test_only_a_regular_file_is_opened_and_nothing_waits(tmp_path: Path) -> None:
    make_tree(tmp_path, {"file": b"x", "link": "file", "fifo": None, "dir": {}})
    before = open_descriptors()
    with opened(tmp_path) as directory:
        os.close(open_regular(directory, b"file"))
        with os_error(errno.ELOOP):
            open_regular(directory, b"link")
        for name in (b"fifo", b"dir"):
            with os_error(errno.ESTALE):
                open_regular(directory, name)
        with os_error(errno.ENOENT):
            open_regular(directory, b"gone")
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("count", "offset", "data"),
    [(3, 0, b"012"), (3, 8, b"89"), (3, 10, b""), (10, 0, b"0123456789"), (99, 0, b"0123456789")],
)
def test_reading_returns_all_there_is(tmp_path: Path, count: int, offset: int, data: bytes) -> None:
    make_tree(tmp_path, {"file": b"0123456789"})
    with opened(tmp_path) as directory:
        fd = open_regular(directory, b"file")
        assert read_fully(fd, count, offset) == data
        os.close(fd)


def test_a_page_buffer_is_used_again_only_when_nobody_looks_into_it_any_more() -> None:
    buffers = PageBuffers()
    first = buffers.room(0, PAGE)
    first[:] = b"1" * PAGE
    part = first[10:20]
    del first
    second = buffers.room(0, PAGE)
    second[:] = b"2" * PAGE
    assert bytes(part) == b"1" * 10
    del part
    assert bytes(buffers.room(0, PAGE)) == b"1" * PAGE  # the first one's memory
    assert bytes(second) == b"2" * PAGE


@pytest.mark.parametrize("offset", [0, 1, PAGE - 1, 5 * PAGE + 100])
def test_a_page_buffer_grows_to_hold_what_is_asked_wherever_it_begins(
    tmp_path: Path, offset: int
) -> None:
    content = bytes(range(256)) * (8 * PAGE // 256)
    make_tree(tmp_path, {"file": content})
    buffers = PageBuffers()
    with opened(tmp_path) as directory:
        fd = open_regular(directory, b"file")
        for count in (1, PAGE, 2 * PAGE + 1):
            view = buffers.room(offset, count)
            assert len(view) == count
            assert fill(fd, view, offset) == count
            assert bytes(view) == content[offset : offset + count]
        os.close(fd)


# --- writing ------------------------------------------------------------------------------------


def test_a_staged_output_is_seen_only_when_published(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"old content"})
    with opened(tmp_path) as directory:
        output = Output.create(directory, b"f", inplace=False)
        output.write(b"56", 5)
        output.write(b"01234", 0)
        output.truncate(7)
        assert read_tree(tmp_path) == {"f": b"old content"}
        output.publish(directory, b"f", replace=True)
    assert read_tree(tmp_path) == {"f": b"0123456"}


def test_in_place_keeps_the_inode_and_cuts_what_was_behind(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"old content"})
    inode = (tmp_path / "f").stat().st_ino
    with opened(tmp_path) as directory:
        output = Output.create(directory, b"f", inplace=True)
        assert output.inplace
        output.write(b"new", 0)
        output.truncate(5)
        output.publish(directory, b"f", replace=True)
    assert read_tree(tmp_path) == {"f": b"new c"}
    assert (tmp_path / "f").stat().st_ino == inode


def test_a_file_with_two_names_is_never_written_in_place(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"old"})
    os.link(tmp_path / "f", tmp_path / "other")
    with opened(tmp_path) as directory:
        output = Output.create(directory, b"f", inplace=True)
        assert not output.inplace
        output.write(b"new", 0)
        output.publish(directory, b"f", replace=True)
    assert read_tree(tmp_path) == {"f": b"new", "other": b"old"}


def test_in_place_follows_no_link(tmp_path: Path) -> None:
    make_tree(tmp_path, {"victim": b"kept", "link": "victim"})
    with opened(tmp_path) as directory, os_error(errno.ELOOP):
        Output.create(directory, b"link", inplace=True)
    assert (tmp_path / "victim").read_bytes() == b"kept"


@pytest.mark.parametrize("inplace", [True, False])
def test_discarding_and_closing_twice_lets_go_of_the_descriptor_once(
    tmp_path: Path, inplace: bool
) -> None:
    make_tree(tmp_path, {"f": b"old"})
    before = open_descriptors()
    with opened(tmp_path) as directory:
        output = Output.create(directory, b"f", inplace=inplace)
        output.discard(directory)
        output.discard(directory)
        output.close()
    assert open_descriptors() == before
    assert read_tree(tmp_path) == {"f": b"old"}


# --- scanning -----------------------------------------------------------------------------------


def test_names_come_sorted_as_bytes_and_netsyncs_own_apart(tmp_path: Path) -> None:
    names = [b"\xff", b"b", b"B", "ä".encode(), b"a\n", b"a", b".netsyncignore"]
    for name in [*names, b".netsync", b".netsync-tmp-1"]:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    with opened(tmp_path) as directory:
        found, reserved = names_in(directory)
    assert found == sorted(names)
    assert sorted(reserved) == [b".netsync", b".netsync-tmp-1"]


def test_an_entry_says_what_is_there(tmp_path: Path) -> None:
    make_tree(tmp_path, {"file": b"12345", "link": "\udcff/gone", "fifo": None, "dir": {"x": b""}})
    (tmp_path / "file").chmod(0o4711)
    os.utime(tmp_path / "file", ns=(1, -5))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
    with opened(tmp_path) as directory:
        file = entry_at(directory, b"file")
        assert (file.kind, file.size, file.mode, file.mtime_ns) == (Kind.FILE, 5, 0o4711, -5)
        assert (file.uid, file.gid) == (os.geteuid(), os.getegid())
        link = entry_at(directory, b"link")
        assert (link.kind, link.target, link.size) == (Kind.SYMLINK, b"\xff/gone", 0)
        kinds = [entry_at(directory, name).kind for name in (b"fifo", b"dir", b"s")]
        assert kinds == [Kind.FIFO, Kind.DIRECTORY, Kind.SOCKET]
        assert entry_at(directory, b"dir").size == 0
        with os_error(errno.ENOENT):
            entry_at(directory, b"gone")


@needs_root
def test_a_devices_number_is_read(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o020666, os.makedev(1, 3))
    with opened(tmp_path) as directory:
        assert entry_at(directory, b"null").device == os.makedev(1, 3)


def test_the_root_itself_has_no_name(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with opened(tmp_path) as directory:
        entry = root_entry(directory)
    assert (entry.name, entry.kind, entry.mode) == (b"", Kind.DIRECTORY, 0o750)


# --- flushing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, EACH_MAX, EACH_MAX + 1])
def test_any_number_of_files_can_be_flushed(tmp_path: Path, count: int) -> None:
    with opened(tmp_path) as directory:
        fds = [
            os.open(b"f%d" % n, os.O_CREAT | os.O_WRONLY, dir_fd=directory) for n in range(count)
        ]
        try:
            flush(fds)
        finally:
            for fd in fds:
                os.close(fd)


def test_a_flush_that_fails_says_so() -> None:
    with os_error(errno.EBADF):
        sync_file_system(-1)
    with os_error(errno.EBADF):
        flush([-1] * (EACH_MAX + 1))
    reading, writing = os.pipe()
    with os_error(errno.EINVAL):
        flush([writing])
    os.close(reading)
    os.close(writing)


# --- owners -------------------------------------------------------------------------------------


def test_each_name_is_told_once_and_0_never() -> None:
    asked: list[int] = []

    def look_up(number: int) -> bytes | None:
        asked.append(number)
        return {5: b"five", 7: b"seven"}.get(number)

    names = IdNames(look_up)
    assert names.new([7, 0, 5, 7, 6]) == [Name(5, b"five"), Name(7, b"seven")]
    assert names.new([7, 5, 6, 0]) == []
    assert asked == [5, 6, 7]


def test_names_known_here_are_mapped_and_other_numbers_stay() -> None:
    ids = IdMap({b"anna": 1001, "root": 0}.get)
    ids.learn([Name(5, b"anna"), Name(6, b"nobody here")])
    assert (ids[5], ids[6], ids[7]) == (1001, 6, 7)


def test_0_is_0_whatever_the_source_calls_it() -> None:
    ids = IdMap({b"anna": 1001}.get)
    ids.learn([Name(0, b"anna")])
    assert ids[0] == 0


def test_the_local_database_is_asked_and_knows_not_everybody() -> None:
    assert (user_name(0), group_name(0)) == (b"root", b"root")
    assert (user_id(b"root"), group_id(b"root")) == (0, 0)
    assert (user_name(3_999_999_999), group_name(3_999_999_999)) == (None, None)
    for strange in (b"nobody-of-this-name", b"", b"with\0nul", b"\xff"):
        assert (user_id(strange), group_id(strange)) == (None, None)


def test_rules_decide_before_names_and_numbers_do() -> None:
    known = {b"anna": 7, b"www": 33}
    ids = IdMap(known.get, parse_map("anna:www,0:5,10-20:www,:6"), zero=b"root")
    ids.resolve()
    ids.learn([Name(1000, b"anna"), Name(1001, b"unknown"), Name(15, b"anna too")])
    assert [ids[number] for number in (1000, 1001, 15, 0, 12, 99)] == [33, 1001, 33, 5, 33, 6]


def test_id_zero_goes_by_its_local_name() -> None:
    ids = IdMap({b"www": 33}.get, parse_map("root:www"), zero=b"root")
    ids.resolve()
    assert (ids[0], ids[1]) == (33, 1)


def test_an_owner_to_map_to_that_is_not_there_is_an_error() -> None:
    ids = IdMap(lambda name: None, parse_map("*:nobody-here"))
    with pytest.raises(UsageError, match="no such user or group"):
        ids.resolve()


@needs_root
@needs_known_calls
def test_capability_tells_root_from_others() -> None:
    assert capability().privileged
    unprivileged = as_nobody(capability)
    assert not unprivileged.privileged
    assert unprivileged.groups == {NOBODY}


def test_the_umask_is_read_without_changing_it() -> None:
    before = os.umask(0o027)
    try:
        assert capability().umask == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
