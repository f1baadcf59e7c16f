"""A mirror as a Python program writes into it, from trio."""

from __future__ import annotations

import os
from typing import TypeAlias

import trio

from netsync.errors import IndeterminateError, reason
from netsync.mirror.opened_file import MirrorFile
from netsync.mirror.tree import Tree
from netsync.operation import Level
from netsync.oplog.log import Log

AnyPath: TypeAlias = str | bytes | os.PathLike[str]


class Mirror:
    """An open mirror. Paths are relative to its directory; no link in them is followed.

    Methods raise ``OSError`` for what the directory says, and ``Indeterminate`` where the mirror
    takes no changes: another is the writer now, or a standby is lost and the policy is ``error``.
    """

    def __init__(self, tree: Tree, log: Log, level: Level) -> None:
        self._tree = tree
        self._log = log
        self._level = level
        self._flushing = trio.Lock()
        self._lost: OSError | None = None

    @property
    def head(self) -> int:
        """The number of the last change."""
        return self._log.head

    async def open(self, path: AnyPath, mode: str = "r", permissions: int = 0o666) -> MirrorFile:
        """Open a regular file for bytes: ``r``, ``w``, ``x`` or ``a``, with or without ``+``."""
        await self._room(mode)
        return self._tree.open(os.fsencode(path), mode, permissions)

    async def mkdir(self, path: AnyPath, permissions: int = 0o777) -> None:
        """Create a directory."""
        await self._log.room()
        self._tree.mkdir(os.fsencode(path), permissions)

    async def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """Create a symbolic link at ``path`` that says ``target``."""
        await self._log.room()
        self._tree.symlink(os.fsencode(target), os.fsencode(path))

    async def link(self, path: AnyPath, to: AnyPath) -> None:
        """Give a file one more name."""
        await self._log.room()
        self._tree.link(os.fsencode(path), os.fsencode(to))

    async def rename(self, path: AnyPath, to: AnyPath) -> None:
        """Rename, in the place of what ``to`` is."""
        await self._log.room()
        self._tree.rename(os.fsencode(path), os.fsencode(to))

    async def unlink(self, path: AnyPath) -> None:
        """Take a name from what is no directory."""
        await self._log.room()
        self._tree.unlink(os.fsencode(path))

    async def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        await self._log.room()
        self._tree.rmdir(os.fsencode(path))

    async def chmod(self, path: AnyPath, mode: int) -> None:
        """Set permission bits."""
        await self._log.room()
        self._tree.set(os.fsencode(path), mode=mode)

    async def chown(self, path: AnyPath, uid: int, gid: int) -> None:
        """Set owner and group, by number."""
        await self._log.room()
        self._tree.set(os.fsencode(path), uid=uid, gid=gid)

    async def utime(self, path: AnyPath, atime_ns: int, mtime_ns: int) -> None:
        """Set times, in nanoseconds."""
        await self._log.room()
        self._tree.set(os.fsencode(path), atime=atime_ns, mtime=mtime_ns)

    async def setxattr(self, path: AnyPath, name: str | bytes, value: bytes) -> None:
        """Set an extended attribute."""
        await self._log.room()
        self._tree.set_xattr(os.fsencode(path), os.fsencode(name), value)

    async def removexattr(self, path: AnyPath, name: str | bytes) -> None:
        """Remove an extended attribute."""
        await self._log.room()
        self._tree.remove_xattr(os.fsencode(path), os.fsencode(name))

    async def stat(self, path: AnyPath = "") -> os.stat_result:
        """Return what the directory says of a path, following no link."""
        return self._tree.stat(os.fsencode(path))

    async def listdir(self, path: AnyPath = "") -> list[str]:
        """Return the sorted names in a directory."""
        return self._tree.names(os.fsencode(path))

    async def commit(self) -> int:
        """Return the number of the last change, once all up to it is as safe as was asked for.

        That is flushed here, and with every standby at the mirror's level. Raises
        ``Indeterminate`` if the answer does not come, or the disk here fails.
        """
        seq = self._log.head
        self._log.want(seq, Level.DURABLE)  # the standbys flush while we do
        async with self._flushing:  # who comes later may rely on what is under way
            if self._lost is None:
                await self._flush()
        if self._lost is not None:
            raise IndeterminateError(
                f"the disk of this host failed: {reason(self._lost)}", op="commit",
                hint="what is on this disk is not known; see the kernel's log",
            ) from self._lost  # fmt: skip
        await self._log.wait(seq, self._level)
        return seq

    async def _flush(self) -> None:
        flush = self._tree.flushing()
        try:
            await trio.to_thread.run_sync(flush)
        except OSError as error:
            self._lost = error  # for good: a second flush would not tell of it

    async def _room(self, mode: str) -> None:
        if mode[:1] in ("w", "x", "a"):
            await self._log.room()
