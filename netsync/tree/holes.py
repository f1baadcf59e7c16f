"""Holes in files on disk: found, made, and passed over when a file is copied or hashed.

The file system says where data is (``SEEK_DATA``, ``SEEK_HOLE``); one that cannot say has no holes
here. What was allocated and never written counts as a hole too: it reads as zeros, and nobody can
tell it from one without asking for more than that.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from typing import Final

from netsync.delta.holes import Extent, Holes
from netsync.tree.calls import fallocate
from netsync.tree.read import write_fully

HOLE_MIN: Final = 4096
"""Bytes below which a hole is not worth its words: a page of most file systems."""
HOLES_MAX: Final = 1024 * 1024
"""Holes of one file that are looked for, 16 bytes each; behind them all counts as data."""
NOWHERE: Final = 2**63 - 1
"""Behind the end of any file."""
_BLOCK: Final = 64 * 1024
"""Bytes of the largest block of a common file system."""
_ZERO_BYTES: Final = 1024 * 1024
_KEEP_SIZE_PUNCH_HOLE: Final = 0x01 | 0x02
"""Flags of fallocate(2)."""
_CANNOT_PUNCH: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def extents(fd: int, start: int, end: int) -> Iterator[Extent]:
    """Yield what an open file is made of between two places, up to its end.

    Raises ``OSError``.
    """
    end = min(end, os.fstat(fd).st_size)
    while start < end:
        data = min(end, next_data(fd, start))
        if start < data:
            yield Extent(start, data, is_hole=True)
        start = data
        if start < end:
            hole = min(end, max(start + 1, _next_hole(fd, start)))
            yield Extent(start, hole, is_hole=False)
            start = hole


def next_data(fd: int, at: int) -> int:
    """Return where, from ``at`` on, data begins; ``NOWHERE`` if there is none."""
    return _seek(fd, at, os.SEEK_DATA, unknown=at)


def _next_hole(fd: int, at: int) -> int:
    return _seek(fd, at, os.SEEK_HOLE, unknown=NOWHERE)


def _seek(fd: int, at: int, whence: int, *, unknown: int) -> int:
    try:
        return os.lseek(fd, at, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end, or cut meanwhile
            return NOWHERE
        if error.errno == errno.EINVAL:  # the file system cannot say
            return unknown
        raise


def find_holes(fd: int, size: int) -> Holes:
    """Return the holes in the first ``size`` bytes of an open file. Raises ``OSError``."""
    starts, ends = array("q"), array("q")
    for extent in extents(fd, 0, size):
        if not extent.is_hole or extent.end - extent.start < HOLE_MIN:
            continue
        starts.append(extent.start)
        ends.append(extent.end)
        if len(starts) == HOLES_MAX:
            break
    return Holes(starts, ends)


def data_size(fd: int, end: int) -> int:
    """Return how many of an open file's first ``end`` bytes are data. Raises ``OSError``."""
    return sum(each.end - each.start for each in extents(fd, 0, end) if not each.is_hole)


def make_hole(fd: int, start: int, end: int) -> None:
    """Make an open file read as zeros between two places; without room where that can be.

    Behind the file's end there is nothing to read, but there may be room that was taken in
    advance. Raises ``OSError``.
    """
    size = os.fstat(fd).st_size
    if end - start >= HOLE_MIN:
        if is_hole(fd, start, end) and start < size:
            return
        if end >= size:
            end = -(-end // _BLOCK) * _BLOCK  # so that the last block goes too
        if _punched(fd, start, end):
            return
    for at in range(start, min(end, size), _ZERO_BYTES):
        write_fully(fd, bytes(min(_ZERO_BYTES, min(end, size) - at)), at)


def _punched(fd: int, start: int, end: int) -> bool:
    """Take the room away between two places; False where that cannot be done."""
    try:
        fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, min(end, NOWHERE) - start)
    except OSError as error:
        if error.errno not in _CANNOT_PUNCH:
            raise
        return False
    return True


def is_hole(fd: int, start: int, end: int) -> bool:
    """Tell whether there is nothing but a hole between two places. Raises ``OSError``."""
    return all(each.is_hole for each in extents(fd, start, end))


def allocate(fd: int, start: int, length: int, *, keep_size: bool) -> None:
    """Take room for a range of an open file in advance, where the file system can.

    Without ``keep_size`` a shorter file grows to the range's end in any case. Raises ``OSError``.
    """
    end = start + length
    try:
        fallocate(fd, int(keep_size), start, length)
    except OSError as error:
        if error.errno not in _CANNOT_PUNCH:
            raise
        if not keep_size and os.fstat(fd).st_size < end:
            os.ftruncate(fd, end)
