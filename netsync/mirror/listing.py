"""Reading a directory of the mount.

The names are taken at once, when the directory is opened or read again from its beginning, so that
a position in them means the same until then, whatever is created or removed meanwhile. The worker
thread that takes them looks at each, so that the disk has been waited for when the kernel asks.
"""

from __future__ import annotations

import os

import trio

from netsync.mirror.files import OpenFile
from netsync.names import is_reserved

SELF_AND_PARENT = (b".", b"..")


class Listing:
    """One open directory. ``names`` are what is in it, ``.`` and ``..`` first."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.names: list[bytes] = []

    async def read(self) -> None:
        """Take the names that are there now. Raises ``OSError``."""
        found = await trio.to_thread.run_sync(_scan, self.file.fd)
        self.names = [*SELF_AND_PARENT, *found]


def _scan(fd: int) -> list[bytes]:
    with os.scandir(fd) as entries:
        names = []
        for entry in entries:
            name = os.fsencode(entry.name)
            if not is_reserved(name):
                _warm(entry)
                names.append(name)
    return names


def _warm(entry: os.DirEntry[str]) -> None:
    """Have the kernel read the inode, which it will be asked for."""
    try:
        entry.stat(follow_symlinks=False)
    except OSError:
        return  # it has gone, or whoever asks for it will be told
