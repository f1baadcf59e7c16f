"""Reading directories: names first, sorted as bytes, then metadata in chunks.

The same code reads the source to list it and the target to compare with it, so both sides see
entries alike. A directory's names are held at once; their metadata is not, so that a directory
of a million files costs names only.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left
from typing import Final

from netsync.model import DEVICES, KIND_OF_FORMAT, Entry, Kind, wire_time
from netsync.names import RESERVED_PREFIX, is_reserved
from netsync.tree.native import Status, list_names, stat_entries

_PERMISSIONS: Final = 0o7777
_FORMAT: Final = 0o170000


def names_in(fd: int) -> tuple[list[bytes], list[bytes]]:
    """Return the sorted names in directory ``fd``, and apart from them netsync's own."""
    names = sorted(list_names(fd))
    first = bisect_left(names, RESERVED_PREFIX)
    last = first
    while last < len(names) and names[last].startswith(RESERVED_PREFIX):
        last += 1
    reserved = [name for name in names[first:last] if is_reserved(name)]
    if reserved:
        names[first:last] = [name for name in names[first:last] if not is_reserved(name)]
    return names, reserved


def is_empty(fd: int) -> bool:
    """Tell whether nothing but netsync's own is in directory ``fd``. Raises ``OSError``."""
    with os.scandir(fd) as entries:
        return all(is_reserved(os.fsencode(each.name)) for each in entries)


def entry_at(fd: int, name: bytes) -> Entry:
    """Return the entry ``name`` in directory ``fd``, following no link. Raises ``OSError``."""
    return entry_from(stat_entries(fd, [name])[0], name, fd)


def entry_from(status: Status | int, name: bytes, fd: int) -> Entry:
    """Return the entry that ``status`` describes; a link's text is read from ``fd``.

    Raises ``OSError`` where ``status`` is the number of one.
    """
    if isinstance(status, int):
        raise OSError(status, os.strerror(status), name)
    bits, uid, gid, size, time_ns, device = status[:6]
    mode, mtime_ns = bits & _PERMISSIONS, wire_time(time_ns)
    if bits & _FORMAT == stat.S_IFREG:
        return Entry(name, Kind.FILE, mode, uid, gid, size, mtime_ns)
    kind = KIND_OF_FORMAT.get(bits & _FORMAT)
    if kind is None:
        raise OSError(errno.EINVAL, "is of no kind known to us", name)
    target = os.readlink(name, dir_fd=fd) if kind is Kind.SYMLINK else b""
    return Entry(name, kind, mode, uid, gid, 0, mtime_ns, target, device if kind in DEVICES else 0)


def root_entry(fd: int) -> Entry:
    """Return the entry of the directory ``fd`` itself, without a name."""
    found = os.fstat(fd)
    mode, mtime_ns = found.st_mode & _PERMISSIONS, wire_time(found.st_mtime_ns)
    return Entry(b"", Kind.DIRECTORY, mode, found.st_uid, found.st_gid, 0, mtime_ns)
