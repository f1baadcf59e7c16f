"""The roll forward: from wherever it stopped, however often, the same tree comes about."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.errors import RootError
from netsync.model import Kind
from netsync.tree.expected import expected
from netsync.tree.journal import (
    Header,
    Journal,
    Link,
    MakeDirectory,
    Place,
    Record,
    Restate,
    SetAside,
    Settle,
    WrittenJournal,
)
from netsync.tree.large_files import Stage
from netsync.tree.place import Attributes
from netsync.tree.publication import commit, is_pending, recover
from netsync.tree.roll_forward import RollForward, RollForwardError
from netsync.tree.scan import entry_at
from netsync.tree.stage_directory import make_session, make_stage
from tests.support.confined import as_nobody, needs_known_calls, needs_root
from tests.support.samples import snapshot
from tests.support.trees import (
    Value,
    make_tree,
    needs_mount,
    opened,
    read_tree,
    small_disk,
)

NOTHING = Attributes(None, None, None, None)
OLD: dict[str, Value] = {
    "stays": b"same", "restated": b"mode", "replaced": b"old", "file to directory": b"f",
    "directory to file": {"x": b"1", "deep": {"y": b"2"}}, "gone": {"z": b"3"},
    "parent": {"kept": b"k", "new": b"to be replaced"}, "carrier": b"c",
}  # fmt: skip
NEW: dict[str, Value] = {
    "stays": b"same", "restated": b"mode", "replaced": b"new 1",
    "file to directory": {"inner": {"leaf": b"new 2"}}, "directory to file": b"new 3",
    "parent": {"kept": b"k", "new": b"new 4"}, "carrier": b"c", "linked": b"c",
}  # fmt: skip
BACKED_UP: dict[str, Value] = {
    "replaced": b"old", "file to directory": b"f",
    "directory to file": {"x": b"1", "deep": {"y": b"2"}}, "gone": {"z": b"3"},
    "parent": {"new": b"to be replaced"},
}  # fmt: skip


class Prepared:
    """A tree, and in its stage what turns it into another. ``backup`` keeps what goes."""

    def __init__(self, root: Path, fd: int, *, backup: bytes = b"") -> None:
        self.fd = fd
        make_tree(root, OLD)
        self.stage = make_stage(fd)
        self.session = make_session(self.stage)
        self.header = Header(backup, durable=True)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        os.close(self.session.fd)
        os.close(self.stage)

    def _aside(self, *paths: str) -> Iterator[SetAside]:
        for path in paths:
            parent, _, name = path.rpartition("/")
            fd = os.open(parent or ".", os.O_RDONLY, dir_fd=self.fd)
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            kept = entry_at(fd, name.encode()) if self.header.backup_dir else None
            yield SetAside(path.encode(), next(self._numbers), expected(status), kept)
            os.close(fd)

    def _place(self, path: str, number: int) -> Place:
        name = b"new-%d" % number
        flags = os.O_CREAT | os.O_WRONLY
        file = os.open(name, flags, dir_fd=self.session.fd)
        os.write(file, b"new %d" % number)
        os.close(file)
        return Place(path.encode(), name)

    def records(self) -> list[Record]:
        """Return what is to be done, and stage what it needs."""
        paths = [
            "file to directory", "directory to file/deep/y", "directory to file/deep",
            "directory to file/x", "directory to file", "gone/z", "gone",
        ]  # fmt: skip
        if self.header.backup_dir:
            paths += ["replaced", "parent/new"]
        restated = expected(os.stat("restated", dir_fd=self.fd))
        return [
            *self._aside(*paths),
            MakeDirectory(b"file to directory"),
            MakeDirectory(b"file to directory/inner"),
            self._place("replaced", 1),
            self._place("file to directory/inner/leaf", 2),
            self._place("directory to file", 3),
            self._place("parent/new", 4),
            Link(b"linked", b"carrier", Kind.FILE, NOTHING),
            Restate(b"restated", Attributes(0o604, None, None, 5_000_000_000), restated),
            Settle(b"file to directory/inner", Attributes(0o500, None, None, 1_000_000_000)),
            Settle(b"file to directory", Attributes(0o700, None, None, 2_000_000_000)),
            Settle(b"", Attributes(0o755, None, None, 3_000_000_000)),
        ]

    def carry_out(self, records: list[Record]) -> None:
        forward = RollForward(self.fd, self.session.fd, self.header)
        try:
            assert list(forward.carry_out(records)) == []
        finally:
            forward.close()


def tree_without_stage(root: Path) -> dict[str, object]:
    return {name: value for name, value in read_tree(root).items() if name != ".netsync"}


def check(root: Path, backup: str) -> None:
    """The tree is the new one, metadata included."""
    expected: dict[str, object] = {**NEW, **({backup: BACKED_UP} if backup else {})}
    assert tree_without_stage(root) == expected
    assert os.path.samefile(root / "linked", root / "carrier")
    status = (root / "restated").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o604, 5_000_000_000)
    inner = root / "file to directory" / "inner"
    assert (stat.S_IMODE(inner.stat().st_mode), inner.stat().st_mtime) == (0o500, 1)
    assert (inner.parent.stat().st_mtime, root.stat().st_mtime) == (2, 3)


def stop_everywhere(base: Path, backup: str) -> None:
    base.mkdir(exist_ok=True)
    stopped = 0
    while True:
        root = base / str(stopped)
        root.mkdir()
        with opened(root) as fd:
            prepared = Prepared(root, fd, backup=backup.encode())
            records = prepared.records()
            prepared.carry_out(records[:stopped])  # and here it died
            prepared.carry_out(records)
            check(root, backup)
            prepared.carry_out(records)  # it had even got to its end
            check(root, backup)
            prepared.close()
        if stopped == len(records):
            return
        stopped += 1


@pytest.mark.parametrize("backup", ["", ".old"])
def test_from_any_prefix_the_same_tree_comes_about(tmp_path: Path, backup: str) -> None:
    """Any number of records is done, then all from the first one: the tree is the new one."""
    stop_everywhere(tmp_path / "trees", backup)


@needs_root
@needs_known_calls
@pytest.mark.parametrize("backup", ["", ".old"])
def test_from_any_prefix_as_an_ordinary_user(tmp_path: Path, backup: str) -> None:
    """Directories that were settled already, and shut us out, are entered again."""
    tmp_path.chmod(0o777)
    for above in list(tmp_path.parents)[:3]:
        above.chmod(0o755)
    as_nobody(lambda: stop_everywhere(tmp_path / "trees", backup))


def committed(root: Path, fd: int, *, backup: bytes = b"") -> Prepared:
    """Return a run that is committed and then died."""
    prepared = Prepared(root, fd, backup=backup)
    journal = Journal(prepared.header)
    for record in prepared.records():
        journal.append(record)
    commit(fd, prepared.stage, prepared.session, journal)
    journal.close()
    return prepared


def test_a_committed_run_is_recovered_and_its_stage_removed(tmp_path: Path) -> None:
    """Whoever comes next finishes it; then nothing of it is left."""
    with opened(tmp_path) as fd:
        committed(tmp_path, fd).close()
        assert is_pending(fd)
        assert recover(fd).records == 18
        check(tmp_path, "")
        assert not is_pending(fd)
        assert not (tmp_path / ".netsync").exists()
        assert recover(fd).records == 0


def test_a_run_that_was_not_committed_is_swept(tmp_path: Path) -> None:
    """Without a journal under its name nothing of a dead session is used."""
    with opened(tmp_path) as fd:
        prepared = Prepared(tmp_path, fd)
        prepared.records()
        before = snapshot(tmp_path)
        prepared.close()
        assert recover(fd).records == 0
        stage = Stage(fd)
        stage.open()
        stage.close()
        after = snapshot(tmp_path)
        assert {p: f for p, f in before.items() if not p.startswith(b".netsync")} == after


def test_a_stage_taken_over_leaves_what_is_committed_alone(tmp_path: Path) -> None:
    """Another session that looks for partials touches nothing that a journal needs."""
    with opened(tmp_path) as fd:
        committed(tmp_path, fd).close()
        stage = Stage(fd)
        stage.open()
        stage.close()
        recover(fd)
        check(tmp_path, "")


def test_a_damaged_journal_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Nothing of it is done; the message names the way out."""
    with opened(tmp_path) as fd:
        prepared = committed(tmp_path, fd)
        (file,) = (tmp_path / ".netsync").glob("session-*/journal")
        file.write_bytes(file.read_bytes()[:-1])
        prepared.close()
        before = snapshot(tmp_path)
        for _ in range(2):
            with pytest.raises(RootError, match=r"damaged.*remove \.netsync"):
                recover(fd)
        assert snapshot(tmp_path) == before


