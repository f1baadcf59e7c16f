"""What is noted in the log of changes to the backing directory.

Each change is noted right behind the system call that made it, without an await between, so the
order of the log is the order of the disk. A call that failed is not noted. What has no name any
more changes too, but nobody could find it after a crash, so the log does not say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from netsync.mirror.backing import Backing, failed
from netsync.mirror.nodes import Node
from netsync.model import wire_time
from netsync.names import join
from netsync.operation import Mode, Operation, SetXattr, Times
from netsync.oplog.log import Log
from netsync.plan import acl

Where = int | bytes
"""How a system call reaches what it changes: an open descriptor, or a path to one."""

PERMISSIONS: Final = 0o7777
SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class Notes:
    """Appends to ``log`` what is done to ``backing``.

    ``stale`` is told the number of an inode that changed in a way that nobody asked for.
    """

    def __init__(self, backing: Backing, log: Log, stale: Callable[[int], None]) -> None:
        self._stale = stale
        self.log = log
        self._nodes = backing.nodes

    def path_in(self, parent: Node, name: bytes) -> bytes:
        """Return what ``name`` in ``parent`` is called in the log. Raises ``OSError``."""
        path = self._nodes.path(parent)
        if path is None:
            raise failed(errno.ENOENT)  # the directory was removed
        return join(path, name)

    def note(self, node: Node, kind: Callable[..., Operation], *fields: object) -> None:
        """Append that ``kind`` was done to ``node``, if that has a name; ``fields`` follow it."""
        node.changed += 1
        path = self._nodes.path(node)
        if path is not None:
            self.log.append(kind(path, *fields), node.number)

    def lost(self, operation: Operation, parent: Node, gone: os.stat_result | None) -> None:
        """Append what was done to names in ``parent``; ``gone`` has one name less by it."""
        parent.changed += 1
        if gone is None:
            self.log.append(operation)
        else:
            left = 0 if stat.S_ISDIR(gone.st_mode) else gone.st_nlink - 1
            self.log.append(operation, gone.st_ino, left)

    def note_mode(self, node: Node, status: os.stat_result) -> None:
        """Append what the permission bits of ``node`` are now."""
        self.note(node, Mode, status.st_mode & PERMISSIONS)

    def note_times(self, node: Node, status: os.stat_result) -> None:
        """Append what the times of ``node`` are now."""
        self.note(node, Times, wire_time(status.st_atime_ns), mtime_of(status))

    def note_inherited(self, node: Node, where: Where) -> None:
        """Append the ACLs that a new entry got from its directory.

        A standby's directory hands down the same, if it could be given that ACL.
        """
        for name in (acl.DEFAULT, acl.ACCESS):
            if (value := attribute(where, name)) is not None:
                self.note(node, SetXattr, name, value)

    def drop_set_id(self, node: Node, where: Where, status: os.stat_result) -> None:
        """Take away the set-id bits of a file that was written, where ``status`` has some."""
        bits = set_id_bits(status)
        if bits:
            os.chmod(where, status.st_mode & PERMISSIONS & ~bits)
            self.note_mode(node, os.stat(where))
            self._stale(node.number)


def set_id_bits(status: os.stat_result) -> int:
    """Return the bits that a write by somebody without privileges takes away.

    As Linux does: the group's bit only where the group may execute.
    """
    bits = status.st_mode & stat.S_ISUID
    if status.st_mode & stat.S_IXGRP:
        bits |= status.st_mode & stat.S_ISGID
    return bits


def mtime_of(status: os.stat_result) -> int:
    """Return a modification time as the log carries it."""
    return wire_time(status.st_mtime_ns)


def attribute(where: Where, name: bytes) -> bytes | None:
    """Return the value of one extended attribute, or None. Raises ``OSError``."""
    try:
        return os.getxattr(where, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
