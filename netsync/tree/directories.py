"""Held directory descriptors: how a relative path becomes a place to work in.

A path from a peer is never handed to the kernel as a path. It is walked component by component
from the root's descriptor, each opened ``O_NOFOLLOW|O_DIRECTORY`` from its parent, so that a
directory which another process turns into a symbolic link is an error for that path and never a
way out. Descriptors are kept in a least-recently-used cache of bounded size; each worker owns a
cache of its own, so none is shared between threads.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from types import TracebackType
from typing import Final

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""There is nothing under a path: it, or a directory on the way, is gone or something else."""
HELD_MAX: Final = 16
"""Descriptors one cache holds. A target has four caches, a source two for each of its roots."""


def identity_of(fd: int) -> tuple[int, int]:
    """Return by what an open file is told from all others: its device's number and its own."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


class Directories:
    """Descriptors for directories below one root, opened on demand and reused.

    ``root`` stays the caller's: it is not closed here.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._held: OrderedDict[bytes, int] = OrderedDict()

    def __enter__(self) -> Directories:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every descriptor."""
        while self._held:
            os.close(self._held.popitem()[1])

    def fd(self, path: bytes) -> int:
        """Return a descriptor for the directory at ``path`` (empty for the root).

        It is valid until the next call. Raises ``OSError`` (``ELOOP`` or ``ENOTDIR`` where a
        component is a link or no directory).
        """
        if not path:
            return self.root
        held = self._held.get(path)
        if held is not None:
            self._held.move_to_end(path)
            return held
        parent, _, name = path.rpartition(b"/")
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=self._walk(parent))
        self._hold(path, fd)
        return fd

    def _walk(self, path: bytes) -> int:
        """Open the missing components of ``path`` one below the other."""
        missing: list[bytes] = []
        while path and path not in self._held:
            path, _, name = path.rpartition(b"/")
            missing.append(name)
        fd = self._held[path] if path else self.root
        if path:
            self._held.move_to_end(path)
        for name in reversed(missing):
            path = path + b"/" + name if path else name
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
            self._hold(path, fd)
        return fd

    def _hold(self, path: bytes, fd: int) -> None:
        self._held[path] = fd
        if len(self._held) > HELD_MAX:
            os.close(self._held.popitem(last=False)[1])

    def forget(self, path: bytes) -> None:
        """Drop ``path`` and all below it: the directory is about to be replaced or removed."""
        below = path + b"/"
        for held in [p for p in self._held if p == path or p.startswith(below)]:
            os.close(self._held.pop(held))
