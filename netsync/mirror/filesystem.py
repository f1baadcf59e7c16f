"""The mount as FUSE sees it: each request of the kernel, handed to what does it.

Nothing is decided here but the order of things: room in the log before a change, the change, and
with some options its safety before the answer. Errors of the backing directory are answered as
they are. ENOSYS is never answered, since the kernel would take it as leave never to ask again:
a flush that it does not ask for would count as done.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from netsync.errors import IndeterminateError
from netsync.mirror.answers import attributes_of, caller_of, nothing_there, room_of
from netsync.mirror.attributes import Attributes, Wanted
from netsync.mirror.backing import Backing, failed
from netsync.mirror.files import Files, OpenFile, Safety
from netsync.mirror.listing import SELF_AND_PARENT, Listing
from netsync.mirror.naming import Made, Naming
from netsync.mirror.nodes import Node
from netsync.mirror.noting import Notes
from netsync.mirror.searching import learn_names
from netsync.oplog.log import Log
from netsync.plan import acl

_P = ParamSpec("_P")
_R = TypeVar("_R")


def answered(
    method: Callable[_P, Coroutine[Any, Any, _R]],
) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Answer a system error as it is, and a missing answer of a standby as EIO."""

    @functools.wraps(method)
    async def answer(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await method(*args, **kwargs)
        except OSError as error:
            number = error.errno or errno.EIO
            raise FUSEError(errno.EIO if number == errno.ENOSYS else number) from error
        except IndeterminateError as error:
            raise FUSEError(errno.EIO) from error

    return answer


class Filesystem(pyfuse3.Operations):
    """Answers the kernel's requests."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, backing: Backing, log: Log, safety: Safety) -> None:
        super().__init__()
        self._backing = backing
        self._nodes = backing.nodes
        self._log = log
        self._safety = safety
        notes = Notes(backing, log, functools.partial(pyfuse3.invalidate_inode, attr_only=True))
        self._attributes = Attributes(backing, notes)
        self._naming = Naming(backing, notes)
        self._files = Files(backing, notes, self._attributes, safety)
        self._opened: dict[int, OpenFile] = {}
        self._listings: dict[int, Listing] = {}
        self._last = 0

    # -- what is there

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes.find(parent_inode)
        if (fd := self._backing.cold(parent, name)) is not None:
            await trio.to_thread.run_sync(_warm, fd, name)
        try:
            node, status = self._backing.look_up(parent, name)
        except FileNotFoundError:
            return nothing_there()
        return attributes_of(node.number, status)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        await self._close(self._backing.forget(inode_list))

    @answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return attributes_of(inode, self._backing.status(self._nodes.find(inode)))

    @answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._backing.read_link(self._nodes.find(inode))

    @answered
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        return room_of(os.fstatvfs(self._backing.root))

    # -- names

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        await self._room()
        parent = self._nodes.find(parent_inode)
        made = self._naming.mknod(parent, name, mode, rdev, caller_of(ctx))
        return await self._named(made, parent)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        await self._room()
        parent = self._nodes.find(parent_inode)
        made = self._naming.mkdir(parent, name, mode, caller_of(ctx))
        return await self._named(made, parent)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        await self._room()
        parent = self._nodes.find(parent_inode)
        made = self._naming.symlink(parent, name, target, caller_of(ctx))
        return await self._named(made, parent)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        await self._room()
        parent = self._nodes.find(new_parent_inode)
        made = self._naming.link(self._nodes.find(inode), parent, new_name)
        return await self._named(made, parent)

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        source, target = self._nodes.find(parent_inode_old), self._nodes.find(parent_inode_new)
        await self._learn_names(target, name_new)
        await self._room()
        self._naming.rename(source, name_old, target, name_new, flags)
        await self._safe_names(source, target)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes.find(parent_inode)
        await self._learn_names(parent, name)
        await self._room()
        self._naming.unlink(parent, name)
        await self._safe_names(parent)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._room()
        parent = self._nodes.find(parent_inode)
        self._naming.rmdir(parent, name)
        await self._safe_names(parent)

    # -- metadata

    @answered
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        await self._room()
        file = None if fh is None else self._opened.get(fh)
        if file is not None and fields.update_size:
            file.check()
        wanted = Wanted(
            attr.st_size if fields.update_size else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_mode if fields.update_mode else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )
        fd = None if file is None else file.fd
        node = self._nodes.find(inode)
        return attributes_of(inode, self._attributes.set(node, wanted, caller_of(ctx), fd))

    @answered
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await self._room()
        node = self._nodes.find(inode)
        self._attributes.set_xattr(node, name, value)
        if name == acl.ACCESS and ctx.uid != 0:
            group = self._backing.status(node).st_gid
            if group != ctx.gid and group not in pyfuse3.get_sup_groups(ctx.pid):
                self._attributes.drop_set_gid(node)

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return self._attributes.get_xattr(self._nodes.find(inode), name)

    @answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        return self._attributes.list_xattrs(self._nodes.find(inode), caller_of(ctx))

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._room()
        self._attributes.remove_xattr(self._nodes.find(inode), name)

    # -- open files

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        node = self._nodes.find(inode)
        if not node.names and self._backing.status(node).st_nlink:
            await learn_names(self._backing, node)
        if flags & os.O_TRUNC:
            await self._room()
        file = self._files.open(node, flags, caller_of(ctx))
        return self._handle(file)

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        await self._room()
        parent = self._nodes.find(parent_inode)
        fd, made = self._naming.create(parent, name, mode, caller_of(ctx))
        file = self._files.adopt_new(fd, made.node)
        return self._handle(file), await self._named(made, parent)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        data = await self._files.read(self._opened[fh], off, size)
        return cast("bytes", data)  # pyfuse3 takes any buffer

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        file = self._opened[fh]
        await self._room()
        return self._files.write(file, off, buf)

    @answered
    async def flush(self, fh: int) -> None:
        file = self._opened[fh]
        await self._files.flush(file)

    @answered
    async def release(self, fh: int) -> None:
        file = self._opened.pop(fh)
        if file.is_new:
            with contextlib.suppress(OSError):  # only the times of an empty file
                await self._room()
                self._files.note_new(file)
        has_name = bool(file.node.names)
        await self._close(self._files.close(file), at_once=has_name)

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.sync(self._opened[fh])

    # -- open directories

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        node = self._nodes.find(inode)
        fd = self._backing.open(node, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last += 1
        self._listings[self._last] = Listing(self._files.adopt(fd, node))
        return self._last

    @answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings[fh]
        if start_id == 0:
            await listing.read()
        parent = listing.file.node
        for index in range(start_id, len(listing.names)):
            name = listing.names[index]
            try:
                number, status = self._listed(parent, name)
            except OSError:
                continue  # it has gone, or lies on another file system
            if not pyfuse3.readdir_reply(token, name, attributes_of(number, status), index + 1):
                break
            if index >= len(SELF_AND_PARENT):
                self._backing.introduce(status, parent, name)

    @answered
    async def releasedir(self, fh: int) -> None:
        listing = self._listings.pop(fh)
        await self._close(self._files.close(listing.file), at_once=True)

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._files.sync(self._listings[fh].file)

    # -- what they have in common

    async def _room(self) -> None:
        """Wait until the log can take a change. Raises EROFS while it takes none."""
        try:
            await self._log.room()
        except IndeterminateError as error:
            raise failed(errno.EROFS) from error

    async def _learn_names(self, parent: Node, name: bytes) -> None:
        """Find another name of an open file that is about to lose the only one known."""
        node = self._naming.namesake_unknown(parent, name)
        if node is not None:
            await learn_names(self._backing, node)

    async def _named(self, made: Made, parent: Node) -> EntryAttributes:
        """Answer with what was created in ``parent``, once that is safe if it is to be."""
        await self._safe_names(parent)
        return attributes_of(made.node.number, made.status)

    async def _safe_names(self, *changed: Node) -> None:
        if self._safety.sync_names:
            for directory in dict.fromkeys(changed):
                await self._files.sync_directory(directory)

    def _handle(self, file: OpenFile) -> FileInfo:
        """Give an open file a number; the kernel keeps the pages that it has."""
        self._last += 1
        self._opened[self._last] = file
        return FileInfo(fh=self._last, keep_cache=True)

    def _listed(self, directory: Node, name: bytes) -> tuple[int, os.stat_result]:
        """Return number and status of an entry of a listing."""
        if name not in SELF_AND_PARENT:
            status = self._backing.status_of(directory, name)
            return status.st_ino, status
        node = directory
        if name == b".." and directory.names:
            node = next(iter(directory.names))[0]
        return node.number, self._backing.status(node)

    async def _close(self, freed: list[int], *, at_once: bool = False) -> None:
        """Close descriptors; in a thread if one may free the blocks of a file that was removed."""
        for fd in freed:
            if at_once:
                os.close(fd)
            else:
                await trio.to_thread.run_sync(os.close, fd)


def _warm(directory: int, name: bytes) -> None:
    """Have the kernel look up ``name``, which may take a disk's time; close ``directory``."""
    with contextlib.suppress(OSError):  # whoever asked will be told
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    os.close(directory)
