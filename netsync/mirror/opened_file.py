"""Files of a mirror that are open through the Python API."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from netsync.mirror.attributes import Attributes
from netsync.mirror.dirty import Dirty
from netsync.mirror.files import Files, OpenFile
from netsync.mirror.naming import Caller
from netsync.operation import DATA_MAX
from netsync.oplog.log import Log


@dataclass(frozen=True)
class Opened:
    """An open file and what changes it. All methods raise ``OSError``."""

    file: OpenFile
    files: Files
    attributes: Attributes
    dirty: Dirty
    caller: Caller

    def pwrite(self, data: memoryview, offset: int) -> int:
        """Write at ``offset``; return how much fitted."""
        done = self.files.write(self.file, offset, bytes(data))
        self.dirty.add(self.file.node, self.file.fd)
        return done

    async def pread(self, size: int, offset: int) -> bytes:
        """Read at ``offset``."""
        return bytes(await self.files.read(self.file, offset, size))

    def truncate(self, size: int) -> None:
        """Give the file another size."""
        self.attributes.truncate(self.file.node, self.file.fd, size, self.caller)
        self.dirty.add(self.file.node, self.file.fd)

    @property
    def size(self) -> int:
        """How long it is."""
        return os.fstat(self.file.fd).st_size


class MirrorFile:
    """A file of bytes in a mirror, with a position. Raises ``OSError``, ``Indeterminate``."""

    def __init__(
        self, opened: Opened, log: Log, release: Callable[[], None], *, at_end: bool
    ) -> None:
        self._opened = opened
        self._log = log
        self._release: Callable[[], None] | None = release
        self._at_end = at_end
        self._position = 0

    async def __aenter__(self) -> MirrorFile:
        """Return it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of it. Nothing becomes safer by that: see ``Mirror.commit``."""
        release, self._release = self._release, None
        if release is not None:
            release()

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of ``data`` at the position (with ``a`` at the end); return its length."""
        if self._at_end:
            self._position = self._opened.size
        await self.pwrite(data, self._position)
        self._position += len(data)
        return len(data)

    async def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write all of ``data`` at ``offset``; return its length."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            await self._log.room()
            done += self._opened.pwrite(view[done : done + DATA_MAX], offset + done)
        return done

    async def read(self, size: int = -1) -> bytes:
        """Read from the position on, to the end unless ``size`` says less."""
        left = max(0, self._opened.size - self._position)
        data = await self.pread(left if size < 0 else min(size, left), self._position)
        self._position += len(data)
        return data

    async def pread(self, size: int, offset: int) -> bytes:
        """Return ``size`` bytes at ``offset``, fewer only at the file's end."""
        return await self._opened.pread(size, offset)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        position = (self._opened.size if start is None else start) + offset
        if position < 0 or whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError("no such position")
        self._position = position
        return position

    async def truncate(self, size: int | None = None) -> int:
        """Give the file another size, by default the position; return it."""
        await self._log.room()
        wanted = self._position if size is None else size
        self._opened.truncate(wanted)
        return wanted
