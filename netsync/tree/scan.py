"""Reading directories: names first, sorted as bytes, then metadata in chunks.

The same code reads the source to list it and the target to compare with it, so both sides see
entries alike. A directory's names are held at once; their metadata is not, so that a directory
of a million files costs names only.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from netsync.model import DEVICES, KIND_OF_FORMAT, Entry, Kind
from netsync.names import is_reserved

_PERMISSIONS: Final = 0o7777


def names_in(fd: int) -> tuple[list[bytes], list[bytes]]:
    """Return the sorted names in directory ``fd``, and apart from them netsync's own."""
    names: list[bytes] = []
    reserved: list[bytes] = []
    for name in map(os.fsencode, os.listdir(fd)):
        (reserved if is_reserved(name) else names).append(name)
    names.sort()
    return names, reserved


def entry_at(fd: int, name: bytes) -> Entry:
    """Return the entry ``name`` in directory ``fd``, following no link. Raises ``OSError``."""
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return entry_from(status, name, fd)


def entry_from(status: os.stat_result, name: bytes, fd: int) -> Entry:
    """Return the entry that ``status`` describes; a link's text is read from ``fd``."""
    kind = KIND_OF_FORMAT[stat.S_IFMT(status.st_mode)]
    mode = status.st_mode & _PERMISSIONS
    if kind is Kind.FILE:
        return Entry(
            name, kind, mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns
        )
    target = os.readlink(name, dir_fd=fd) if kind is Kind.SYMLINK else b""
    device = status.st_rdev if kind in DEVICES else 0
    return Entry(
        name, kind, mode, status.st_uid, status.st_gid, 0, status.st_mtime_ns, target, device
    )


def root_entry(fd: int) -> Entry:
    """Return the entry of the directory ``fd`` itself, without a name."""
    return entry_from(os.fstat(fd), b"", fd)
