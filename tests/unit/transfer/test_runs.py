"""Files of one directory together: cut into runs, staged, flushed and named."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xxhash import xxh3_128_digest

from netsync.errors import ProtocolError
from netsync.model import Change, Entry, Kind
from netsync.transfer.awaited import Awaited
from netsync.transfer.runs import Batched, Run, make_durable, name_last, runs
from netsync.transfer.wanted import Wanted
from netsync.tree import durable
from netsync.tree.directories import Directories
from netsync.tree.durable import EACH_MAX
from netsync.tree.output import Output
from netsync.tree.place import Attributes
from netsync.wire.messages import FileHead

TIME = 1_700_000_000_000_000_001


def wanted(number: int, path: bytes, *, present: Entry | None = None) -> Wanted:
    directory, _, name = path.rpartition(b"/")
    entry = Entry(name, Kind.FILE, 0o644, 0, 0, 1, TIME)
    made = Wanted(number, directory, entry, present, Change.CREATED)
    made.attributes = Attributes(0o640, None, None, TIME)
    return made


def head(number: int, data: bytes) -> FileHead:
    return FileHead(number, len(data), TIME, xxh3_128_digest(data))


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Directories]:
    """The directories below ``tmp_path``, with ``a`` and ``b`` in it."""
    for name in "ab":
        (tmp_path / name).mkdir()
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with Directories(root) as held:
        yield held
    os.close(root)


@contextlib.contextmanager
def staged(directories: Directories, paths: list[bytes]) -> Iterator[list[Batched]]:
    files = [wanted(number, path) for number, path in enumerate(paths)]
    tail = b"x" * len(files)
    batch: list[Batched] = []
    for run in runs([head(n, b"x") for n, _ in enumerate(files)], memoryview(tail), *known(files)):
        assert isinstance(run, Run)
        before = len(batch)
        batch += run.stage(directories)
        assert run.staged == len(batch) - before
        assert run.left_over == []
    yield batch
    for _, output in batch:
        output.close()


def known(
    files: list[Wanted],
) -> tuple[Awaited, Callable[[int], Wanted], Callable[[Wanted], None]]:
    def damaged(each: Wanted) -> None:
        pytest.fail(f"{each.path!r} is damaged")

    return Awaited(), files.__getitem__, damaged


def cut(
    files: list[Wanted], heads: list[FileHead], tail: bytes
) -> tuple[list[list[bytes]], list[bytes]]:
    damaged: list[bytes] = []
    made: list[list[bytes]] = []
    for run in runs(
        heads, memoryview(tail), Awaited(), files.__getitem__, lambda x: damaged.append(x.path)
    ):
        assert isinstance(run, Run)
        made.append([bytes(run.content(arrival)) for arrival in run.left_over])
    return made, damaged


def test_a_run_ends_with_its_directory() -> None:
    files = [wanted(n, path) for n, path in enumerate([b"a/1", b"a/2", b"b/1", b"a/3"])]
    contents = [b"one", b"", b"two", b"three"]
    heads = [head(n, data) for n, data in enumerate(contents)]
    assert cut(files, heads, b"".join(contents)) == ([[b"one", b""], [b"two"], [b"three"]], [])


def test_a_damaged_file_is_told_and_in_no_run() -> None:
    files = [wanted(n, path) for n, path in enumerate([b"a/1", b"a/2", b"a/3"])]
    heads = [head(n, data) for n, data in enumerate([b"one", b"two", b"three"])]
    assert cut(files, heads, b"onetwXthree") == ([[b"one"], [b"three"]], [b"a/2"])


@pytest.mark.parametrize("tail", [b"on", b"onetw", b"onetwo and more"])
def test_files_fill_their_frame_exactly(tail: bytes) -> None:
    files = [wanted(n, path) for n, path in enumerate([b"a/1", b"a/2"])]
    with pytest.raises(ProtocolError):
        cut(files, [head(0, b"one"), head(1, b"two")], tail)


def test_a_directory_that_is_gone_leaves_all_files_over(directories: Directories) -> None:
    files = [wanted(0, b"gone/1"), wanted(1, b"gone/2")]
    tail = memoryview(b"xx")
    (run,) = runs([head(0, b"x"), head(1, b"x")], tail, *known(files))
    assert isinstance(run, Run)
    assert run.stage(directories) == []
    assert len(run.left_over) == 2


def test_neighbours_are_named_together_and_the_last_first(
    tmp_path: Path, directories: Directories
) -> None:
    with staged(directories, [b"a/1", b"b/1", b"b/2"]) as batch:
        assert name_last(batch, directories) == [0, 0]
        assert sorted(os.listdir(tmp_path / "b")) == ["1", "2"]
        assert os.listdir(tmp_path / "a") == []
        assert [output.fd >= 0 for _, output in batch] == [True, False, False]
        assert name_last(batch[:1], directories) == [0]
    assert (tmp_path / "a" / "1").stat().st_mtime_ns == TIME


def test_a_name_that_appeared_is_not_taken(tmp_path: Path, directories: Directories) -> None:
    (tmp_path / "a" / "2").write_bytes(b"kept")
    with staged(directories, [b"a/1", b"a/2"]) as batch:
        assert name_last(batch, directories) == [0, errno.EEXIST]
        assert [output.fd >= 0 for _, output in batch] == [False, True]
    assert (tmp_path / "a" / "2").read_bytes() == b"kept"


def test_what_replaces_a_file_is_no_run(directories: Directories) -> None:
    with staged(directories, [b"a/1", b"a/2"]) as batch:
        batch[1][0].present = batch[1][0].entry
        assert name_last(batch, directories) == []


@pytest.mark.parametrize("count", [1, EACH_MAX, EACH_MAX + 1, 200])
def test_every_file_is_flushed(
    monkeypatch: pytest.MonkeyPatch, directories: Directories, count: int
) -> None:
    """By itself, or with its whole file system: never one for others that are only neighbours."""
    alone: set[int] = set()
    systems: set[int] = set()
    monkeypatch.setattr(os, "fsync", alone.add)
    monkeypatch.setattr(durable, "sync_file_system", lambda fd: systems.add(os.fstat(fd).st_dev))
    with staged(directories, [b"%c/%d" % (b"ab"[n % 2], n) for n in range(count)]) as batch:
        make_durable(batch)
        fds = [output.fd for _, output in batch]
        assert all(fd in alone or os.fstat(fd).st_dev in systems for fd in fds)
        assert bool(systems) == (count > EACH_MAX)


def test_a_file_written_elsewhere_speaks_for_no_neighbour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directories: Directories
) -> None:
    """The stage of large files may be on another file system than their directory."""
    given: set[int] = set()
    monkeypatch.setattr("netsync.transfer.runs.flush_file_systems", given.update)
    fd = os.open(tmp_path / "elsewhere", os.O_RDWR | os.O_CREAT)
    with staged(directories, [b"a/%d" % n for n in range(EACH_MAX)]) as batch:
        large = Output(fd, None)
        make_durable([(batch[0][0], large), *batch])
        assert given & {output.fd for _, output in batch}
        assert fd in given
    large.close()


def test_outputs_keep_what_the_wanted_attributes_say(directories: Directories) -> None:
    with staged(directories, [b"a/1"]) as ((_, output),):
        assert isinstance(output, Output)
        assert os.fstat(output.fd).st_mode & 0o777 == 0o640
