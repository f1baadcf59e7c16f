"""Which directory a source really is: its file system and root inode, and what is mounted in it.

What is asked must survive a reboot, so that only another source looks like one. Device numbers
do not: they follow the order in which disks are found and file systems are mounted. The file
system's UUID does (``FS_IOC_GETFSUUID``, Linux 6.9 and later: ext4, xfs, btrfs, f2fs and others).
Beside it goes ``f_fsid`` of statfs(2), for older kernels: ext4 and btrfs make it of the UUID, xfs
of the device number, so there it can change; NFS and FUSE leave it 0, and the inode alone counts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from typing import Final

from netsync.model import Origin
from netsync.names import join
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.tree.mounts import mounts_below
from netsync.tree.roots import SourceRoot

_GET_UUID: Final = 0x8011_1500
"""``FS_IOC_GETFSUUID``: one byte of length and 16 of UUID."""
_UUID_BYTES: Final = 16
_63_BITS: Final = 2**63 - 1
_LISTED_MAX: Final = 255
"""Bytes of a path in an ``Origin``; what is mounted deeper than that is not told."""


def origin_of(root: SourceRoot) -> Origin | None:
    """Return what ``root`` is, or None if it is no directory or cannot be opened."""
    if not root.name:
        return _origin(root.fd, b"")
    try:
        fd = os.open(root.name, OPEN_DIRECTORY, dir_fd=root.fd)
    except OSError:  # the listing will tell
        return None
    try:
        return _origin(fd, root.listed)
    finally:
        os.close(fd)


def mounts_in(roots: Sequence[SourceRoot]) -> list[Origin] | None:
    """Return the file systems that are mounted inside ``roots``; None if that cannot be known.

    Only their paths: to open one may take as long as a server that is gone.
    """
    paths: set[bytes] = set()
    for root in roots:
        try:
            below = mounts_below(root.fd).values()
        except OSError:
            return None
        inside = root.name + b"/" if root.name else b""
        found = [each.removeprefix(inside) for each in below if each.startswith(inside)]
        paths.update(join(root.listed, each) for each in found)
    return [Origin(path + b"/", 0, 0) for path in sorted(paths) if len(path) < _LISTED_MAX]


def _origin(fd: int, listed: bytes) -> Origin | None:
    try:
        inode = os.fstat(fd).st_ino & _63_BITS
        return Origin(listed, inode, os.fstatvfs(fd).f_fsid & _63_BITS, _uuid(fd))
    except OSError:  # a network file system that went away: the listing will tell
        return None


def _uuid(fd: int) -> bytes:
    answer = bytearray(1 + _UUID_BYTES)
    try:
        fcntl.ioctl(fd, _GET_UUID, answer)
    except OSError:  # an older kernel, or a file system without one
        return b""
    uuid = bytes(answer[1 : 1 + min(answer[0], _UUID_BYTES)])
    return uuid if any(uuid) else b""
