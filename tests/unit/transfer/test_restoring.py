"""Whose records a source believes, and whom the owners in them become."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from netsync.errors import UsageError
from netsync.model import Entry, Kind, Options, Problem
from netsync.plan.stored import Record, pack
from netsync.transfer.restoring import Restoring
from netsync.tree.scan import entry_at
from netsync.tree.stored import find_record
from tests.support.confined import NOBODY, needs_root
from tests.support.xattrs import put

pytestmark = needs_root
DAEMON = pwd.getpwnam("daemon")
UNUSED = 3_999_999_999
RECORD = Record(1, Kind.FILE, 0o600, UNUSED, UNUSED, b"no-such-user", b"no-such-group")
OPTIONS = Options(store_metadata=True)


@pytest.fixture
def restored(tmp_path: Path) -> Callable[..., tuple[Entry | None, Restoring, list[Problem]]]:
    """Return what reads a record from a file and restores its entry."""

    def read(
        record: Record, options: Options = OPTIONS, owner: int = 0, mode: int = 0o644
    ) -> tuple[Entry | None, Restoring, list[Problem]]:
        path = tmp_path / "f"
        path.write_bytes(b"")
        path.chmod(mode)
        put(path, user__netsync__metadata=pack(record))
        os.chown(path, owner, owner)
        problems: list[Problem] = []
        restoring = Restoring(options, problems.append)
        fd = os.open(tmp_path, os.O_RDONLY)
        try:
            entry = entry_at(fd, b"f")
            found = restoring.record(entry, (fd, b"f"), b"f")
        finally:
            os.close(fd)
        restored = None if found is None else restoring.restored(entry, found)
        return restored, restoring, problems

    return read


Read = Callable[..., tuple[Entry | None, Restoring, list[Problem]]]


def test_an_owner_is_known_by_name_and_else_keeps_number_and_name(restored: Read) -> None:
    named = Record(1, Kind.FILE, 0o600, UNUSED, None, b"daemon")
    entry, restoring, _ = restored(named)
    assert entry is not None
    assert (entry.uid, entry.gid, restoring.users) == (DAEMON.pw_uid, 0, {})
    entry, restoring, _ = restored(RECORD)
    assert entry is not None
    assert (entry.uid, entry.gid) == (UNUSED, UNUSED)
    assert restoring.users == {UNUSED: b"no-such-user"}
    assert restoring.groups == {UNUSED: b"no-such-group"}


def test_numbers_stay_numbers_where_they_are_asked_for(restored: Read) -> None:
    named = Record(1, Kind.FILE, 0o600, UNUSED, None, b"daemon")
    entry, _, _ = restored(named, Options(store_metadata=True, numeric_ids=True))
    assert entry is not None
    assert entry.uid == UNUSED


@pytest.mark.parametrize(
    ("stored_by", "owner", "mode", "believed"),
    [(b"", 0, 0o644, True), (b"", 0, 0o664, False), (b"", NOBODY, 0o644, False),
     (b"%d" % NOBODY, NOBODY, 0o644, True), (b"%d" % NOBODY, NOBODY, 0o646, False),
     (b"%d" % NOBODY, DAEMON.pw_uid, 0o644, False)],
)  # fmt: skip
def test_who_is_believed(
    restored: Read, stored_by: bytes, owner: int, mode: int, believed: bool
) -> None:
    options = Options(store_metadata=True, stored_by=stored_by)
    entry, _, problems = restored(RECORD, options, owner, mode)
    assert (entry is not None) is believed
    assert len(problems) == (not believed)


def test_who_is_to_be_believed_must_exist() -> None:
    with pytest.raises(UsageError):
        Restoring(Options(store_metadata=True, stored_by=b"no-such-user"), list[Problem]().append)


def test_whose_a_record_is_is_asked_of_the_inode_that_has_it(tmp_path: Path) -> None:
    """What was there when the directory was scanned does not count, nor where a link leads."""
    (tmp_path / "his").write_bytes(b"")
    put(tmp_path / "his", user__netsync__metadata=b"x")
    os.chown(tmp_path / "his", NOBODY, NOBODY)
    (tmp_path / "link").symlink_to("his")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = find_record(fd, b"his")
        assert found is not None
        assert (found.data, found.uid, found.mode) == (b"x", NOBODY, 0o644)
        assert find_record(fd, b"link") is None
        assert find_record(fd, b".") is None
    finally:
        os.close(fd)
