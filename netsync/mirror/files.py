"""Open files: what is read, written and made safe, and who must hear of what did not come.

Each open of a file on the mount is a descriptor of its own, so that the kernel's errors of writing
back reach each of them, as ever. What is in the page cache is read and written at once, in
trio's thread: a hop to another costs more. What may wait for a disk goes to a worker thread.

*Safe* means: on the disk here, and with all standbys at the level that was asked for, together with
everything before it. Both are asked for side by side. If the answer does not come, or the disk here
fails, nobody knows what is there; everyone who has the file open gets an error from then on.
"""

from __future__ import annotations

import errno
import functools
import os
from dataclasses import dataclass
from typing import Final

import trio

from netsync.errors import IndeterminateError
from netsync.mirror.attributes import Attributes
from netsync.mirror.backing import Backing, failed
from netsync.mirror.naming import Caller
from netsync.mirror.nodes import Node
from netsync.mirror.noting import SET_ID, Notes, mtime_of
from netsync.operation import Level, Write
from netsync.tree.read import read_fully

_OPEN: Final = os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class Safety:
    """When the mount answers: at which ``level``, and whether closing and naming wait as well."""

    level: Level = Level.DURABLE
    sync_on_close: bool = False
    sync_names: bool = False


class OpenFile:
    """One open of a file or directory: a descriptor, and how often its node had failed before.

    ``writes``: it was opened for writing; ``wrote``: something was, and was not asked to be safe;
    ``is_new``: it was created, and nothing was.
    """

    __slots__ = ("failures", "fd", "is_new", "moves", "node", "path", "writes", "wrote")

    def __init__(self, fd: int, node: Node, *, writes: bool = False) -> None:
        self.fd = fd
        self.node = node
        self.failures = node.failures
        self.path: bytes | None = None
        self.moves = -1
        self.writes = writes
        self.wrote = False
        self.is_new = False

    def check(self) -> None:
        """Raise EIO if something that was done to the file while it was open is lost, or may be."""
        if self.failures != self.node.failures:
            raise failed(errno.EIO)


class Files:
    """Opens, reads, writes and flushes files of ``backing``. All methods raise ``OSError``."""

    def __init__(
        self, backing: Backing, notes: Notes, attributes: Attributes, safety: Safety
    ) -> None:
        self._backing = backing
        self._nodes = backing.nodes
        self._log = notes.log
        self._notes = notes
        self._attributes = attributes
        self._safety = safety
        self._reads_cached = True

    def open(self, node: Node, flags: int, caller: Caller) -> OpenFile:
        """Open a regular file. The kernel has judged the caller, and knows where an end is."""
        fd = self._backing.open(node, flags & os.O_ACCMODE | _OPEN)
        try:
            if flags & os.O_TRUNC:
                self._attributes.truncate(node, fd, 0, caller)
        except BaseException:
            os.close(fd)
            raise
        return self.adopt(fd, node, writes=flags & os.O_ACCMODE != os.O_RDONLY)

    def adopt(self, fd: int, node: Node, *, writes: bool = False) -> OpenFile:
        """Return an open file that ``fd``, a descriptor of ``node``, becomes."""
        node.opened += 1
        return OpenFile(fd, node, writes=writes)

    def adopt_new(self, fd: int, node: Node) -> OpenFile:
        """Return an open file that ``fd`` becomes, a descriptor of ``node`` that was created."""
        file = self.adopt(fd, node, writes=True)
        file.is_new = True
        return file

    def close(self, file: OpenFile) -> list[int]:
        """Return the descriptors to be closed with ``file``; the last may free its blocks."""
        file.node.opened -= 1
        return [file.fd, *self._backing.release(file.node)]

    def note_new(self, file: OpenFile) -> None:
        """Note the times of a file that was created, and into which nobody has written."""
        file.is_new = False
        self._notes.note_times(file.node, os.fstat(file.fd))

    async def read(self, file: OpenFile, offset: int, size: int) -> memoryview | bytes:
        """Return up to ``size`` bytes; fewer only at the file's end."""
        if self._reads_cached:
            buffer = bytearray(size)
            try:
                got = os.preadv(file.fd, [buffer], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._reads_cached = False  # the file system cannot tell
            else:
                if got == size or offset + got >= os.fstat(file.fd).st_size:
                    return memoryview(buffer)[:got]
        return await trio.to_thread.run_sync(read_fully, file.fd, size, offset)

    def write(self, file: OpenFile, offset: int, data: bytes) -> int:
        """Write at ``offset``, and return how much of ``data`` fitted."""
        file.check()
        node = file.node
        done = os.pwrite(file.fd, data, offset)
        status = os.fstat(file.fd)
        node.changed += 1
        file.wrote = True
        file.is_new = False
        if file.moves != self._nodes.moves:
            file.path, file.moves = self._nodes.path(node), self._nodes.moves
        if file.path is not None and done:
            written = data if done == len(data) else data[:done]
            self._log.append(Write(file.path, offset, written, mtime_of(status)), node.number)
        if status.st_mode & SET_ID:
            self._notes.drop_set_id(node, file.fd, status)
        return done

    async def sync(self, file: OpenFile) -> None:
        """Return when all that was done to ``file`` is safe.

        Raises ``OSError`` (EIO) if it is not known to be.
        """
        file.check()
        file.wrote = False
        await self._sync(file.node, file.fd)

    async def flush(self, file: OpenFile) -> None:
        """Do what is to be done when ``file`` is closed by one who has it."""
        if self._safety.sync_on_close and file.wrote:
            await self.sync(file)
        if file.writes:
            file.check()

    async def sync_directory(self, node: Node) -> None:
        """Return when all that was done to names in ``node`` is safe, as ``sync``."""
        fd = os.dup(self._backing.directory(node))
        try:
            await self._sync(node, fd)
        finally:
            os.close(fd)

    async def _sync(self, node: Node, fd: int) -> None:
        upto = node.changed
        if node.synced >= upto:
            return  # nothing has been done to it since
        seq = self._log.head
        self._log.want(seq, self._safety.level)  # the standby flushes while this host does
        try:
            await self._backing.flushes.run(functools.partial(os.fsync, fd))
            await self._log.wait(seq, self._safety.level)
        except (OSError, IndeterminateError) as error:
            node.failures += 1
            raise failed(errno.EIO) from error
        node.synced = max(node.synced, upto)
