"""What a standby knows of those who watch a directory of theirs and send it here.

One row for each place and client; the one session that receives from the client writes it, anybody
may read. Everything blocks and belongs into a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from netsync.errors import StateError
from netsync.plan.reception import Reception
from netsync.state.database import opened

_TABLES: Final = 4
"""Version of the database from which on it has this table."""


class Receptions:
    """The receptions noted in the state ``directory``. Methods raise ``StateError``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[Reception]:
        """Return all of which anything was heard."""
        with opened(self._directory, write=False, since=_TABLES) as database:
            if database is None:
                return []
            rows = database.execute("SELECT facts FROM reception ORDER BY place, client").fetchall()
            found = [self._decoded(row[0]) for row in rows]
            return [each for each in found if each.heard is not None]

    def of(self, place: bytes, client: str) -> Reception | None:
        """Return what is known of one client's tree at one place."""
        with opened(self._directory, write=False, since=_TABLES) as database:
            if database is None:
                return None
            row = database.execute(
                "SELECT facts FROM reception WHERE place = ? AND client = ?", (place, client)
            ).fetchone()
            return None if row is None else self._decoded(row[0])

    def count(self, client: str) -> int:
        """Return at how many places anything is known of a client."""
        with opened(self._directory, write=False, since=_TABLES) as database:
            if database is None:
                return 0
            row = database.execute("SELECT count(*) FROM reception WHERE client = ?", (client,))
            return int(row.fetchone()[0])

    def save(self, place: bytes, client: str, reception: Reception) -> None:
        """Keep what is known."""
        with opened(self._directory, write=True, since=_TABLES) as database:
            assert database is not None
            database.execute("PRAGMA synchronous = NORMAL")  # what is lost is told again
            facts = msgspec.json.encode(reception).decode()
            database.execute(
                "INSERT OR REPLACE INTO reception VALUES (?, ?, ?)", (place, client, facts)
            )

    def keep_only(self, is_expected: Callable[[bytes, str], bool]) -> None:
        """Forget clients that may not send to their place any more."""
        with opened(self._directory, write=False, since=_TABLES) as database:
            if database is None:
                return
            rows = database.execute("SELECT place, client FROM reception").fetchall()
        gone = [(place, client) for place, client in rows if not is_expected(place, client)]
        if gone:
            with opened(self._directory, write=True, since=_TABLES) as database:
                assert database is not None
                database.executemany("DELETE FROM reception WHERE place = ? AND client = ?", gone)

    def _decoded(self, text: str) -> Reception:
        try:
            return msgspec.json.decode(text, type=Reception)
        except msgspec.DecodeError as error:
            where = str(self._directory)
            raise StateError(str(error), op="read receptions in", where=where) from error
