"""A mirror for a program that knows nothing of trio: each call returns when it is done.

Trio runs in a thread of its own, for as long as the mirror is open. Any thread may call; calls of
different threads wait for a commit side by side, and share its flush.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import TypeAlias, TypeVar, TypeVarTuple

import trio

from netsync.errors import NetworkError
from netsync.mirror.opened_file import MirrorFile
from netsync.mirror.writer import AnyPath, Mirror

Held: TypeAlias = Callable[[], AbstractAsyncContextManager[Mirror]]
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Loop:
    """Trio in a thread, while a mirror is open in it."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._begun = threading.Event()
        self._mirror: Mirror | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ending: trio.Event | None = None
        self._scope = trio.CancelScope()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="netsync mirror", daemon=True)

    def start(self) -> Mirror:
        """Return the mirror once it is in step. Raises what keeps it from that."""
        self._thread.start()
        self._begun.wait()
        if self._mirror is None:
            self._thread.join()
            assert self._error is not None
            raise self._error
        return self._mirror

    def _run(self) -> None:
        try:
            trio.run(self._hold)
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()

    async def _hold(self) -> None:
        with self._scope:
            async with self._held() as mirror:
                self._token = trio.lowlevel.current_trio_token()
                self._ending = trio.Event()
                self._mirror = mirror
                self._begun.set()
                await self._ending.wait()

    def call(
        self, work: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments
    ) -> Result:
        """Return what ``work`` returns, which runs in trio's thread."""
        try:
            return trio.from_thread.run(work, *arguments, trio_token=self._token)
        except trio.RunFinishedError:
            if isinstance(self._error, Exception):
                raise self._error from None
            raise NetworkError("the mirror is closed", op="mirror") from None

    def end(self, *, well: bool) -> None:
        """End it, and wait for that. Raises what it ended with if it ended badly by itself."""
        assert self._token is not None
        end = self._ending.set if well and self._ending is not None else self._scope.cancel
        with suppress(trio.RunFinishedError):  # it has ended by itself
            self._token.run_sync_soon(end)
        self._thread.join()
        if well and self._error is not None:
            raise self._error


class BlockingFile:
    """A ``MirrorFile``, call by call."""

    def __init__(self, file: MirrorFile, loop: Loop) -> None:
        self._file = file
        self._loop = loop

    def __enter__(self) -> BlockingFile:
        """Return it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """See ``MirrorFile.aclose``."""
        self._loop.call(self._file.aclose)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """See ``MirrorFile.write``."""
        return self._loop.call(self._file.write, data)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        """See ``MirrorFile.pwrite``."""
        return self._loop.call(self._file.pwrite, data, offset)

    def read(self, size: int = -1) -> bytes:
        """See ``MirrorFile.read``."""
        return self._loop.call(self._file.read, size)

    def pread(self, size: int, offset: int) -> bytes:
        """See ``MirrorFile.pread``."""
        return self._loop.call(self._file.pread, size, offset)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See ``MirrorFile.seek``."""
        return self._loop.call(self._file.seek, offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """See ``MirrorFile.truncate``."""
        return self._loop.call(self._file.truncate, size)


class BlockingMirror:
    """A ``Mirror``, call by call; see there."""

    def __init__(self, loop: Loop, mirror: Mirror) -> None:
        self._loop = loop
        self._mirror = mirror

    @classmethod
    def start(cls, held: Held) -> BlockingMirror:
        """Begin; return when it is in step."""
        loop = Loop(held)
        return cls(loop, loop.start())

    def end(self, *, well: bool) -> None:
        """End; if ``well``, once the standbys have everything."""
        self._loop.end(well=well)

    @property
    def head(self) -> int:
        """The number of the last change."""
        return self._mirror.head

    def commit(self) -> int:
        """See ``Mirror.commit``."""
        return self._loop.call(self._mirror.commit)

    def open(self, path: AnyPath, mode: str = "r", permissions: int = 0o666) -> BlockingFile:
        """See ``Mirror.open``."""
        return BlockingFile(self._loop.call(self._mirror.open, path, mode, permissions), self._loop)

    def mkdir(self, path: AnyPath, permissions: int = 0o777) -> None:
        """See ``Mirror.mkdir``."""
        self._loop.call(self._mirror.mkdir, path, permissions)

    def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """See ``Mirror.symlink``."""
        self._loop.call(self._mirror.symlink, target, path)

    def link(self, path: AnyPath, to: AnyPath) -> None:
        """See ``Mirror.link``."""
        self._loop.call(self._mirror.link, path, to)

    def rename(self, path: AnyPath, to: AnyPath) -> None:
        """See ``Mirror.rename``."""
        self._loop.call(self._mirror.rename, path, to)

    def unlink(self, path: AnyPath) -> None:
        """See ``Mirror.unlink``."""
        self._loop.call(self._mirror.unlink, path)

    def rmdir(self, path: AnyPath) -> None:
        """See ``Mirror.rmdir``."""
        self._loop.call(self._mirror.rmdir, path)

    def chmod(self, path: AnyPath, mode: int) -> None:
        """See ``Mirror.chmod``."""
        self._loop.call(self._mirror.chmod, path, mode)

    def chown(self, path: AnyPath, uid: int, gid: int) -> None:
        """See ``Mirror.chown``."""
        self._loop.call(self._mirror.chown, path, uid, gid)

    def utime(self, path: AnyPath, atime_ns: int, mtime_ns: int) -> None:
        """See ``Mirror.utime``."""
        self._loop.call(self._mirror.utime, path, atime_ns, mtime_ns)

    def setxattr(self, path: AnyPath, name: str | bytes, value: bytes) -> None:
        """See ``Mirror.setxattr``."""
        self._loop.call(self._mirror.setxattr, path, name, value)

    def removexattr(self, path: AnyPath, name: str | bytes) -> None:
        """See ``Mirror.removexattr``."""
        self._loop.call(self._mirror.removexattr, path, name)

    def stat(self, path: AnyPath = "") -> os.stat_result:
        """See ``Mirror.stat``."""
        return self._loop.call(self._mirror.stat, path)

    def listdir(self, path: AnyPath = "") -> list[str]:
        """See ``Mirror.listdir``."""
        return self._loop.call(self._mirror.listdir, path)
