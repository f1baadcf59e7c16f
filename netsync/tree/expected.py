"""What was seen under a name when a change to it was planned, to tell it from what came since.

Whoever can write in a directory can give a name to something else between the comparison and the
change, or between a crash and the recovery. What is removed, set aside or given metadata is
therefore known by its kind and inode number. Device numbers are not part of it: they may be others
after a reboot, and a run that is published at once stays on one mount.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from msgspec import Struct

from netsync.tree.calls import statx

NOT_AS_SEEN: Final = "is not what it was when the run was prepared, and was left alone"
FILLED: Final = "something was put into it since the run was prepared: it was left alone"


class Expected(Struct, frozen=True, array_like=True):
    """The format bits, the inode number and the time of what was seen."""

    format: int
    inode: int
    mtime_ns: int

    def fits(self, status: os.stat_result) -> bool:
        """Tell whether ``status`` is of the same entry, whatever has changed in it."""
        return (stat.S_IFMT(status.st_mode), status.st_ino) == (self.format, self.inode)


def expected(status: os.stat_result) -> Expected:
    """Return what to expect where ``status`` was found."""
    return Expected(stat.S_IFMT(status.st_mode), status.st_ino, status.st_mtime_ns)


def what_pins(directory: int, name: bytes) -> str:
    """Say what keeps the entry ``name`` (empty: the directory itself) as it is; empty for nothing.

    That is a flag that even root respects, or a mount. A kernel that does not tell says nothing.
    """
    try:
        found = statx(directory, name)
    except OSError:
        return ""
    if found.pinned:
        return "is immutable or append-only (chattr)"
    if name and found.mount_root:
        return "is a mount point"
    return ""
