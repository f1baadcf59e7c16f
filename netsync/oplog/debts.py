"""Reading what a standby is owed from the backing directory, as operations.

A file is read as it is now: what is written to it meanwhile follows as operations of its own, and
may be done twice. Its name may change meanwhile too, so it is opened by the name it has now and
known by its inode, and told by the name that it had when the debts were closed. Blocks.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import NamedTuple

from netsync.delta.holes import Extent
from netsync.operation import DATA_MAX, Operation, PunchHole, Truncate, Write
from netsync.oplog.owed import OwedFile
from netsync.tree.directories import ABSENT, Directories
from netsync.tree.holes import extents
from netsync.tree.read import open_regular, read_fully


class Debt(NamedTuple):
    """One file: its inode (or 0), the name that is told, and what is owed of it."""

    inode: int
    told: bytes
    owed: OwedFile


def open_debt(root: int, path: bytes, inode: int) -> int | None:
    """Open the file of a debt under its present name; None if that is another's by now."""
    directory, _, name = path.rpartition(b"/")
    with Directories(root) as directories:
        try:
            fd = open_regular(directories.fd(directory), name)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
    if inode and os.fstat(fd).st_ino != inode:
        os.close(fd)
        return None
    return fd


def read_debt(fd: int, debt: Debt) -> Generator[Operation]:
    """Yield operations that make up for ``debt``; ``fd`` stays the caller's."""
    status = os.fstat(fd)
    size, mtime = status.st_size, status.st_mtime_ns
    if debt.owed.cut is not None and debt.owed.cut < size:
        yield Truncate(debt.told, debt.owed.cut, mtime)
        debt.owed.ranges.add(debt.owed.cut, size)
    yield Truncate(debt.told, size, mtime)
    for start, end in debt.owed.ranges:
        for extent in extents(fd, start, min(end, size)):
            yield from _read(fd, debt.told, extent, mtime)


def _read(fd: int, told: bytes, extent: Extent, mtime: int) -> Iterator[Operation]:
    if extent.is_hole:
        yield PunchHole(told, extent.start, extent.end - extent.start, mtime)
        return
    for at in range(extent.start, extent.end, DATA_MAX):
        data = read_fully(fd, min(DATA_MAX, extent.end - at), at)
        if data:  # else it has been cut meanwhile, which is told later
            yield Write(told, at, data, mtime)
