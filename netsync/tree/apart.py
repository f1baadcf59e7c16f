"""Putting a name on an inode of its own, or on another's: the two ways to change a hard link."""

from __future__ import annotations

import contextlib
import os

from netsync.model import Keep
from netsync.plan.xattrs import WantedXattrs, scope_for
from netsync.tree.content import copy_data
from netsync.tree.place import Attributes, Refusals, set_on_descriptor
from netsync.tree.read import open_regular
from netsync.tree.stage import Staged, temporary_name
from netsync.tree.xattrs import Where, read_set


def link_over(source: int, source_name: bytes, directory: int, name: bytes) -> None:
    """Make ``name`` in ``directory`` another name of ``source_name``, in place of what is there.

    Whoever looks sees the old file or the new one. Raises ``OSError``.
    """
    try:
        os.link(source_name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        pass
    else:
        return
    temporary = temporary_name()
    os.link(source_name, temporary, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed, or two names of one inode
            os.unlink(temporary, dir_fd=directory)


def copy_apart(
    source: tuple[int, bytes], place: tuple[int, bytes], wanted: Attributes, *, durable: bool
) -> Refusals:
    """Put a copy of the regular file ``source`` at ``place``, with the ``wanted`` metadata.

    Both are a directory and a name in it, and may be the same. Returns what was refused. Raises
    ``OSError``.
    """
    basis = open_regular(*source)
    try:
        staged = Staged.create(place[0])
        try:
            refused = _fill(basis, staged.fd, wanted)
            if durable:
                os.fsync(staged.fd)
            staged.publish(*place, replace=False)  # it says itself if there is something
        except BaseException:
            staged.discard(place[0])
            raise
        staged.close()
    finally:
        os.close(basis)
    return refused


def _fill(basis: int, fd: int, wanted: Attributes) -> Refusals:
    status = os.fstat(basis)
    copy_data(basis, fd, status.st_size)
    kept = Attributes(
        status.st_mode & 0o7777 if wanted.mode is None else wanted.mode,
        status.st_uid if wanted.uid is None else wanted.uid,
        status.st_gid if wanted.gid is None else wanted.gid,
        status.st_mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns,
        xattrs_of(basis, wanted.xattrs),
    )
    return set_on_descriptor(fd, kept)


def xattrs_of(basis: Where, wanted: WantedXattrs | None = None) -> WantedXattrs:
    """Return what a copy of ``basis`` gets: what is wanted, and what that says nothing of."""
    everything = scope_for(Keep(), privileged=os.geteuid() == 0)
    items = read_set(basis, everything)
    if wanted is not None:
        others = [item for item in items if not wanted.scope.keeps(item[0])]
        items = tuple(sorted([*others, *wanted.items]))
    return WantedXattrs(everything, items)
