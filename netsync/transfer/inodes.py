"""Inodes with several names: who met which first, in a private table that spills to disk.

A tree of snapshots has millions of such names, far apart, so neither side can hold what it has
seen of them in memory. The tables are SQLite's temporary ones: in memory while they are small,
then in a file without a name. They are opened with the first inode that needs them, which most
transfers never meet.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from netsync.model import Entry, Kind
from netsync.tree.directories import ABSENT, Directories
from netsync.tree.native import DEVICE, Status, stat_entries

if TYPE_CHECKING:
    import sqlite3

_SIGN: int = 2**63


class Inode(NamedTuple):
    """What makes two names one file: two numbers of 64 bits, with a sign as SQLite has them."""

    device: int
    number: int


def inode_of(status: Status) -> Inode:
    """Return the inode that ``status`` was told of."""
    return Inode(_signed(status[DEVICE]), _signed(status[8]))


def inode_at(directories: Directories, path: bytes) -> Inode | None:
    """Return the inode that ``path`` is on, None if nothing is there. Raises ``OSError``."""
    parent, _, name = path.rpartition(b"/")
    try:
        (status,) = stat_entries(directories.fd(parent), [name])
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise
    if not isinstance(status, int):
        return inode_of(status)
    if status in ABSENT:
        return None
    raise OSError(status, os.strerror(status))


def names_of(status: Status) -> int:
    """Return how many names the inode has."""
    return status[6]


def _signed(number: int) -> int:
    return number if number < _SIGN else number - 2 * _SIGN


class _Table:
    """A private table, made when it is first used; used by one thread at a time."""

    schema: str

    def __init__(self) -> None:
        self._opened: sqlite3.Connection | None = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            import sqlite3  # noqa: PLC0415 - few trees need it

            # Workers take turns, so it is used from several threads and never from two at once.
            self._opened = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._opened.executescript(self.schema)
            self._opened.execute("BEGIN")  # never committed: a transaction each costs a write each
        return self._opened

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was ever asked of it."""
        return self._opened is None

    def close(self) -> None:
        """Drop everything."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class FirstNames(_Table):
    """At the source: the number under which an inode was listed first."""

    schema = """
        CREATE TABLE first (device INTEGER, inode INTEGER, number INTEGER, size INTEGER,
                            mtime_ns INTEGER, PRIMARY KEY (device, inode)) WITHOUT ROWID;
    """

    def number(self, inode: Inode, entry: Entry, number: int) -> int:
        """Return the first number of ``inode``, which is ``number`` if it was not listed yet.

        An inode that looks different from when it was listed is another file that got its place.
        """
        looks = (entry.size, entry.mtime_ns)
        found = self._connection.execute(
            "SELECT number, size, mtime_ns FROM first WHERE device = ? AND inode = ?", inode
        ).fetchone()
        if found is not None and found[1:] == looks:
            return int(found[0])
        self._connection.execute(
            "INSERT OR REPLACE INTO first VALUES (?, ?, ?, ?, ?)", (*inode, number, *looks)
        )
        return number


class StagedCarriers(_Table):
    """In a run that is published at once: where the new content of carriers is until then."""

    schema = "CREATE TABLE staged (path BLOB PRIMARY KEY, name BLOB) WITHOUT ROWID;"

    def put(self, path: bytes, name: bytes) -> None:
        """Note that what is to be ``path`` has this ``name`` in the stage."""
        self._connection.execute("INSERT OR REPLACE INTO staged VALUES (?, ?)", (path, name))

    def name(self, path: bytes) -> bytes | None:
        """Return the name in the stage of what is to be ``path``, if it was noted."""
        if self.is_empty:
            return None
        query = "SELECT name FROM staged WHERE path = ?"
        found = self._connection.execute(query, (path,)).fetchone()
        return None if found is None else bytes(found[0])


class Carrier(NamedTuple):
    """The name of a link group that the others are linked to.

    ``inode`` is what it stays on, None where it gets a new one.
    """

    path: bytes
    inode: Inode | None


class Groups(_Table):
    """At the target: the link groups of the source, and who stays on which inode."""

    schema = """
        CREATE TABLE groups (number INTEGER PRIMARY KEY, kind INTEGER, path BLOB,
                             device INTEGER, inode INTEGER);
        CREATE TABLE claims (device INTEGER, inode INTEGER, number INTEGER, names INTEGER,
                             PRIMARY KEY (device, inode)) WITHOUT ROWID;
    """

    def add(self, number: int, kind: Kind) -> None:
        """Note a new group by the number of its first name."""
        self._connection.execute("INSERT INTO groups (number, kind) VALUES (?, ?)", (number, kind))

    def has(self, number: int, kind: Kind) -> bool:
        """Tell whether this group was noted, of this kind."""
        query = "SELECT 1 FROM groups WHERE number = ? AND kind = ?"
        return self._connection.execute(query, (number, kind)).fetchone() is not None

    def carrier(self, number: int) -> Carrier | None:
        """Return the group's carrier, if there is one yet."""
        query = "SELECT path, device, inode FROM groups WHERE number = ?"
        found = self._connection.execute(query, (number,)).fetchone()
        if found is None or found[0] is None:
            return None
        path, device, inode = found
        return Carrier(path, None if inode is None else Inode(device, inode))

    def set_carrier(self, number: int, carrier: Carrier) -> None:
        """Make ``carrier`` the one the group's other names are linked to."""
        device, inode = carrier.inode or (None, None)
        self._connection.execute(
            "UPDATE groups SET path = ?, device = ?, inode = ? WHERE number = ?",
            (carrier.path, device, inode, number),
        )

    def move_carrier(self, number: int, path: bytes) -> None:
        """Note that ``path`` got an inode of its own, if it carries the group."""
        self._connection.execute(
            "UPDATE groups SET device = NULL, inode = NULL WHERE number = ? AND path = ?",
            (number, path),
        )

    def drop_carrier(self, number: int, path: bytes) -> None:
        """Leave the group without a carrier, if ``path`` is that."""
        self._connection.execute(
            "UPDATE groups SET path = NULL, device = NULL, inode = NULL "
            "WHERE number = ? AND path = ?",
            (number, path),
        )

    def claim(self, inode: Inode, group: int) -> bool:
        """Note that one more name of ``group`` stays on ``inode``; False if it is another's."""
        found = self._connection.execute(
            "INSERT INTO claims VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE "
            "SET names = names + (number = excluded.number) RETURNING number",
            (*inode, group),
        ).fetchone()
        return int(found[0]) == group

    def claimed(self, inode: Inode) -> int:
        """Return how many names stay on ``inode`` as its group wants it."""
        query = "SELECT names FROM claims WHERE device = ? AND inode = ?"
        found = self._connection.execute(query, inode).fetchone()
        return 0 if found is None else int(found[0])