def test_what_came_in_the_way_is_left_alone_and_told(tmp_path: Path) -> None:
    """What was put where a file should go stays; the rest is published, and the stage goes."""
    with opened(tmp_path) as fd:
        committed(tmp_path, fd).close()
        (tmp_path / "replaced").unlink()
        make_tree(tmp_path / "replaced", {"in the": {"way": b""}})
        told = recover(fd).refused
        assert [path for path, _ in told] == [b"replaced"]
        shutil.rmtree(tmp_path / "replaced")
        (tmp_path / "replaced").write_bytes(b"new 1")
        assert tree_without_stage(tmp_path) == NEW
        assert not (tmp_path / ".netsync").exists()


@pytest.mark.parametrize("backup", [b"", b".old"])
def test_what_was_put_into_a_directory_that_goes_stays(tmp_path: Path, backup: bytes) -> None:
    """After the commit and a crash: neither deleted nor replaced, and told."""
    with opened(tmp_path) as fd:
        committed(tmp_path, fd, backup=backup).close()
        for name in ("gone", "directory to file"):
            (tmp_path / name / "precious").write_bytes(b"p")
        assert [path for path, _ in recover(fd).refused] == [b"directory to file", b"gone"]
    there = read_tree(tmp_path)
    assert there["gone"] == there["directory to file"] == {"precious": b"p"}
    assert there["replaced"] == b"new 1"


