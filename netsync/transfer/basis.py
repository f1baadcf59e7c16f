"""What the target already has of a wanted file, as one row of bytes to sign and to copy from.

With a partial of a run that was cut and an old version, the partial stands for its own length
and the old file for what lies behind it: a file that was half sent and has changed little needs
only the changes in its second half. A shift between old and new costs at most its own length
where the two meet. Nothing here is trusted: the digest of the result decides.
"""

from __future__ import annotations

import os
from typing import Final

from netsync.delta.holes import Holes
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.holes import find_holes
from netsync.tree.partials import ALIGNMENT
from netsync.tree.read import fill, open_regular
from netsync.tree.reflink import reflink

_BLOCKS_UNIT: Final = 512
"""Bytes that ``st_blocks`` counts in, whatever the file system's blocks are."""


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

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill ``view`` from ``offset`` on; return how much there was to fill it with."""
        got = 0
        if offset < self.seam:
            got = fill(self._partial, view[: self.seam - offset], offset)
            if offset + got < self.seam:
                return got
        return got + (fill(self._old, view[got:], offset + got) if self._old >= 0 else 0)

    def find_holes(self) -> Holes:
        """Return the holes of an old file that stands alone. Raises ``OSError``.

        One that takes all its room is not looked through, page by page in a tmpfs: a hole that is
        not known of is only signed as what it reads as.
        """
        if self._old < 0 or self.seam:
            return Holes()
        if os.fstat(self._old).st_blocks * _BLOCKS_UNIT >= self.size:
            return Holes()
        return find_holes(self._old, self.size)

    def clone_to(self, target: int) -> bool:
        """Make ``target`` share all bytes of the old file, if it is all there is and can be."""
        return not self.seam and self._old >= 0 and reflink(self._old, target)

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
