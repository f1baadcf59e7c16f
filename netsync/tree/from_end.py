"""A tree read from its end, by a second thread, while somebody comes from its beginning.

A target compares a tree in the order of a listing, and its thread reads and compares by turns.
Often the source has nothing to do meanwhile, and a processor rests. So another thread reads the
tree the other way round, and needs no lock of the interpreter's while it does. Where the two meet
all is read: who comes from the beginning finds the rest there. The thread ends then, or at a bound
of bytes, or when nobody wants it any more. Nobody waits for it, so it must not enter what may hang
by itself: where something is mounted in the tree there is no reading from the end.

What it reads is what there was a little sooner, as with all that ``packing`` takes along, and it
is forgotten as soon.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from netsync.tree.directories import OPEN_DIRECTORY, Directories
from netsync.tree.mounts import mounts_below
from netsync.tree.native import NAME, Coverage, Packed, TreeWalk
from netsync.tree.packing import FRESH_SECONDS, Found, Known, Packer

READ_MAX: Final = 8 * 1024 * 1024
"""Bytes that wait to be asked for, and one piece more: some 100,000 entries."""
_DIRECTORY_BYTES: Final = 768
"""What a packed directory takes beside its records, its path and netsync's own names in it."""
_PIECE: Final = 64 * 1024
"""Bytes read until it is looked whether the two have met: some 3 ms, in vain at worst."""
_BEGIN_BYTES: Final = 16 * 1024
"""Bytes of records packed before a tree is worth a second thread: some 200 entries."""
_TIMES_MAX: Final = 3
"""How often a tree is read from its end: anew only when more owners become known, which are few."""
THREAD_NAME: Final = "from-end"
_HELPS: Final = NAME == "compiled"
"""The plain twin holds the lock of the interpreter, which the other thread needs."""


class FromEnd:
    """Reads the tree at ``root``, a descriptor, until ``stop``. Raises ``OSError``."""

    def __init__(self, root: int, coverage: Coverage, owners: tuple[bytes, bytes]) -> None:
        self._fd = os.open(b".", OPEN_DIRECTORY, dir_fd=root)  # with a position of its own
        self._terms = coverage, *owners
        self._stop = bytearray(1)
        self._found: Known = {}
        self._asked: list[bytes] = []
        self._is_over = False

    def start(self) -> None:
        """Read in a thread, which ends by itself and lets go of the tree then."""
        try:
            threading.Thread(target=self.read, name=THREAD_NAME, daemon=True).start()
        except RuntimeError:  # there may be no more threads: the other reads it all
            os.close(self._fd)

    def stop(self) -> None:
        """Read no more, after the entry it is at."""
        self._stop[0] = 1

    def take(self, path: bytes) -> Found | None:
        """Return what was read of a directory, once.

        What is asked for later comes later, but for what had to wait.
        """
        if not self._is_over:  # else nobody looks
            self._asked = max(self._asked, _names(path))
        return self._found.pop(path, None)

    def read(self) -> None:
        """Read until the two meet, or a bound. Blocks."""
        try:
            if not mounts_below(self._fd):
                self._walk()
        except (OSError, MemoryError):
            pass  # the other reads it, in smaller pieces
        finally:
            self._is_over = True
            os.close(self._fd)

    def _walk(self) -> None:
        size = 0
        walk = TreeWalk(self._fd, *self._terms, backwards=True)
        while size < READ_MAX and (piece := walk.more(_PIECE, self._stop)):
            self._found.update(piece)
            size += sum([_size(path, found) for path, found in piece.items()])
            if self._is_passed(_names(next(reversed(piece)))):
                return

    def _is_passed(self, path: list[bytes]) -> bool:
        """Tell whether the other has passed a directory, and is not in it."""
        return path <= self._asked and path != self._asked[: len(path)]


def _size(path: bytes, found: tuple[Packed, list[bytes]]) -> int:
    """Return the bytes of what a directory was found to be."""
    packed, own = found
    return _DIRECTORY_BYTES + len(packed[0]) + len(path) + sum(map(len, own))


def _names(path: bytes) -> list[bytes]:
    return path.split(b"/") if path else []


class BothEnds:
    """Packs directories as ``Packer`` does, a tree of some size from both ends. One thread's."""

    def __init__(
        self,
        directories: Directories,
        coverage: Coverage,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directories = directories
        self._coverage = coverage
        self._packer = Packer(directories, coverage, {}, now)
        self._now = now
        self._owners = (b"", b"")
        self._packed = 0
        self._times_left = _TIMES_MAX if _HELPS else 0
        self._behind: FromEnd | None = None
        self._until = 0.0

    def close(self) -> None:
        """Read no more from the end, and forget what was read."""
        if self._behind is not None:
            self._behind.stop()
            self._behind = None

    def pack(self, path: bytes, owners: tuple[bytes, bytes]) -> Found:
        """Return what ``pack_directory`` says of a directory. Raises ``OSError``.

        ``owners`` are what users and groups become; when they change, all is read anew.
        """
        if owners != self._owners:
            self.close()
        elif self._behind is not None and self._now() > self._until:
            self.close()
            self._times_left = 0  # the tree is too large: it would be read in vain again
        self._owners = owners
        found = None if self._behind is None else self._behind.take(path)
        if found is None:
            found = self._packer.pack(path, owners)
            self._count(found)
        return found

    def _count(self, found: Found) -> None:
        """Begin at the end too once enough was packed."""
        self._packed += len(found[0][0]) if found[0] is not None else 0
        if self._behind is None and self._packed >= _BEGIN_BYTES and self._times_left:
            self._packed = 0
            self._times_left -= 1
            self._until = self._now() + FRESH_SECONDS
            with contextlib.suppress(OSError):  # no descriptor is left: it goes on without
                self._behind = FromEnd(self._directories.root, self._coverage, self._owners)
                self._behind.start()
