"""Files that are being written in place and have a backup: so that a cut does not cost the backup.

A file that was cut off while it was written in place is half old and half new, and the next run
would back up that, in place of the good old one. So before the first byte is written a mark is
left in the stage: which file it is (device and inode), and where its backup lies. It is removed
when the file is complete, or emptied where that fails: on a complete file it would keep the next
version out of the backup. While the mark fits, the backup it names is left alone.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

import msgspec
from msgspec import Struct

from netsync.names import is_inside, join
from netsync.tree.directories import Directories
from netsync.tree.large_files import Stage
from netsync.tree.partials import OPEN_PARTIAL, is_ours, key_of
from netsync.tree.read import read_fully
from netsync.tree.stage_directory import MARK_PREFIX, StageRefusedError, remove_mark

_MARK_MAX: Final = 128 * 1024
"""Bytes: a path is at most half as long."""


class _Mark(Struct, frozen=True, array_like=True):
    device: int
    inode: int
    backup: bytes


class HalfWritten:
    """The marks of files below ``root``, in its ``stage``; both stay the caller's.

    Where the stage cannot be used there are none.
    """

    def __init__(self, root: int, stage: Stage) -> None:
        self._stage = stage
        self._directories = Directories(root)
        self._noted: set[bytes] = set()

    def close(self) -> None:
        """Let go of descriptors."""
        self._directories.close()

    def has_backup(self, directory: int, path: bytes) -> bool:
        """Tell whether the file ``path``, in ``directory``, is half written and has a backup."""
        place = self._stage.mark_of(path)
        if path in self._noted or place is None:
            return path in self._noted
        try:
            fd = os.open(_name(path), OPEN_PARTIAL, dir_fd=place)
            try:
                if not is_ours(os.fstat(fd)):
                    return False
                mark = msgspec.msgpack.decode(read_fully(fd, _MARK_MAX, 0), type=_Mark)
            finally:
                os.close(fd)
            found = os.stat(path.rpartition(b"/")[2], dir_fd=directory, follow_symlinks=False)
            if (found.st_dev, found.st_ino) != (mark.device, mark.inode):
                return False
            parent, _, name = join(mark.backup, path).rpartition(b"/")
            if not is_inside(mark.backup):
                return False
            os.stat(name, dir_fd=self._directories.fd(parent), follow_symlinks=False)
        except (OSError, msgspec.DecodeError):
            return False
        self._noted.add(path)
        return True

    def note(self, directory: int, path: bytes, backup: bytes) -> None:
        """Note that ``path`` is being written, and that its backup is in ``backup``.

        Durably, since what is written may reach the disk before anything else. Raises ``OSError``,
        and then nothing is noted.
        """
        if path in self._noted:
            return
        found = os.stat(path.rpartition(b"/")[2], dir_fd=directory, follow_symlinks=False)
        self.forget(path)
        with contextlib.suppress(StageRefusedError):
            place = self._stage.own_session().fd
            fd = os.open(_name(path), OPEN_PARTIAL | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=place)
            try:
                os.write(fd, msgspec.msgpack.encode(_Mark(found.st_dev, found.st_ino, backup)))
                os.fsync(fd)
                os.fsync(place)
            except OSError:
                with contextlib.suppress(OSError):
                    remove_mark(place, _name(path))
                raise
            finally:
                os.close(fd)
            self._stage.marked(path)
            self._noted.add(path)

    def forget(self, path: bytes) -> None:
        """Remove the mark of a file that is complete. Raises ``OSError``."""
        self._noted.discard(path)
        place = self._stage.mark_of(path)
        if place is not None:
            remove_mark(place, _name(path))


def _name(path: bytes) -> bytes:
    return MARK_PREFIX + key_of(path)
