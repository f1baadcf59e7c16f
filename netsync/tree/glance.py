"""A first look at paths that changed, before they are sent: what is there, and how large it is."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable
from itertools import groupby
from typing import Final, NamedTuple

from netsync.names import join
from netsync.tree.directories import Directories
from netsync.tree.native import stat_entries

GLANCED_MAX: Final = 65_536
"""Paths worth looking at for a figure."""


class Glance(NamedTuple):
    """What was seen: paths that are not there, bytes of regular files, and whether any of these
    has another name, which nobody may have told of.
    """

    gone: frozenset[bytes]
    size: int
    shared: bool


def glance(root: int, paths: Iterable[bytes]) -> Glance:
    """Look at ``paths`` below the directory ``root``; what cannot be looked at is not gone."""
    gone: set[bytes] = set()
    size = 0
    shared = False
    named = sorted(path.rpartition(b"/")[::2] for path in paths if path)
    with Directories(root) as directories:
        for directory, group in groupby(named, key=lambda pair: pair[0]):
            names = [name for _, name in group]
            try:
                statuses = stat_entries(directories.fd(directory), names)
            except (FileNotFoundError, NotADirectoryError):
                gone.update(join(directory, name) for name in names)
                continue
            except OSError:
                continue
            for name, status in zip(names, statuses, strict=True):
                if not isinstance(status, int):
                    if stat.S_ISREG(status[0]):
                        size += status[3]
                        shared = shared or status[6] > 1
                elif status == errno.ENOENT:
                    gone.add(join(directory, name))
    return Glance(frozenset(gone), size, shared)
