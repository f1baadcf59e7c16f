"""Where a file is created whose directory is not there yet.

What a run publishes at once is written before its directories are made. A new file takes its
group and its ACL from the directory it is created in, and a new directory hands on those of the
one above: so a file is created in the nearest directory that there is, without a name.
"""

from __future__ import annotations

import os
from typing import Final

from netsync.tree.directories import ABSENT, Directories
from netsync.tree.native import stage_file
from netsync.tree.stage import NO_UNNAMED_FILES

_KNOWN_MAX: Final = 1024
"""Paths remembered."""


class Standing(Directories):
    """Directories below ``root``, each stood for by the nearest one that there is.

    ``aside`` is a directory that stands for all where files cannot be without a name, and for
    one of ours that we may not write in yet. It stays the caller's.
    """

    def __init__(self, root: int, aside: int) -> None:
        super().__init__(root)
        self._aside = aside
        self._known: dict[bytes, bytes | None] = {}
        try:
            os.close(stage_file(aside, b"", -1, -1, -1, None))
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES:
                raise
            self._unnamed = False
        else:
            self._unnamed = True

    def fd(self, path: bytes) -> int:
        """Return a directory to create a file in that will be in the directory ``path``."""
        if not self._unnamed:
            return self._aside
        if path not in self._known:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[path] = self._nearest(path)
        nearest = self._known[path]
        return self._aside if nearest is None else super().fd(nearest)

    def _nearest(self, path: bytes) -> bytes | None:
        while True:
            try:
                fd = super().fd(path)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                path = path.rpartition(b"/")[0]
            else:
                closed = not os.access(b".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True)
                ours = os.fstat(fd).st_uid == os.geteuid() != 0
                return None if closed and ours else path
