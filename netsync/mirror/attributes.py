"""Changes of metadata: size, owner, mode, times and extended attributes, and their notes.

Whatever part of a request was done is noted, even if a later part failed. What a change does
beside what was asked for, like the set-id bits that go with a change of owner, is read back and
noted as well.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from netsync.mirror.backing import Backing, failed
from netsync.mirror.naming import Caller
from netsync.mirror.nodes import Node
from netsync.mirror.noting import (
    PERMISSIONS,
    SET_ID,
    Notes,
    Where,
    mtime_of,
)
from netsync.operation import (
    Owner,
    RemoveXattr,
    SetXattr,
    Truncate,
)
from netsync.plan.xattrs import OWN_PREFIX

_FOR_ROOT: Final = b"trusted."


@dataclass(frozen=True)
class Wanted:
    """What to set; None is to stay. Times are in nanoseconds."""

    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    atime: int | None = None
    mtime: int | None = None


class Attributes:
    """Changes metadata in ``backing``. All methods raise ``OSError``."""

    def __init__(self, backing: Backing, notes: Notes) -> None:
        self._backing = backing
        self._notes = notes

    def set(
        self, node: Node, wanted: Wanted, caller: Caller, fd: int | None = None
    ) -> os.stat_result:
        """Set what is ``wanted`` and return the new status; ``fd`` is an open file of it."""
        if fd is not None:
            return self._set(node, fd, wanted, caller)
        if wanted.size is not None:
            fd = self._backing.open(node, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return self._set(node, fd, wanted, caller)
            finally:
                os.close(fd)
        with self._backing.gripped(node) as where:
            return self._set(node, where, wanted, caller)

    def _set(self, node: Node, where: Where, wanted: Wanted, caller: Caller) -> os.stat_result:
        if wanted.size is not None:
            assert isinstance(where, int)
            self.truncate(node, where, wanted.size, caller)
        if wanted.uid is not None or wanted.gid is not None:
            self._chown(node, where, wanted)
        if wanted.mode is not None:
            os.chmod(where, wanted.mode & PERMISSIONS)
            self._notes.note_mode(node, os.stat(where))
        if wanted.atime is not None or wanted.mtime is not None:
            self._set_times(node, where, wanted)
        return os.stat(where)

    def truncate(self, node: Node, fd: int, size: int, caller: Caller) -> None:
        """Give the open file ``fd`` another size."""
        os.ftruncate(fd, size)
        status = os.fstat(fd)
        self._notes.note(node, Truncate, size, mtime_of(status))
        if caller.uid != 0:
            self._notes.drop_set_id(node, fd, status)

    def _chown(self, node: Node, where: Where, wanted: Wanted) -> None:
        before = os.stat(where)
        uid = before.st_uid if wanted.uid is None else wanted.uid
        gid = before.st_gid if wanted.gid is None else wanted.gid
        os.chown(where, uid, gid)
        after = os.stat(where)
        self._notes.note(node, Owner, after.st_uid, after.st_gid)
        if (before.st_mode | after.st_mode) & SET_ID:
            self._notes.note_mode(node, after)  # a standby might drop them, or keep them

    def _set_times(self, node: Node, where: Where, wanted: Wanted) -> None:
        now = os.stat(where)
        atime = now.st_atime_ns if wanted.atime is None else wanted.atime
        mtime = now.st_mtime_ns if wanted.mtime is None else wanted.mtime
        os.utime(where, ns=(atime, mtime))
        self._notes.note_times(node, os.stat(where))

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Return the value of an extended attribute."""
        if name.startswith(OWN_PREFIX):
            raise failed(errno.ENODATA)
        with self._backing.gripped(node) as where:
            return os.getxattr(where, name)

    def list_xattrs(self, node: Node, caller: Caller) -> list[bytes]:
        """Return the names of those extended attributes that ``caller`` may see."""
        unseen = (OWN_PREFIX,) if caller.uid == 0 else (OWN_PREFIX, _FOR_ROOT)
        with self._backing.gripped(node) as where:
            names = map(os.fsencode, os.listxattr(where))
            return [name for name in names if not name.startswith(unseen)]

    def set_xattr(self, node: Node, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""
        if name.startswith(OWN_PREFIX):
            raise failed(errno.EPERM)
        with self._backing.gripped(node) as where:
            os.setxattr(where, name, value)
            self._notes.note(node, SetXattr, name, value)

    def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute."""
        if name.startswith(OWN_PREFIX):
            raise failed(errno.ENODATA)
        with self._backing.gripped(node) as where:
            os.removexattr(where, name)
            self._notes.note(node, RemoveXattr, name)

    def drop_set_gid(self, node: Node) -> None:
        """Take the set-group bit from a file whose ACL somebody outside its group has set."""
        with self._backing.gripped(node) as where:
            mode = os.stat(where).st_mode
            if mode & stat.S_ISGID:
                os.chmod(where, mode & PERMISSIONS & ~stat.S_ISGID)
                self._notes.note_mode(node, os.stat(where))
