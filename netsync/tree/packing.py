"""Packing directories in the order of a listing: several in one call, while they are asked for so.

Who walks a tree asks for a directory, then mostly for the first one in it. A call for each costs
a descriptor, a way through the cache of these and a turn of the interpreter's lock, as much as a
small directory itself. So a call takes along what is below, twice as much each time as long as all
of it is asked for. What is not asked for was read in vain; then the next call takes few again.

A walk may rest for hours, while the other side is busy. So what was taken along is soon too old.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from netsync.names import join
from netsync.tree.directories import Directories
from netsync.tree.native import Coverage, Packed, TreeWalk, pack_directory

ALONG_MAX: Final = 256 * 1024
"""Bytes of records taken along by one call: some 10 ms of work."""
FRESH_SECONDS: Final = 10.0
"""How long what was taken along, or was known, may stand for the directory."""
_ALONG_MIN: Final = 1024
_SLOW_SECONDS: Final = 0.1
"""A call that took longer takes few along the next time: that is no work of the processor's."""

Found = tuple[Packed | None, list[bytes]]
"""What ``pack_directory`` returns."""

Known = dict[bytes, tuple[Packed, list[bytes]]]
"""Packed directories, and netsync's own names in them, by their paths."""


class Packer:
    """Packs directories below ``directories`` on terms that stay. One thread's.

    ``known`` are some that were read before, by their paths.
    """

    def __init__(
        self,
        directories: Directories,
        coverage: Coverage,
        known: Known,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directories = directories
        self._coverage = coverage
        self._known = known
        self._now = now
        self._until = now() + FRESH_SECONDS
        self._owners = (b"", b"")
        self._along = 0
        self._go_on = bytearray(1)

    def pack(self, path: bytes, owners: tuple[bytes, bytes] = (b"", b"")) -> Found:
        """Return what ``pack_directory`` says of a directory. Raises ``OSError``.

        ``owners`` are what users and groups become; when they change, what is known is read anew.
        """
        if owners != self._owners or self._now() > self._until:
            self._owners = owners
            self._known.clear()
        found = self._known.pop(path, None)
        return found if found is not None else self._read(path)

    def _read(self, path: bytes) -> Found:
        fd = self._directories.fd(path)
        if self._known:
            found = pack_directory(fd, self._coverage, *self._owners)
            if found[0] is not None:  # else nobody could have read it along
                self._known.clear()
                self._along = 0
            return found
        begun = self._now()
        self._until = begun + FRESH_SECONDS
        self._along = min(max(2 * self._along, _ALONG_MIN), ALONG_MAX)
        along = TreeWalk(fd, self._coverage, *self._owners).more(self._along, self._go_on)
        if self._now() - begun > _SLOW_SECONDS:
            self._along = 0
        packed = along.pop(b"", None)
        if packed is None:
            return pack_directory(fd, self._coverage, *self._owners)
        self._known = {join(path, below): each for below, each in along.items()}
        return packed
