"""What a program has changed in a mirror and nobody has flushed yet.

Up to ``DIRTY_MAX`` files and directories are remembered, each by a descriptor from before its
flush, which is told of errors. Beyond that the whole file system is flushed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from netsync.mirror.nodes import Node
from netsync.tree.durable import EACH_MAX, flush, sync_file_system

DIRTY_MAX: Final = EACH_MAX
"""Changed files and directories that are flushed one by one, each a descriptor until then."""


class Dirty:
    """What has changed since it was last flushed. ``root`` stays the caller's."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._held: dict[Node, int] = {}
        self._too_many = False

    def close(self) -> None:
        """Let go of descriptors; nothing is flushed."""
        while self._held:
            os.close(self._held.popitem()[1])

    def add(self, node: Node, fd: int) -> None:
        """Remember that ``node``, open as ``fd``, was changed."""
        if node in self._held or self._too_many:
            return
        if len(self._held) >= DIRTY_MAX:
            self._too_many = True
            return
        self._held[node] = os.dup(fd)

    def taken(self) -> Callable[[], None]:
        """Return what flushes all that was changed so far: to be called in a thread, once."""
        held, everything = self._held, self._too_many
        self._held, self._too_many = {}, False

        def flush_all() -> None:
            try:
                if everything:
                    sync_file_system(self._root)
                else:
                    flush(list(held.values()))
            finally:
                for fd in held.values():
                    os.close(fd)

        return flush_all
