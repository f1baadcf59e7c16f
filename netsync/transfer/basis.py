"""What the target already has of a wanted file, as one row of bytes to sign and to copy from.

With a partial of a run that was cut and an old version, the partial stands for its own length
and the old file for what lies behind it: a file that was half sent and has changed little needs
only the changes in its second half. A shift between old and new costs at most its own length
where the two meet. Nothing here is trusted: the digest of the result decides.
"""

from __future__ import annotations

import os

from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.partials import ALIGNMENT
from netsync.tree.read import open_regular, read_fully


class Basis:
    """The bytes of a partial up to ``seam``, and of the old file behind it. Close it."""

    def __init__(self, partial: int, seam: int, old: int) -> None:
        self.seam = seam
        self._partial = partial
        self._old = old
        self.size = max(seam, os.fstat(old).st_size if old >= 0 else 0)

    @property
    def block_size(self) -> int:
        """Bytes of a block that fit a basis which is nothing but a partial, else 0.

        It is either the beginning of the new file or of little use: large blocks are compared
        faster, and how fast decides how often a connection may be cut.
        """
        return ALIGNMENT if self.seam == self.size else 0

    def read(self, count: int, offset: int) -> bytes:
        """Return ``count`` bytes at ``offset``, fewer where the file has shrunk meanwhile."""
        if offset >= self.seam:
            return read_fully(self._old, count, offset) if self._old >= 0 else b""
        front = read_fully(self._partial, min(count, self.seam - offset), offset)
        if len(front) == count or offset + len(front) < self.seam or self._old < 0:
            return front
        return front + read_fully(self._old, count - len(front), self.seam)

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in (self._partial, self._old):
            if fd >= 0:
                os.close(fd)
        self._partial = self._old = -1


def open_basis(directories: Directories, wanted: Wanted) -> Basis:
    """Open what there is for ``wanted``. Raises ``OSError`` if there is nothing."""
    old = -1
    if wanted.present is not None:
        old = open_regular(directories.fd(wanted.directory), wanted.name)
    if wanted.partial is None:
        if old < 0:
            raise FileNotFoundError("there is no basis")
        return Basis(-1, 0, old)
    try:
        return Basis(wanted.partial.open(), wanted.partial.size, old)
    except OSError:
        if old >= 0:
            os.close(old)
        raise
