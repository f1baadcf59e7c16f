"""Creating and changing single entries in a held directory.

Owner comes before mode (a change of owner clears the set-id bits, and a file's capabilities),
mode before attributes (an ACL sets bits of the mode, and a mode bits of the ACL), times last. If
a change of owner fails, the set-id bits are not given to whoever owns the file instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from netsync.errors import reason
from netsync.model import Entry, Kind
from netsync.plan.xattrs import WantedXattrs
from netsync.tree.stage import temporary_name
from netsync.tree.xattrs import Refusal, of_name, settle

SET_ID_BITS: Final = stat.S_ISUID | stat.S_ISGID
OWNER_REFUSED: Final = frozenset({errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP})
"""Without the privilege, with an id the file system cannot hold, or on one without owners."""


class Attributes(Struct, frozen=True, gc=False):
    """What to set on an entry; None leaves it as it is. ``uid`` and ``gid`` are local.

    Without ``xattrs`` a new entry keeps the ACL that its directory may give it. A ``placeholder``
    is an empty regular file whose record in ``xattrs`` says what device it stands for.
    """

    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None
    xattrs: WantedXattrs | None = None
    placeholder: bool = False


Refusals = tuple[Refusal, ...]
"""What could not be set, of what is no reason to lose the rest: the owner, attributes."""


def at_time(wanted: Attributes, mtime_ns: int) -> Attributes:
    """Return what to set when the file's time is ``mtime_ns`` and no more the listed one."""
    if wanted.mtime_ns in (None, mtime_ns):
        return wanted
    return msgspec.structs.replace(wanted, mtime_ns=mtime_ns)


def set_on_descriptor(fd: int, wanted: Attributes) -> Refusals:
    """Set ``wanted`` on the open file ``fd``; return what was refused.

    Where that is the owner the mode is set without set-id bits, which would otherwise be given
    to whoever owns the file instead. Raises ``OSError`` for mode and times.
    """
    status = os.fstat(fd)
    uid = _unless(wanted.uid, status.st_uid)
    gid = _unless(wanted.gid, status.st_gid)
    refused = _change_owner(lambda: os.fchown(fd, uid, gid)) if (uid, gid) != (-1, -1) else ()
    if wanted.mode is not None:
        os.fchmod(fd, wanted.mode & ~SET_ID_BITS if refused else wanted.mode)
    if wanted.xattrs is not None:
        refused += settle(fd, wanted.xattrs)
    if wanted.mtime_ns is not None:
        os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))
    return refused


def set_on_name(directory: int, name: bytes, present: Entry, wanted: Attributes) -> Refusals:
    """Set what differs between ``present`` and ``wanted`` on ``name``, following no link.

    Returns what was refused, like ``set_on_descriptor``.
    """
    mode = wanted.mode
    uid, gid = _unless(wanted.uid, present.uid), _unless(wanted.gid, present.gid)
    owner_changes = (uid, gid) != (-1, -1)
    refused: Refusals = ()
    if owner_changes:
        refused = _change_owner(
            lambda: os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        )
    if mode is not None and refused:
        mode &= ~SET_ID_BITS
    if present.kind is Kind.SYMLINK:
        mode = None
    if mode is not None and (owner_changes or mode != present.mode):
        change_mode(directory, name, mode)
    if wanted.xattrs is not None:
        refused += settle(of_name(directory, name), wanted.xattrs)
    if wanted.mtime_ns is not None and wanted.mtime_ns != present.mtime_ns:
        times = (wanted.mtime_ns, wanted.mtime_ns)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
    return refused


def change_mode(directory: int, name: bytes, mode: int) -> None:
    """Set the permission bits of ``name``, which must be no link. Raises ``OSError``."""
    try:
        os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)
    except (ValueError, NotImplementedError) as error:  # Python's words for a link
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def _unless(wanted: int | None, present: int) -> int:
    """Return the id to set, or -1 where none is wanted or it is there already."""
    return -1 if wanted is None or wanted == present else wanted


def _change_owner(change: Callable[[], None]) -> Refusals:
    """Change an owner; return the refusal of a system that does not let us."""
    try:
        change()
    except OSError as error:
        if error.errno not in OWNER_REFUSED:
            raise
        return (Refusal("set owner of", error),)
    return ()


def create_directory(directory: int, name: bytes) -> None:
    """Make ``name`` a directory that only we can enter until its metadata is set."""
    os.mkdir(name, 0o700, dir_fd=directory)


def create_special(directory: int, entry: Entry, wanted: Attributes, *, replace: bool) -> Refusals:
    """Create a symbolic link, FIFO, socket or device with its metadata.

    With ``replace`` it takes the place of an existing non-directory in one step. Returns what
    was refused. Raises ``OSError``, also where a placeholder cannot be marked as one.
    """
    name = temporary_name() if replace else entry.name
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.target, name, dir_fd=directory)
    else:
        format_, device = _FORMATS[entry.kind], entry.device
        if wanted.placeholder:
            format_, device = stat.S_IFREG, 0
        os.mknod(name, format_ | 0o600, device, dir_fd=directory)
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        made = Entry(name, entry.kind, stat.S_IMODE(status.st_mode), status.st_uid,
                     status.st_gid, 0, status.st_mtime_ns)  # fmt: skip
        refused = set_on_name(directory, name, made, wanted)
        if wanted.placeholder and refused:
            words = f"what it stands for cannot be stored: {reason(refused[0].error)}"
            raise OSError(errno.EOPNOTSUPP, words)
        if replace:
            os.rename(name, entry.name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        if replace or wanted.placeholder:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
        raise
    return refused


_FORMATS: Final = {
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
