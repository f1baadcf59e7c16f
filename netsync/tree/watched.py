"""A directory that is watched: what changed in it, told as it happens.

One task listens; anybody may have what waits in the kernel taken at once (``drain``), after which
all that was done before the call has been told. The kernel tells of what happens to directories,
not of another one in their place (a mount above, a parent that was moved), so whoever needs to
know asks whether the path still leads here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from netsync.errors import NetsyncError, RootError, reason, root_error
from netsync.tree.directories import OPEN_DIRECTORY, identity_of
from netsync.tree.mounts import mounts_below
from netsync.tree.notify import Changed, Notifier, limit_words
from netsync.tree.roots import SourceRoot, local_anchor, local_path, open_source
from netsync.tree.threads import in_thread

_MOVE_SECONDS: Final = 0.05
"""How long the second half of a move may be on its way."""
_READS: Final = 4
"""How often it is waited for while others go on moving."""

Hear = Callable[[Sequence[Changed]], None]
"""Takes what changed, in order. Must not block: it is called between two looks."""


class WatchedDirectory:
    """The directory at ``path`` (bytes, of an operator) and what happens below it.

    ``root`` is its descriptor; ``lost`` says why it is not watched any more.
    """

    def __init__(self, path: bytes, hear: Hear, leaves_out: Callable[[bytes], bool]) -> None:
        self.root = -1
        self._path = path
        self._identity = (0, 0)
        self._mounts: Mapping[int, bytes] = {}
        self._hear = hear
        self._leaves_out = leaves_out
        self._notifier: Notifier | None = None
        self._reading = trio.Lock()
        self._uncovered: frozenset[bytes] = frozenset()
        """As of the last read: another thread may be at the notifier's own."""

    async def open(self) -> None:
        """Begin to watch. Raises ``RootError``; ``aclose`` is the caller's in any case."""
        await in_thread(self._open)

    async def aclose(self) -> None:
        """Watch no more, once nobody reads any more."""
        with trio.CancelScope(shield=True):
            async with self._reading:
                self._close()

    def _close(self) -> None:
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None
        if self.root >= 0:
            os.close(self.root)
            self.root = -1

    def source(self) -> SourceRoot:
        """Return it as what a transfer sends; its descriptor stays ours."""
        return SourceRoot(self.root, b"", b"")

    @property
    def lost(self) -> str:
        """Why it is not watched any more; empty while it is."""
        return self._watching.lost

    @property
    def uncovered(self) -> frozenset[bytes]:
        """The directories that got no watch, with all below them."""
        return self._uncovered

    @property
    def trouble(self) -> str:
        """Why not all of it is watched; empty if all is."""
        if not self._uncovered:
            return ""
        number = len(self._uncovered)
        if self._watching.why.errno != errno.ENOSPC:
            return (
                f"{number} directories cannot be watched ({reason(self._watching.why)}): what is "
                "in them is found by looking"
            )
        most = limit_words("max_user_watches")
        return (
            f"too few inotify watches{most}: {self._watching.watches} directories have one, what "
            f"is in {number} others is found by looking "
            "(raise fs.inotify.max_user_watches)"
        )

    async def listen(self) -> None:
        """Tell what changes, until the directory is lost."""
        while not self.lost:
            await trio.lowlevel.wait_readable(self._watching.fileno())
            await self.drain()

    async def drain(self) -> None:
        """Tell all that has happened by now. A move whose end is not here yet is waited for."""
        async with self._reading:
            for _ in range(_READS):
                if self._notifier is None:
                    return
                found = await in_thread(self._notifier.read)
                self._uncovered = frozenset(self._notifier.uncovered)
                if found:
                    self._hear(found)
                if not self._notifier.is_waiting:
                    return
                await trio.sleep(_MOVE_SECONDS)

    async def cover_more(self) -> None:
        """Try once more to watch what got no watch."""
        async with self._reading:
            await in_thread(self._watching.cover)
            self._uncovered = frozenset(self._watching.uncovered)

    async def heed_mounts(self) -> bool:
        """Watch what has been mounted inside meanwhile; tell whether anything has been, or is not
        any more.

        What is below a file system that was unmounted is watched again too.
        """
        async with self._reading:
            if self._notifier is None:
                return False
            before, self._mounts = self._mounts, _mounts_in(self.root)
            if before == self._mounts:
                return False
            await in_thread(self._notifier.cover)
            self._uncovered = frozenset(self._notifier.uncovered)
            changed = self._mounts.items() ^ before.items()
            return any(not self._is_left_out(path) for _, path in changed)

    def _is_left_out(self, path: bytes) -> bool:
        """Tell whether ``path``, or a directory above it, takes no part."""
        parts = path.split(b"/")
        return any(self._leaves_out(b"/".join(parts[: n + 1])) for n in range(len(parts)))

    async def is_where_it_was(self) -> bool:
        """Tell whether its path still leads to it."""
        return await in_thread(self._leads_here)

    @property
    def _watching(self) -> Notifier:
        assert self._notifier is not None
        return self._notifier

    def _open(self) -> None:
        self.root = self._opened()
        self._identity = identity_of(self.root)
        self._mounts = _mounts_in(self.root)
        try:
            self._notifier = Notifier(self.root, self._leaves_out)
            self._notifier.cover()
            self._uncovered = frozenset(self._notifier.uncovered)
        except OSError as error:
            hint = f"raise fs.inotify.max_user_instances{limit_words('max_user_instances')}"
            raise RootError(reason(error), op="watch", where=self._path, hint=hint) from error
        if not self._notifier.watches and not self._notifier.uncovered:
            raise RootError("it may not be read", op="watch", where=self._path)

    def _opened(self) -> int:
        with local_anchor() as anchor:
            source = open_source(anchor, local_path(self._path), b"")
            if not source.name:
                return source.fd
            try:
                return os.open(source.name, OPEN_DIRECTORY, dir_fd=source.fd)
            except OSError as error:
                raise root_error(error, op="watch", where=self._path) from error
            finally:
                os.close(source.fd)

    def _leads_here(self) -> bool:
        try:
            fd = self._opened()
        except NetsyncError:
            return False
        try:
            return identity_of(fd) == self._identity
        finally:
            os.close(fd)


def _mounts_in(fd: int) -> Mapping[int, bytes]:
    """Return what is mounted in a directory, nothing where /proc does not tell."""
    try:
        return mounts_below(fd)
    except OSError:
        return {}
