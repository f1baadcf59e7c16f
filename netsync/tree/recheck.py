"""A last look before the commit: whether what a journal is about is still what was seen.

A run that is published at once may be prepared for hours. What has changed under it meanwhile, or
cannot be changed at all, is here still a problem that keeps everything from being published; a
moment later it would be one in the midst of it. What comes between all the same is left alone by
the roll forward.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from netsync.names import join
from netsync.tree.directories import ABSENT, Directories
from netsync.tree.expected import Expected, what_pins
from netsync.tree.journal import (
    Enter,
    Header,
    Journal,
    Link,
    MakeDirectory,
    Place,
    Record,
    Restate,
    SetAside,
    Settle,
)

CHANGED: Final = "was changed by somebody else while the run was prepared"
_NAME_BYTES: Final = 64
"""What a directory needs for a name beside its bytes, twice: a block may split in two halves."""


class Recheck:
    """Looks at what a journal is about, below ``root``, which stays the caller's."""

    def __init__(self, root: int, header: Header) -> None:
        self._directories = Directories(root)
        self._backup_dir = header.backup_dir
        self._pinned: tuple[bytes, str] | None = None
        self._backup_above: bytes | None = None

    def close(self) -> None:
        """Let go of descriptors."""
        self._directories.close()

    def problems(self, records: Iterable[Record]) -> Iterator[tuple[bytes, OSError]]:
        """Yield each path that cannot be published as it was planned, and why."""
        for record in records:
            try:
                self._check(record)
            except OSError as error:
                yield record.path or b".", error

    def _check(self, record: Record) -> None:
        match record:
            case SetAside():
                self._check_seen(record.path, record.expected, may_be_gone=True)
                if record.kept is not None:
                    self._check_backup(record.path)
            case MakeDirectory() | Place() | Link():
                found = self._status(record.path)
                made = isinstance(record, MakeDirectory) and not record.replaces
                if found is not None and made and not stat.S_ISDIR(found.st_mode):
                    raise OSError(CHANGED)
            case Restate():
                self._check_seen(record.path, record.expected)
            case Settle():
                if record.expected is not None:
                    self._check_seen(record.path, record.expected, may_have_more=True)
            case Enter():
                pass

    def _check_seen(
        self, path: bytes, seen: Expected, *, may_be_gone: bool = False, may_have_more: bool = False
    ) -> None:
        found = self._status(path)
        if found is None:
            if may_be_gone:
                return
            raise OSError(CHANGED)
        filled = stat.S_ISDIR(found.st_mode) and found.st_mtime_ns != seen.mtime_ns
        if not seen.fits(found) or (filled and not may_have_more):
            raise OSError(CHANGED)

    def _status(self, path: bytes) -> os.stat_result | None:
        """Return what is at ``path``; raises ``OSError`` where something pins it there."""
        if not path:
            return os.fstat(self._directories.root)
        parent, _, name = path.rpartition(b"/")
        try:
            above = self._directories.fd(parent)
            if self._pinned is None or self._pinned[0] != parent:
                self._pinned = parent, what_pins(above, b"")
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            found = None
        else:
            pinned = what_pins(above, name)
            if pinned:
                raise OSError(pinned)
        if self._pinned is not None and self._pinned[0] == parent and self._pinned[1]:
            raise OSError(f"its directory {self._pinned[1]}")
        return found

    def _check_backup(self, path: bytes) -> None:
        """Raise ``OSError`` where the backup of ``path`` cannot be put into its directory."""
        above = join(self._backup_dir, path).rpartition(b"/")[0]
        if above == self._backup_above:
            return
        nearest = above
        while True:
            try:
                fd = self._directories.fd(nearest)
                break
            except FileNotFoundError:
                nearest = nearest.rpartition(b"/")[0]
        if not os.access(b".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
            raise OSError("its backup cannot be written: permission denied")
        self._backup_above = above


def check_room(root: int, journal: Journal) -> None:
    """Raise ``OSError`` where there is no room for what the roll forward makes.

    That is the journal, the new directories, and names in directories that are there.
    """
    room = os.fstatvfs(root)
    size, made = journal.size, 0
    for record in journal:
        if isinstance(record, MakeDirectory | Place | Link):
            size += 2 * len(record.path.rpartition(b"/")[2]) + _NAME_BYTES
            made += isinstance(record, MakeDirectory)
    size += made * room.f_bsize
    blocks = room.f_bavail if os.geteuid() else room.f_bfree
    nodes = room.f_favail if os.geteuid() else room.f_ffree
    if size > blocks * room.f_frsize or (room.f_files and made > nodes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
