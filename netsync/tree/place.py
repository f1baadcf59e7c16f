"""Creating and changing single entries in a held directory.

Owner comes before mode (a change of owner clears the set-id bits) and times come last. If a
change of owner fails, the set-id bits are not given to whoever owns the file instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from netsync.model import Entry, Kind
from netsync.tree.stage import temporary_name

SET_ID_BITS: Final = stat.S_ISUID | stat.S_ISGID


class Attributes(Struct, frozen=True, gc=False):
    """What to set on an entry; None leaves it as it is. ``uid`` and ``gid`` are local."""

    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None


def set_on_descriptor(fd: int, wanted: Attributes, status: os.stat_result | None = None) -> None:
    """Set ``wanted`` on the open file ``fd``; ``status`` spares what is right already."""
    mode = wanted.mode
    if wanted.uid is not None or wanted.gid is not None:
        status = status or os.fstat(fd)
        uid = -1 if wanted.uid in (None, status.st_uid) else wanted.uid
        gid = -1 if wanted.gid in (None, status.st_gid) else wanted.gid
        if uid != -1 or gid != -1:
            try:
                os.fchown(fd, _id(uid), _id(gid))
            except OSError:
                _strip_set_id(lambda safe: os.fchmod(fd, safe), mode)
                raise
    if mode is not None:
        os.fchmod(fd, mode)
    if wanted.mtime_ns is not None:
        os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))


def set_on_name(directory: int, name: bytes, present: Entry, wanted: Attributes) -> None:
    """Set what differs between ``present`` and ``wanted`` on ``name``, following no link."""
    mode = wanted.mode
    uid = -1 if wanted.uid in (None, present.uid) else wanted.uid
    gid = -1 if wanted.gid in (None, present.gid) else wanted.gid

    def chmod(bits: int) -> None:
        if present.kind is Kind.SYMLINK:
            return
        try:
            os.chmod(name, bits, dir_fd=directory, follow_symlinks=False)
        except (ValueError, NotImplementedError) as error:  # Python's words for a link
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error

    owner_changed = uid != -1 or gid != -1
    if owner_changed:
        try:
            os.chown(name, _id(uid), _id(gid), dir_fd=directory, follow_symlinks=False)
        except OSError:
            _strip_set_id(chmod, mode)
            raise
    if mode is not None and (owner_changed or mode != present.mode):
        chmod(mode)
    if wanted.mtime_ns is not None and wanted.mtime_ns != present.mtime_ns:
        times = (wanted.mtime_ns, wanted.mtime_ns)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)


def _id(number: int | None) -> int:
    return -1 if number is None else number


def _strip_set_id(chmod: Callable[[int], None], mode: int | None) -> None:
    if mode is not None:
        with contextlib.suppress(OSError):
            chmod(mode & ~SET_ID_BITS)


def create_directory(directory: int, name: bytes) -> None:
    """Make ``name`` a directory that only we can enter until its metadata is set."""
    os.mkdir(name, 0o700, dir_fd=directory)


def create_special(directory: int, entry: Entry, wanted: Attributes, *, replace: bool) -> None:
    """Create a symbolic link, FIFO, socket or device with its metadata.

    With ``replace`` it takes the place of an existing non-directory in one step.
    """
    name = temporary_name() if replace else entry.name
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.target, name, dir_fd=directory)
    else:
        os.mknod(name, _FORMATS[entry.kind] | 0o600, entry.device, dir_fd=directory)
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        made = Entry(name, entry.kind, stat.S_IMODE(status.st_mode), status.st_uid,
                     status.st_gid, 0, status.st_mtime_ns)  # fmt: skip
        set_on_name(directory, name, made, wanted)
        if replace:
            os.rename(name, entry.name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        if replace:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
        raise


_FORMATS: Final = {
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
