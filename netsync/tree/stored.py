"""Reading the records of ``plan/stored.py`` from entries."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NamedTuple

import msgspec

from netsync.model import DEVICES, Entry, Kind
from netsync.plan.stored import Record, fits, parse
from netsync.plan.xattrs import STORED_NAME
from netsync.tree.native import XATTR_NAMES, Status
from netsync.tree.xattrs import Where, of_name

_WITH_NUL: Final = STORED_NAME + b"\0"
_NONE: Final = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM)
"""Without a record, or of a kind that has no attributes for users."""


def may_have_record(told: bytes | None) -> bool:
    """Tell whether one is among the names of attributes that a scan found (None: not known)."""
    return told is None or b"\0" + _WITH_NUL in b"\0" + told


def _value(where: Where, *, follow: bool) -> bytes | None:
    try:
        return os.getxattr(where, STORED_NAME, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


class Found(NamedTuple):
    """A record, and the owner and mode of the very inode that it is on."""

    data: bytes
    uid: int
    mode: int


def find_record(directory: int, name: bytes) -> Found | None:
    """Return the record of ``name`` in ``directory``, None without one. Raises ``OSError``.

    Whose it is and what it says are asked of one inode: a name may lead to another at any time.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(fd)
        data = None
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            data = _value(b"/proc/self/fd/%d" % fd, follow=True)
    finally:
        os.close(fd)
    return None if data is None else Found(data, status.st_uid, stat.S_IMODE(status.st_mode))


def parsed(data: bytes, entry: Entry) -> Record:
    """Return the record of ``entry``. Raises ``OSError`` where it is damaged or not its own."""
    try:
        record = parse(data)
        if not fits(record, entry):
            raise ValueError("it is that of an entry of another kind")
    except ValueError as error:
        words = f"its stored metadata are damaged: {error}"
        raise OSError(errno.EBADMSG, words) from error
    return record


def looked_through(entry: Entry, directory: int, status: Status) -> Entry:
    """Return the device for which ``entry``, found in ``directory``, stands; else itself.

    A record that cannot be read stands for nothing: the entry differs, and gets another.
    """
    if entry.kind is not Kind.FILE or entry.size or not may_have_record(status[XATTR_NAMES]):
        return entry
    try:
        data = _value(of_name(directory, entry.name), follow=False)
        record = None if data is None else parsed(data, entry)
    except OSError:
        return entry
    if record is None or record.kind not in DEVICES:
        return entry
    return msgspec.structs.replace(entry, kind=record.kind, device=record.device)
