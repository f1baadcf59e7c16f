"""What the kernel is told, in the types that FUSE has for it."""

from __future__ import annotations

import os
from typing import Final

from pyfuse3 import EntryAttributes, RequestContext, StatvfsData

from netsync.mirror.naming import Caller

_KNOWN_SECONDS: Final = 86400.0
"""How long the kernel may believe what it was told: all changes go through it."""
_ROOM: Final = (
    "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail",
    "f_namemax",
)  # fmt: skip


def caller_of(context: RequestContext) -> Caller:
    """Return who sent a request."""
    return Caller(context.uid, context.gid, context.umask)


def attributes_of(number: int, status: os.stat_result) -> EntryAttributes:
    """Return what the kernel is told of an inode."""
    entry = EntryAttributes()
    entry.st_ino = number
    entry.entry_timeout = entry.attr_timeout = _KNOWN_SECONDS
    entry.st_mode = status.st_mode
    entry.st_nlink = status.st_nlink
    entry.st_uid = status.st_uid
    entry.st_gid = status.st_gid
    entry.st_rdev = status.st_rdev
    entry.st_size = status.st_size
    entry.st_blksize = status.st_blksize
    entry.st_blocks = status.st_blocks
    entry.st_atime_ns = status.st_atime_ns
    entry.st_mtime_ns = status.st_mtime_ns
    entry.st_ctime_ns = status.st_ctime_ns
    return entry


def nothing_there() -> EntryAttributes:
    """Return the answer that there is no such name, which the kernel may believe as long."""
    entry = EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = _KNOWN_SECONDS
    return entry


def room_of(there: os.statvfs_result) -> StatvfsData:
    """Return how much room there is."""
    answer = StatvfsData()
    for field in _ROOM:
        setattr(answer, field, getattr(there, field))
    return answer
