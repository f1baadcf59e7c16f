"""What the files of this host were seen to hold: the memory that tells rot from edits.

A file's *stamp* is made of its inode, size, modification time and change time. Nobody can set the
change time, so whoever writes to a file gives it another stamp; a content that changed under the
same stamp was changed by nobody: it rotted. The first content that is seen under a stamp is kept
until the stamp is another, whatever is read later, so rot is told again and again until the file
is written. A file is remembered only once it has rested: a mapped page that was written lately may
be written again without a new time, and clocks tick too slowly for writes in a row.

A database of its own beside the state: some fifty bytes a file, held open for one verification.
It is only a memory. Lost, it is made again by the next verification, and rot is not told from edits
until then. Everything here blocks and belongs into a worker thread, one at a time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from xxhash import xxh3_64_intdigest

from netsync.errors import StateError, reason
from netsync.model import History

if TYPE_CHECKING:
    import sqlite3

FILE: Final = "verified.sqlite3"
REST_SECONDS: Final = 120.0
"""How long ago a file must have changed last. The kernel writes mapped pages back after 35
seconds (dirty_expire, dirty_writeback), and then notices the next write to them."""
KEPT_DAYS: Final = 200
"""How long a file is remembered that is not seen. A tree must be read once in that time."""
_AGAIN_DAYS: Final = 10
"""How old a word of having seen a file may grow: not every reading is a write."""
_TOGETHER: Final = 4096
"""Files remembered in one transaction."""
_LOCK_SECONDS: Final = 5.0
"""How long to wait for another verification's transaction, which takes milliseconds."""
_DIGEST_BYTES: Final = 16
"""Kept of a digest: two contents agree by accident once in 2^128."""
_DAY: Final = 86400
_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE seen (
    file INTEGER PRIMARY KEY,
    stamp INTEGER NOT NULL,
    digest BLOB NOT NULL,
    day INTEGER NOT NULL,
    rotted INTEGER
);
CREATE INDEX rotted ON seen (file) WHERE rotted IS NOT NULL;
CREATE TABLE tidied (one INTEGER PRIMARY KEY CHECK (one = 1), day INTEGER NOT NULL)
"""
"""``seen``: files by a hash of their path, ``day`` (since 1970) on which they were last as they
should be, ``rotted`` (seconds since 1970) when rot was found; ``tidied``: when old ones went."""


class Judgement(NamedTuple):
    """What is known of a file, and the day on which it was last seen well (since 1970)."""

    history: History
    day: int = 0


class _Row(NamedTuple):
    stamp: int
    digest: bytes
    day: int
    rotted: int | None


def file_of(path: bytes) -> int:
    """Return the number that a file is remembered by, of its path on this host."""
    return xxh3_64_intdigest(path) - 2**63


def stamp_of(status: os.stat_result) -> int:
    """Return what becomes another number whenever somebody writes to a file."""
    facts = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return xxh3_64_intdigest(b"".join(each.to_bytes(9, signed=True) for each in facts)) - 2**63


class VerifiedFiles:
    """The memory in the state ``directory``; ``now`` is the wall clock. Close it when done."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now
        self._database: sqlite3.Connection | None = None
        self._new: dict[int, _Row] = {}

    @property
    def exists(self) -> bool:
        """Tell whether anything is remembered at all."""
        return (self._directory / FILE).exists()

    def judge(self, path: bytes, status: os.stat_result, digest: bytes) -> Judgement:
        """Say what became of the file at ``path``, and remember what was seen of it.

        ``status`` was the same before and after it was read. An empty ``digest`` means that it was
        not read. Raises ``StateError``.
        """
        file, stamp, now = file_of(path), stamp_of(status), self._now()
        digest, today = digest[:_DIGEST_BYTES], int(now) // _DAY
        row = self._row(file)
        if row is None or row.stamp != stamp:
            if digest and now - status.st_ctime_ns / 1e9 >= REST_SECONDS:
                self._keep(file, _Row(stamp, digest, today, None))
            return Judgement(History.UNKNOWN if row is None else History.WRITTEN)
        if not digest:
            return Judgement(History.INTACT if row.rotted is None else History.ROTTED, row.day)
        if row.digest != digest:
            if row.rotted is None:
                self._keep(file, row._replace(rotted=int(now)))
            return Judgement(History.ROTTED, row.day)
        if row.rotted is not None or today - row.day >= _AGAIN_DAYS:
            self._keep(file, row._replace(day=today, rotted=None))
        return Judgement(History.INTACT, row.day)

    def rotten(self) -> Mapping[int, int]:
        """Return the stamps of all files that rotted, by their numbers. Raises ``StateError``.

        One that has another stamp by now was written since, and is another file.
        """
        with self._named():
            rows = self._opened().execute("SELECT file, stamp FROM seen WHERE rotted IS NOT NULL")
            return dict(rows.fetchall())

    def close(self) -> None:
        """Write what is not written yet, and let go. Raises ``StateError``."""
        if self._database is None:
            return
        with self._named():
            try:
                self._write()
                self._tidy()
            finally:
                self._database.close()
                self._database = None

    def _row(self, file: int) -> _Row | None:
        if file in self._new:
            return self._new[file]
        with self._named():
            row = self._opened().execute(
                "SELECT stamp, digest, day, rotted FROM seen WHERE file = ?", (file,)
            )
            found = row.fetchone()
            return None if found is None else _Row(*found)

    def _keep(self, file: int, row: _Row) -> None:
        self._new[file] = row
        if len(self._new) >= _TOGETHER:
            with self._named():
                self._write()

    def _write(self) -> None:
        if not self._new:
            return
        rows = [(file, *row) for file, row in self._new.items()]
        with self._opened() as database:
            database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)", rows)
        self._new.clear()

    def _tidy(self) -> None:
        """Once a day forget what has not been seen for long."""
        today = int(self._now()) // _DAY
        with self._opened() as database:
            last = database.execute("SELECT day FROM tidied").fetchone()
            if last is not None and last[0] == today:
                return
            database.execute("DELETE FROM seen WHERE day < ?", (today - KEPT_DAYS,))
            database.execute("INSERT OR REPLACE INTO tidied VALUES (1, ?)", (today,))

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            import sqlite3  # noqa: PLC0415 - 10 ms that most runs need not wait for

            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._directory / FILE
            database = sqlite3.connect(file, timeout=_LOCK_SECONDS, check_same_thread=False)
            try:
                _prepare(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what goes wrong into a ``StateError``."""
        import sqlite3  # noqa: PLC0415 - as above

        try:
            yield
        except OSError as error:
            where = str(self._directory)
            raise StateError(reason(error), op="use state in", where=where) from error
        except sqlite3.Error as error:
            where = str(self._directory / FILE)
            hint = "it is only a memory: without it the next verification makes it anew"
            raise StateError(str(error), op="use", where=where, hint=hint) from error


def _prepare(database: sqlite3.Connection) -> None:
    """Make the tables, if they are not there. A lost transaction is learnt again."""
    import sqlite3  # noqa: PLC0415 - as above

    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > _VERSION:
        raise sqlite3.DatabaseError("a newer netsync has written it")
    database.execute("PRAGMA synchronous = NORMAL")
    if version == _VERSION:
        return
    database.execute("PRAGMA journal_mode = WAL")
    with database:
        database.execute("BEGIN IMMEDIATE")
        if not int(database.execute("PRAGMA user_version").fetchone()[0]):
            for statement in _TABLES.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
