"""The digest of a file whose end travels before its beginning is read again.

A file that goes on where a cut left it is sent from there at once: to read its beginning first
would take longer, for a large file, than some connections last. Both ends need the digest of the
whole, so both read the beginning beside what travels, some times as fast as that, until they have
caught up.
"""

from __future__ import annotations

from typing import Final

from netsync.delta.digest import CHUNK
from netsync.tree.content import Hashed

PACE: Final = 8
"""Bytes read again for each byte that travels: less than a disk can, more than a line does."""
STEP_BYTES: Final = 64 * 1024 * 1024
"""Bytes read again in one hop when nothing travels any more: some 20 ms."""


class CatchingUp:
    """The digest of the file ``fd``, which stays the caller's, read from its first byte on."""

    def __init__(self, fd: int) -> None:
        self._hashed = Hashed(fd)

    def passed(self, length: int, end: int) -> None:
        """Read on for ``length`` bytes that have travelled; the file is there up to ``end``."""
        self._read(end // CHUNK * CHUNK, PACE * length)

    def step(self, size: int) -> bool:
        """Read on, towards the file's end at ``size``; True when there is no more."""
        return self._read(size, STEP_BYTES)

    def digest(self, size: int) -> bytes:
        """Return the digest of the first ``size`` bytes; what is missing counts as nothing."""
        self._read(size, size)
        return self._hashed.digest()

    def _read(self, end: int, most: int) -> bool:
        """Read on up to ``end``, but not much more than ``most`` bytes; True at the end."""
        read = 0
        for _, data in self._hashed.read_to(end):
            read += len(data)
            if read >= most:
                return self._hashed.position >= end
        return True
