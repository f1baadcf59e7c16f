"""The state directory and the SQLite database in it.

Opened only where something is asked of it, and closed at once: a session holds no database. It is
kept in write-ahead mode, so that readers and the one writer do not wait for each other; who still
finds it locked waits ``LOCK_SECONDS`` and then goes without. The schema's version is the file's
``user_version``; a newer one than ours is refused rather than guessed at. Everything here blocks
and belongs into a worker thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netsync.defaults import state_directory
from netsync.errors import StateError, reason

if TYPE_CHECKING:
    import sqlite3

FILE: Final = "state.sqlite3"
LOCK_SECONDS: Final = 2.0
"""How long a session may wait for another's write, which takes milliseconds."""
_SOURCES: Final = """
CREATE TABLE source (
    place BLOB NOT NULL,
    client TEXT NOT NULL,
    listed BLOB NOT NULL,
    inode INTEGER NOT NULL,
    file_system INTEGER NOT NULL,
    uuid BLOB NOT NULL,
    PRIMARY KEY (place, client, listed, inode, file_system, uuid)
) WITHOUT ROWID
"""
"""``source``: which directories a target's place was filled from, by client."""
_JOBS: Final = """
CREATE TABLE job (name TEXT PRIMARY KEY, standing TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE heartbeat (one INTEGER PRIMARY KEY CHECK (one = 1), beat REAL NOT NULL);
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    job TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
)
"""
"""``job``: what is known of each, as JSON that grows by fields; ``heartbeat``: when the daemon last
showed life; ``event``: what happened to jobs, in its order."""
_PENDING: Final = "CREATE TABLE pending (place BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID"
"""``pending``: places at which a run is committed, perhaps in part."""
_WATCHES: Final = """
CREATE TABLE dirty (
    job TEXT NOT NULL,
    path BLOB NOT NULL,
    tree INTEGER NOT NULL,
    since REAL NOT NULL,
    PRIMARY KEY (job, path)
) WITHOUT ROWID;
CREATE TABLE reception (
    place BLOB NOT NULL,
    client TEXT NOT NULL,
    facts TEXT NOT NULL,
    PRIMARY KEY (place, client)
) WITHOUT ROWID
"""
"""``dirty``: what a watch has seen change and its standby has not on disk; ``reception``: what is
known of those who watch a directory of theirs and send here."""
_STEPS: Final = (_SOURCES, _JOBS, _PENDING, _WATCHES)
"""What each version adds to the one before; files are brought up to date by whoever writes."""
VERSION: Final = len(_STEPS)


def default_directory() -> Path:
    """Return where the state is unless the user says otherwise."""
    return Path(state_directory())


@contextlib.contextmanager
def opened(directory: Path, *, write: bool, since: int = 1) -> Iterator[sqlite3.Connection | None]:
    """Hold the database in ``directory``; what is written is committed at the end of the block.

    Reading where there is none, or none with the tables of version ``since``, yields None and
    makes nothing. Raises ``StateError``.
    """
    import sqlite3  # noqa: PLC0415 - 10 ms that most runs need not wait for

    try:
        if write:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not (directory / FILE).exists():
            yield None
            return
        with contextlib.closing(_connected(directory / FILE, write=write)) as database, database:
            yield database if _version_of(database, write=write) >= since else None
    except OSError as error:
        raise StateError(reason(error), op="use state in", where=str(directory)) from error
    except sqlite3.Error as error:
        raise StateError(str(error), op="use state in", where=str(directory)) from error


def kept_open(directory: Path) -> sqlite3.Connection:
    """Return a connection that somebody holds who writes often; it asks nothing.

    Whoever closes the last connection waits until all is written out of the log and flushed, tens
    of milliseconds on a busy disk; while this one is there, nobody is the last.
    Raises ``StateError``.
    """
    import sqlite3  # noqa: PLC0415 - as above

    with opened(directory, write=True):
        pass  # it is there, and as it should be
    file = (directory / FILE).absolute().as_uri()
    try:
        held = sqlite3.connect(f"{file}?mode=ro", uri=True, check_same_thread=False)
        held.execute("SELECT count(*) FROM source").fetchone()
    except sqlite3.Error as error:
        raise StateError(str(error), op="use state in", where=str(directory)) from error
    return held


def _connected(file: Path, *, write: bool) -> sqlite3.Connection:
    import sqlite3  # noqa: PLC0415 - as above

    mode = "rwc" if write else "ro"
    uri = f"{file.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, timeout=LOCK_SECONDS, uri=True)


def _version_of(database: sqlite3.Connection, *, write: bool) -> int:
    """Return the version of the tables in the file, which a writer brings up to ours."""
    import sqlite3  # noqa: PLC0415 - as above

    version = _version(database)
    if version > VERSION:
        raise sqlite3.DatabaseError("a newer netsync has written it")
    if version == VERSION or not write:
        return version
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    for step in _STEPS[_version(database) :]:  # who else found it old may have been faster
        for statement in step.split(";"):
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.commit()
    return VERSION


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
