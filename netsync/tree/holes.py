"""Holes in files on disk: found, made, and passed over when a file is copied or hashed.

The file system says where data is (``SEEK_DATA``, ``SEEK_HOLE``); one that cannot say has no holes
here. What was allocated and never written counts as a hole too: it reads as zeros, and nobody can
tell it from one without asking for more than that.
"""

from __future__ import annotations

import ctypes
import errno
import os
from array import array
from collections.abc import Iterator
from typing import Final

from netsync.delta.holes import Extent, Holes
from netsync.tree.read import write_fully

HOLE_MIN: Final = 4096
"""Bytes below which a hole is not worth its words: a page of most file systems."""
HOLES_MAX: Final = 1024 * 1024
"""Holes of one file that are looked for, 16 bytes each; behind them all counts as data."""
_NOWHERE: Final = 2**63 - 1
"""Behind the end of any file."""
_SECTOR: Final = 512
"""Bytes in a unit of ``st_blocks``."""
_ZERO_BYTES: Final = 1024 * 1024
_KEEP_SIZE_PUNCH_HOLE: Final = 0x01 | 0x02
"""Flags of fallocate(2)."""
_CANNOT_PUNCH: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

_libc: Final = ctypes.CDLL(None, use_errno=True)


def may_have_holes(status: os.stat_result) -> bool:
    """Tell whether a file takes less room than it is long."""
    return status.st_blocks * _SECTOR < status.st_size


def extents(fd: int, start: int, end: int) -> Iterator[Extent]:
    """Yield what an open file is made of between two places, up to its end.

    Raises ``OSError``.
    """
    status = os.fstat(fd)
    end = min(end, status.st_size)
    if not may_have_holes(status):
        if start < end:
            yield Extent(start, end, is_hole=False)
        return
    while start < end:
        data = min(end, _seek(fd, start, os.SEEK_DATA))
        if start < data:
            yield Extent(start, data, is_hole=True)
        start = data
        if start < end:
            hole = min(end, max(start + 1, _seek(fd, start, os.SEEK_HOLE)))
            yield Extent(start, hole, is_hole=False)
            start = hole


def _seek(fd: int, start: int, whence: int) -> int:
    """Return where the next data or hole begins; data without end where nobody can say."""
    try:
        return os.lseek(fd, start, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end, or cut meanwhile
            return _NOWHERE
        if error.errno == errno.EINVAL:
            return start if whence == os.SEEK_DATA else _NOWHERE
        raise


def find_holes(fd: int, size: int) -> Holes:
    """Return the holes in the first ``size`` bytes of an open file. Raises ``OSError``."""
    if not may_have_holes(os.fstat(fd)):
        return Holes()
    starts, ends = array("q"), array("q")
    for extent in extents(fd, 0, size):
        if not extent.is_hole or extent.end - extent.start < HOLE_MIN:
            continue
        starts.append(extent.start)
        ends.append(extent.end)
        if len(starts) == HOLES_MAX:
            break
    return Holes(starts, ends)


def has_holes(fd: int) -> bool:
    """Tell whether an open file has a hole that counts. Raises ``OSError``."""
    found = extents(fd, 0, os.fstat(fd).st_size)
    return any(each.is_hole and each.end - each.start >= HOLE_MIN for each in found)


def data_size(fd: int, end: int) -> int:
    """Return how many of an open file's first ``end`` bytes are data. Raises ``OSError``."""
    return sum(each.end - each.start for each in extents(fd, 0, end) if not each.is_hole)


def make_hole(fd: int, start: int, end: int) -> None:
    """Make an open file read as zeros between two places; without room where that can be.

    Nothing is done beyond the file's end. Raises ``OSError``.
    """
    end = min(end, os.fstat(fd).st_size)
    if is_hole(fd, start, end):
        return
    length = ctypes.c_int64(end - start)
    if not _libc.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(start), length):
        return
    number = ctypes.get_errno()
    if number not in _CANNOT_PUNCH:
        raise OSError(number, os.strerror(number))
    for at in range(start, end, _ZERO_BYTES):
        write_fully(fd, bytes(min(_ZERO_BYTES, end - at)), at)


def is_hole(fd: int, start: int, end: int) -> bool:
    """Tell whether there is nothing but a hole between two places. Raises ``OSError``."""
    return all(each.is_hole for each in extents(fd, start, end))