@needs_mount
def test_a_backup_on_another_file_system_is_flushed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old entries are dropped only when their copies are safe."""
    flushed: list[int] = []

    def flush(fd: int) -> None:
        flushed.append(os.fstat(fd).st_dev)

    monkeypatch.setattr("netsync.tree.roll_forward.sync_file_system", flush)
    with opened(tmp_path) as fd, small_disk(tmp_path / ".old", 1 << 20) as disk:
        committed(tmp_path, fd, backup=b".old").close()
        recover(fd)
        assert flushed == [tmp_path.stat().st_dev, disk.stat().st_dev]


def test_another_entry_than_was_seen_is_not_removed(tmp_path: Path) -> None:
    """A file that was to go and is a full directory, or another file, since the commit stays."""
    with opened(tmp_path) as fd:
        committed(tmp_path, fd).close()
        (tmp_path / "file to directory").unlink()
        make_tree(tmp_path / "file to directory", {"precious": b"p"})
        (tmp_path / "precious").write_bytes(b"p")
        (tmp_path / "precious").rename(tmp_path / "gone" / "z")
        told = [path for path, _ in recover(fd).refused]
        assert told == [b"file to directory", b"gone/z", b"gone"]
    there = read_tree(tmp_path)
    assert there["file to directory"] == {"precious": b"p", "inner": {"leaf": b"new 2"}}
    assert there["gone"] == {"z": b"p"}


@pytest.mark.parametrize("name", ["restated", "settled"])
def test_metadata_is_given_to_what_was_seen_only(tmp_path: Path, name: str) -> None:
    """Another file or directory that got the name since the commit keeps its mode."""
    root = tmp_path / "root"
    make_tree(root, {"restated": b"r", "settled": {}})
    with opened(root) as fd:
        stage = make_stage(fd)
        session = make_session(stage)
        wide = Attributes(0o777, None, None, None)
        records: list[Record] = [
            Restate(b"restated", wide, expected((root / "restated").stat())),
            Settle(b"settled", wide, expected((root / "settled").stat())),
        ]
        secret = tmp_path / "secret"
        if name == "restated":
            secret.touch()
        else:
            secret.mkdir()
            (root / name).rmdir()
        secret.chmod(0o700)
        secret.rename(root / name)
        forward = RollForward(fd, session.fd, Header(b"", durable=False))
        told = list(forward.carry_out(records))
        forward.close()
        assert [path for path, _ in told] == [name.encode()]
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o700
        os.close(session.fd)
        os.close(stage)


def test_a_link_cut_short_leaves_no_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the link and its rename: the extra name is in the stage, and goes."""
    with opened(tmp_path) as fd:
        committed(tmp_path, fd).close()
        (tmp_path / "linked").write_bytes(b"before")
        plain = os.rename

        def rename(source: bytes, to: bytes, **more: int) -> None:
            if to == b"linked":
                raise OSError(errno.EIO, "cut")
            plain(source, to, **more)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", rename)
            patched.setattr(os, "unlink", lambda *_, **__: None)
            with pytest.raises(RootError, match=r"publish linked: .*run is committed: mend this"):
                recover(fd)
        assert not list(tmp_path.glob(".netsync-tmp*"))
        recover(fd)
        check(tmp_path, "")
        assert not list(tmp_path.glob(".netsync*"))


def test_the_aside_of_a_finished_run_goes_although_its_removal_was_cut(tmp_path: Path) -> None:
    """From the sign that all is done nothing is done again, though names are free by now."""
    with opened(tmp_path) as fd:
        prepared = committed(tmp_path, fd)
        (journal,) = (tmp_path / ".netsync").glob("session-*/journal")
        with journal.open("rb") as file:
            written = WrittenJournal(file.fileno())
            prepared.carry_out(list(written))
        journal.rename(journal.with_name("applied"))
        shutil.rmtree(journal.with_name("gone"))
        prepared.close()
        assert recover(fd).records == 0
        check(tmp_path, "")
        assert not (tmp_path / ".netsync").exists()


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    """A directory turned into a link since the commit is told, and no way out."""
    outside = make_tree(tmp_path / "outside", {"new": b"mine"})
    root = tmp_path / "root"
    root.mkdir()
    with opened(root) as fd:
        committed(root, fd).close()
        shutil.rmtree(root / "parent")
        (root / "parent").symlink_to(outside)
        assert [path for path, _ in recover(fd).refused] == [b"parent/new"]
    assert read_tree(outside) == {"new": b"mine"}


def test_the_error_names_the_record(tmp_path: Path) -> None:
    """A record that cannot be carried out says which path it is about."""
    with opened(tmp_path) as fd:
        prepared = Prepared(tmp_path, fd)
        with pytest.raises(RollForwardError) as caught:
            prepared.carry_out([MakeDirectory(b"x" * 300)])
        assert caught.value.path == b"x" * 300
        prepared.close()
