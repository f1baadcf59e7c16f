"""Places at which a run that is published at once has committed, and may not have got to its end.

The journal itself is at the place; here is only where to look when a server starts. Noted before
the commit and forgotten after the last change; what cannot be noted is found by the next run there.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Final

from netsync.errors import StateError
from netsync.state.database import opened

_TABLE: Final = 3
"""The version of the state since which places are noted."""

log = logging.getLogger("netsync")


class PendingPlace:
    """One destination, by its path on this host. Blocks; raises nothing."""

    def __init__(self, directory: Path, place: bytes) -> None:
        self._directory = directory
        self._place = place

    def note(self) -> None:
        """Remember it."""
        self._execute("INSERT OR IGNORE INTO pending VALUES (?)")

    def forget(self) -> None:
        """Forget it."""
        self._execute("DELETE FROM pending WHERE place = ?")

    def _execute(self, statement: str) -> None:
        try:
            with opened(self._directory, write=True) as database:
                assert database is not None
                database.execute(statement, (self._place,))
        except StateError as error:
            log.debug("%s", error)


def pending_places(directory: Path) -> list[bytes]:
    """Return the places that were noted and not forgotten. Raises ``StateError``."""
    with opened(directory, write=False, since=_TABLE) as database:
        if database is None:
            return []
        with contextlib.closing(database.execute("SELECT place FROM pending")) as rows:
            return [bytes(row[0]) for row in rows]
