"""The file calls of one small file in plain Python: the meaning of each, and what always runs.

``netsync.tree._native`` does the same with one release of the GIL a call; one contract suite
holds both to the words here. Each function takes a held directory's descriptor and single names
in it, follows no link, refuses a name with a NUL with ``ValueError``, and raises ``OSError``
with the system's errno.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from netsync.tree.read import OPEN_FILE

if TYPE_CHECKING:
    from netsync.tree.native import Buffer, Status

NAME: Final = "pure"

_UNNAMED: Final = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_PRIVATE: Final = 0o600
_XATTR_NAMES: Final = 256
"""Bytes of attribute names taken along for one entry; who has more is asked by itself."""


def read_file(directory: int, name: bytes, room: memoryview) -> tuple[int, int, int, int]:
    """Read the file ``name`` into ``room`` until that is full or the file ends.

    Return the bytes read and, as they are after that, its size, its modification time in
    nanoseconds and its ``st_mode``. From anything but a regular file nothing is read: a FIFO
    or device put in a file's place must neither hang the session nor lose its data.
    """
    room = room.cast("B")
    fd = os.open(name, OPEN_FILE, dir_fd=directory)
    try:
        count = 0
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            while count < len(room) and (got := os.readv(fd, [room[count:]])):
                count += got
            status = os.fstat(fd)
    finally:
        os.close(fd)
    return count, status.st_size, status.st_mtime_ns, status.st_mode


def stage_file(
    directory: int, data: Buffer, mode: int, uid: int, gid: int, mtime_ns: int | None
) -> int:
    """Return a descriptor of a new unnamed file that holds ``data`` and has this metadata.

    -1 leaves the mode, owner or group that a new file gets there, None its time. Owner comes
    before mode, which a change of owner would cut, and the time last. Whatever fails, nothing
    stays. ``EOPNOTSUPP``, ``EISDIR``, ``EINVAL`` or ``ENOENT`` may mean that the file system
    has no unnamed files.
    """
    fd = os.open(b".", _UNNAMED, _PRIVATE, dir_fd=directory)
    try:
        _write_all(fd, data)
        if uid != -1 or gid != -1:
            status = os.fstat(fd)
            uid = -1 if uid == status.st_uid else uid
            gid = -1 if gid == status.st_gid else gid
            if uid != -1 or gid != -1:
                os.fchown(fd, uid, gid)
        if mode != -1:
            os.fchmod(fd, mode)
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_all(fd: int, data: Buffer) -> None:
    whole = memoryview(data).cast("B")
    position = 0
    while position < len(whole):
        written = os.pwrite(fd, whole[position:], position)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        position += written


def link_staged(fd: int, directory: int, name: bytes) -> None:
    """Give the unnamed file ``fd`` the name ``name``. Raises ``FileExistsError`` if it is taken."""
    os.link(b"/proc/self/fd/%d" % fd, name, dst_dir_fd=directory, follow_symlinks=True)


def list_names(directory: int) -> list[bytes]:
    """Return the names in a directory, in no order, and leave its position at its start."""
    return [os.fsencode(name) for name in os.listdir(directory)]


def stat_entries(
    directory: int, names: Sequence[bytes], attributes: bool = False
) -> list[Status | int]:
    """Return for each name its ``Status``, or the errno that stands against it.

    With ``attributes`` also the names of its extended attributes are asked for.
    """
    return [_status_or_errno(directory, name, attributes) for name in names]


def _status_or_errno(directory: int, name: bytes, attributes: bool) -> Status | int:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        return error.errno or errno.EIO
    return (
        found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns,
        found.st_rdev, found.st_nlink, found.st_dev, found.st_ino, found.st_blocks,
        _attribute_names(directory, name) if attributes else b"",
    )  # fmt: skip


def _attribute_names(directory: int, name: bytes) -> bytes | None:
    """Return an entry's attribute names, or None if they are too many or cannot be told here."""
    try:
        names = os.listxattr(b"/proc/self/fd/%d/%s" % (directory, name), follow_symlinks=False)
    except OSError as error:
        return b"" if error.errno == errno.EOPNOTSUPP else None
    listed = b"".join(os.fsencode(each) + b"\0" for each in names)
    return listed if len(listed) <= _XATTR_NAMES else None
