"""The digest of a file whose end travels before its beginning is read again.

A file that goes on where a cut left it is sent from there at once: to read its beginning first
would take longer, for a large file, than some connections last. Both ends need the digest of the
whole, so both read the beginning beside what travels, some times as fast as that, until they have
caught up.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from netsync.tree.read import read_fully
from netsync.wire.codec import Buffer

PACE: Final = 8
"""Bytes read again for each byte that travels: less than a disk can, more than a line does."""
STEP_BYTES: Final = 64 * 1024 * 1024
"""Bytes read again in one hop when nothing travels any more: some 20 ms."""
_READ_BYTES: Final = 1024 * 1024


class CatchingUp:
    """A hasher of the file ``fd``, which stays the caller's, from its first byte on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._hasher = blake3()
        self._hashed = 0

    def passed(self, data: Buffer, position: int) -> None:
        """Take ``data``, which stands in the file at ``position``, all before it being there."""
        if self._hashed == position:
            self._hasher.update(data)
            self._hashed += len(data)
        else:
            self._read(min(position + len(data), self._hashed + PACE * len(data)))

    def step(self, size: int) -> bool:
        """Read on, towards the file's end at ``size``; True when there."""
        self._read(min(size, self._hashed + STEP_BYTES))
        return self._hashed >= size

    def digest(self, size: int) -> bytes:
        """Return the digest of the first ``size`` bytes; what is missing counts as nothing."""
        self._read(size)
        return self._hasher.digest()

    def _read(self, end: int) -> None:
        while self._hashed < end:
            data = read_fully(self._fd, min(_READ_BYTES, end - self._hashed), self._hashed)
            if not data:
                return
            self._hasher.update(data)
            self._hashed += len(data)
