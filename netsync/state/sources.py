"""Where a destination was filled from: remembered by place and client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netsync.model import Origin
from netsync.state.database import opened


class RememberedSources:
    """The sources of one destination, as far as they are known in the state ``directory``.

    ``place`` is the destination's path on this host, ``client`` the certificate that pushes
    there (empty where this host runs the command).
    """

    def __init__(self, directory: Path, place: bytes, client: str = "") -> None:
        self.directory = directory
        self._key = (place, client)

    def known(self) -> list[Origin]:
        """Return what is remembered. Blocks; raises ``StateError``."""
        with opened(self.directory, write=False) as database:
            if database is None:
                return []
            rows = database.execute(
                "SELECT listed, inode, file_system, uuid FROM source"
                " WHERE place = ? AND client = ? ORDER BY listed, inode",
                self._key,
            )
            return [Origin(*row) for row in rows]

    def remember(self, origins: Sequence[Origin]) -> None:
        """Let ``origins`` take the place of what was known of their names, and of all mounts.

        Blocks; raises ``StateError``.
        """
        with opened(self.directory, write=True) as database:
            assert database is not None
            database.execute(
                "DELETE FROM source WHERE place = ? AND client = ? AND substr(listed, -1) = ?",
                (*self._key, b"/"),
            )
            for listed in {origin.listed for origin in origins}:
                database.execute(
                    "DELETE FROM source WHERE place = ? AND client = ? AND listed = ?",
                    (*self._key, listed),
                )
            database.executemany(
                "INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (*self._key, each.listed, each.inode, each.file_system, each.uuid)
                    for each in origins
                ],
            )
