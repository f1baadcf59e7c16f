"""What a watch has seen change and its standby has not on disk yet: its journal.

A path is written here before it is sent, and struck out after the standby's durable answer, unless
it has changed again meanwhile. So whoever starts again after any end knows what was outstanding,
and since when. What happened while nobody watched no journal can know: a watch that begins
compares the whole as well, which is also what makes up for the moments that a power cut takes from
here. Everything blocks and belongs into a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from netsync.state.database import kept_open, opened

if TYPE_CHECKING:
    import sqlite3

_TABLES: Final = 4
"""Version of the database from which on it has this table."""


class Outstanding(NamedTuple):
    """One path, with ``tree`` all below it, and since when (seconds since 1970)."""

    path: bytes
    tree: bool
    since: float


class ChangesJournal:
    """The journal of ``job`` in the state ``directory``. Methods raise ``StateError``."""

    def __init__(self, directory: Path, job: str) -> None:
        self._directory = directory
        self._job = job
        self._held: sqlite3.Connection | None = None

    def hold(self) -> None:
        """Be quick from now on, until ``close``."""
        if self._held is None:
            self._held = kept_open(self._directory)

    def close(self) -> None:
        """Hold nothing any more."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def read(self) -> list[Outstanding]:
        """Return all that is outstanding."""
        with opened(self._directory, write=False, since=_TABLES) as database:
            if database is None:
                return []
            found = database.execute(
                "SELECT path, tree, since FROM dirty WHERE job = ? ORDER BY since", (self._job,)
            )
            return [Outstanding(path, bool(tree), since) for path, tree, since in found]

    def write(self, kept: Iterable[Outstanding], struck: Sequence[bytes] = ()) -> None:
        """Note what is outstanding now, and strike out what is not any more."""
        with opened(self._directory, write=True, since=_TABLES) as database:
            assert database is not None
            database.execute("PRAGMA synchronous = NORMAL")  # see above
            database.executemany(
                "DELETE FROM dirty WHERE job = ? AND path = ?",
                ((self._job, path) for path in struck),
            )
            database.executemany(
                "INSERT OR REPLACE INTO dirty VALUES (?, ?, ?, ?)",
                ((self._job, *each) for each in kept),
            )

    def forget(self) -> None:
        """Forget all: it is about other trees than ours."""
        with opened(self._directory, write=True, since=_TABLES) as database:
            assert database is not None
            database.execute("DELETE FROM dirty WHERE job = ?", (self._job,))
