"""Since when the files at some paths have been files: whether a new name is that of an old one.

A name that has just come may be one more of an inode that is older (link(2), a move from outside of
what is watched), and nothing that the kernel tells of names says so. The inode's birth does. File
systems that keep none say nothing; what is asked of them counts as older than anything.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable
from typing import Final

from netsync.tree.calls import statx
from netsync.tree.directories import ABSENT, Directories

LOOKED_AT_MAX: Final = 10_000
"""Files looked at in one directory; of one with more, some may be older than anything."""
_UNKNOWN: Final = -math.inf
_NO_FILE: Final = math.inf


def births(root: int, paths: Iterable[bytes]) -> dict[bytes, float | None]:
    """Return the birth (seconds since 1970) of the file at each path below the directory ``root``.

    Of a directory it is that of the oldest file in it; infinite where there is none, infinitely
    long ago where it cannot be known, None where nothing is. Blocks.
    """
    found: dict[bytes, float | None] = {}
    with Directories(root) as directories:
        for path in paths:
            try:
                found[path] = _oldest(directories, path) if path else _UNKNOWN
            except OSError as error:
                found[path] = None if error.errno in ABSENT else _UNKNOWN
    return found


def _oldest(directories: Directories, path: bytes) -> float:
    """Return the birth of the oldest file at ``path`` and below. Raises ``OSError``."""
    oldest, left, stack = _NO_FILE, LOOKED_AT_MAX, [path]
    while stack:
        path = stack.pop()
        above, _, name = path.rpartition(b"/")
        fd = directories.fd(above)
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            oldest = min(oldest, _birth(fd, name))
        elif stat.S_ISDIR(mode):
            names = map(os.fsencode, os.listdir(directories.fd(path)))
            stack += [path + b"/" + each for each in names]
        left -= 1
        if len(stack) > left:
            return _UNKNOWN
    return oldest


def _birth(directory: int, name: bytes) -> float:
    try:
        birth = statx(directory, name).birth
    except OSError:
        return _UNKNOWN
    return _UNKNOWN if birth is None else birth
