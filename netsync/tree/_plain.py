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

from netsync.tree._plain_looking import (
    list_names,
    pack_directory,
    plain_entries,
    stat_entries,
)
from netsync.tree._plain_walking import TreeWalk
from netsync.tree.read import OPEN_FILE

if TYPE_CHECKING:
    from netsync.tree.native import Buffer, Staging

__all__ = [
    "NAME", "TreeWalk", "link_files", "link_staged", "list_names", "pack_directory",
    "plain_entries", "read_file", "read_listed", "stage_file", "stage_files", "stat_entries",
]  # fmt: skip

NAME: Final = "pure"

_UNNAMED: Final = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_PRIVATE: Final = 0o600
_SECTOR: Final = 512
"""Bytes in a unit of ``st_blocks``."""


def read_file(directory: int, name: bytes, room: memoryview) -> tuple[int, int, int, int]:
    """Read the file ``name`` into ``room`` until that is full or the file ends.

    Return the bytes read and, as they are after that, its size, its modification time in
    nanoseconds and its ``st_mode``. From anything but a regular file nothing is read: a FIFO
    or device put in a file's place must neither hang the session nor lose its data.
    """
    count, _, status = _read(directory, name, room.cast("B"))
    return count, status.st_size, status.st_mtime_ns, status.st_mode


def _read(
    directory: int, name: bytes, room: memoryview
) -> tuple[int, os.stat_result, os.stat_result]:
    """Return the bytes read, and what the file was before and after."""
    fd = os.open(name, OPEN_FILE, dir_fd=directory)
    try:
        count = 0
        before = after = os.fstat(fd)
        if stat.S_ISREG(before.st_mode):
            while count < len(room) and (got := os.readv(fd, [room[count:]])):
                count += got
            after = os.fstat(fd)
    finally:
        os.close(fd)
    return count, before, after


def read_listed(
    directory: int,
    names: Sequence[bytes],
    sizes: Sequence[int],
    times: Sequence[int],
    room: memoryview,
) -> list[int]:
    """Read files that were listed with these sizes and times, one behind the other.

    Each has its place in ``room``, whether or not it could be read. Return for each 0, -1 where
    the file is not as it was listed or changed while it was read (the time of its change tells,
    which nobody can set back), -2 where it is, but takes less room than it is long, or the errno
    that stands against it: ``ESTALE`` for what is no regular file any more.
    """
    told: list[int] = []
    used = 0
    if not len(names) == len(sizes) == len(times):
        raise ValueError("as many names, sizes and times")
    for name, size, time in zip(names, sizes, times, strict=True):
        if not 0 <= size <= len(room) - used:
            raise ValueError("the room is too small")
        told.append(_read_as_listed(directory, name, room[used : used + size], time))
        used += size
    return told


def _read_as_listed(directory: int, name: bytes, room: memoryview, time: int) -> int:
    try:
        count, before, status = _read(directory, name, room.cast("B"))
    except OSError as error:
        return error.errno or errno.EIO
    if not stat.S_ISREG(status.st_mode):
        return errno.ESTALE
    if not (count == len(room) == status.st_size and status.st_mtime_ns == time):
        return -1
    if status.st_ctime_ns != before.st_ctime_ns:
        return -1
    return -2 if status.st_blocks * _SECTOR < status.st_size else 0


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


def stage_files(directory: int, data: Buffer, files: Sequence[Staging]) -> list[int]:
    """Stage files whose contents lie one behind the other in ``data``, each like ``stage_file``.

    Return for each its descriptor, or below zero the errno that stands against it.
    """
    told: list[int] = []
    whole = memoryview(data).cast("B")
    used = 0
    try:
        for size, mode, uid, gid, mtime_ns in files:
            if not 0 <= size <= len(whole) - used:
                raise ValueError("the files are larger than the data")
            content = whole[used : used + size]
            told.append(_staged_or_errno(directory, content, mode, uid, gid, mtime_ns))
            used += size
    except BaseException:
        for fd in told:
            if fd >= 0:
                os.close(fd)
        raise
    return told


def _staged_or_errno(
    directory: int, data: Buffer, mode: int, uid: int, gid: int, mtime_ns: int | None
) -> int:
    try:
        return stage_file(directory, data, mode, uid, gid, mtime_ns)
    except OSError as error:
        return -(error.errno or errno.EIO)


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


def link_files(directory: int, fds: Sequence[int], names: Sequence[bytes]) -> list[int]:
    """Give unnamed files their names, and close those that have got one.

    Return for each 0, or the errno of the linking, its descriptor still open, or below zero that
    of the closing, where the file system reports late.
    """
    if len(fds) != len(names):
        raise ValueError("as many names as files")
    return [_link_and_close(fd, directory, name) for fd, name in zip(fds, names, strict=True)]


def _link_and_close(fd: int, directory: int, name: bytes) -> int:
    try:
        link_staged(fd, directory, name)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        os.close(fd)
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0
