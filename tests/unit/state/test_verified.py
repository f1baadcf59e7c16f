"""The memory of what files held: what it says of a file, by stamp and digest."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from netsync.errors import StateError
from netsync.model import History
from netsync.state.verified import (
    FILE,
    KEPT_DAYS,
    REST_SECONDS,
    VerifiedFiles,
    file_of,
    stamp_of,
)

DAY = 86400.0
NOW = 20_000 * DAY
GOOD, BAD = b"g" * 32, b"b" * 32
PATH = b"/srv/web/a"


def status(
    ino: int = 1, size: int = 5, mtime: float = NOW - 999, ctime: float = NOW - 999
) -> os.stat_result:
    """Return a status with these facts."""
    times = (int(mtime), int(mtime), int(ctime))
    precise = (float(mtime), float(mtime), float(ctime))
    nanoseconds = tuple(int(each) * 10**9 for each in times)
    return os.stat_result((0o100644, ino, 1, 1, 0, 0, size, *times, *precise, *nanoseconds))


class Memory:
    """A memory on a clock of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = NOW

    def judge(
        self, digest: bytes, path: bytes = PATH, *, seen: os.stat_result | None = None
    ) -> History:
        """Ask once, as one verification does."""
        files = VerifiedFiles(self.directory, lambda: self.now)
        found = files.judge(path, seen or status(), digest)
        files.close()
        return found.history

    def rotten(self) -> dict[int, int]:
        files = VerifiedFiles(self.directory, lambda: self.now)
        found = dict(files.rotten())
        files.close()
        return found


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "state")


def test_a_file_is_unknown_then_intact(memory: Memory) -> None:
    assert memory.judge(GOOD) is History.UNKNOWN
    assert memory.judge(GOOD) is History.INTACT
    assert memory.rotten() == {}


@pytest.mark.parametrize("fact", ["ino", "size", "mtime", "ctime"])
def test_what_was_written_is_an_edit_whatever_it_holds(memory: Memory, fact: str) -> None:
    memory.judge(GOOD)
    changed = {
        "ino": status(ino=2), "size": status(size=6),
        "mtime": status(mtime=NOW - 500), "ctime": status(ctime=NOW - 500),
    }[fact]  # fmt: skip
    assert memory.judge(BAD, seen=changed) is History.WRITTEN
    assert memory.judge(BAD, seen=changed) is History.INTACT  # from now on this is what it holds


def test_rot_is_told_until_the_file_is_written(memory: Memory) -> None:
    """The first content counts, however often the other is read; then the first is back."""
    memory.judge(GOOD)
    for _ in range(3):
        assert memory.judge(BAD) is History.ROTTED
    assert memory.rotten() == {file_of(PATH): stamp_of(status())}
    assert memory.judge(b"") is History.ROTTED  # without reading it
    assert memory.judge(GOOD) is History.INTACT  # the disk gives it back again
    assert memory.rotten() == {}
    assert memory.judge(BAD) is History.ROTTED
    assert memory.judge(BAD, seen=status(ctime=NOW - 300)) is History.WRITTEN
    assert memory.rotten() == {}


def test_a_file_that_has_not_rested_is_not_remembered(memory: Memory) -> None:
    """A page that is mapped may be written again without a new time."""
    fresh = NOW - REST_SECONDS + 1
    assert memory.judge(GOOD, seen=status(ctime=fresh)) is History.UNKNOWN
    assert memory.judge(BAD, seen=status(ctime=fresh)) is History.UNKNOWN
    memory.now += 2
    assert memory.judge(BAD, seen=status(ctime=fresh)) is History.UNKNOWN
    assert memory.judge(BAD, seen=status(ctime=fresh)) is History.INTACT
    assert memory.judge(GOOD, seen=status(ctime=memory.now)) is History.WRITTEN


def test_what_is_not_seen_for_long_is_forgotten(memory: Memory) -> None:
    memory.judge(GOOD)
    memory.now += KEPT_DAYS * DAY
    memory.judge(GOOD, b"/srv/web/other")
    assert memory.judge(GOOD) is History.INTACT  # the last day
    memory.now += (KEPT_DAYS + 1) * DAY
    memory.judge(GOOD, b"/srv/web/other")
    assert memory.judge(GOOD) is History.UNKNOWN


def test_many_files_take_little_room(memory: Memory) -> None:
    """What a million files would take follows from twenty thousand."""
    files = VerifiedFiles(memory.directory, lambda: NOW)
    for number in range(20_000):
        files.judge(b"/srv/%d" % number, status(ino=number), number.to_bytes(32, "little"))
    files.close()
    taken = (memory.directory / FILE).stat().st_size / 20_000
    assert taken < 80
    assert (
        memory.judge((19_999).to_bytes(32, "little"), b"/srv/19999", seen=status(ino=19_999))
        is History.INTACT
    )


def test_two_verifications_at_once_write_both(memory: Memory) -> None:
    one, two = (VerifiedFiles(memory.directory, lambda: NOW) for _ in range(2))
    one.judge(b"/one", status(), b"1" * 32)
    two.judge(b"/two", status(), b"2" * 32)
    one.close()
    two.close()
    assert memory.judge(b"1" * 32, b"/one") is History.INTACT
    assert memory.judge(b"2" * 32, b"/two") is History.INTACT


def test_reading_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    files = VerifiedFiles(tmp_path / "state")
    assert not files.exists
    files.close()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("broken", ["garbage", "newer", "blocked"])
def test_a_memory_that_cannot_be_used_is_one_error(tmp_path: Path, broken: str) -> None:
    state = tmp_path / "state"
    if broken == "blocked":
        state.write_text("no directory")
    else:
        state.mkdir()
    if broken == "garbage":
        (state / FILE).write_bytes(b"this is no database" * 100)
    elif broken == "newer":
        with sqlite3.connect(state / FILE) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    files = VerifiedFiles(state)
    with pytest.raises(StateError, match=str(state)):
        files.judge(PATH, status(), GOOD)
    with pytest.raises(StateError):
        files.rotten()
    files.close()
