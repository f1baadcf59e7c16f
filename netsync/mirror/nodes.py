"""The inodes that the kernel knows, and what they are called now.

The kernel speaks of files by number, the log by path. A node stands for one inode of the backing
directory for as long as the kernel may name it, something below it is known, or it is open; it
knows the names that were seen, each a parent and a component. So a rename of a directory moves one
node, and all paths below it follow. Numbers are the backing file system's own: they stay the same
from one mount to the next. No file system hands out a number again while a descriptor holds its
inode, so whoever takes the last name from a node gives it one to ``hold``.

Nothing here touches a disk. The kernel's lookups and forgets must balance, and what is not
needed any more is let go of, parents after their children.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from netsync.names import join

ROOT: Final = 1
"""The kernel's number for the root, whatever the backing directory's is."""
NONE_HELD: Final = -1


class Node:
    """One inode. ``names`` are those that were seen of it, the first of them its path in the log.

    ``changed`` counts its changes and ``synced`` those that were safe when last asked for;
    ``failures`` counts answers that did not come: who opened it before sees an error from then on.
    """

    __slots__ = (
        "changed", "children", "failures", "held", "lookups", "names", "number", "opened", "synced",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.names: dict[tuple[Node, bytes], None] = {}
        self.lookups = 0
        self.children = 0
        self.opened = 0
        self.held = NONE_HELD
        self.changed = 1
        self.synced = 0
        self.failures = 0

    @property
    def is_needed(self) -> bool:
        """Tell whether the kernel, an open file or a node below may still ask for it."""
        return bool(self.lookups or self.children or self.opened)


class Nodes:
    """All nodes by number. ``moves`` changes whenever a path may have changed."""

    def __init__(self) -> None:
        self.root = Node(ROOT)
        self.root.lookups = 1  # the kernel never forgets it
        self.moves = 0
        self._nodes = {ROOT: self.root}

    def __len__(self) -> int:
        return len(self._nodes)

    def find(self, number: int) -> Node:
        """Return the node that the kernel means by ``number``."""
        try:
            return self._nodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def known(self, number: int) -> Node | None:
        """Return the node of inode ``number`` of the backing file system, if it is known."""
        return None if number == ROOT else self._nodes.get(number)

    def name(self, number: int, parent: Node, name: bytes) -> Node:
        """Note that inode ``number`` is called ``name`` in ``parent``, and return its node."""
        node = self._nodes.get(number)
        if node is None:
            node = self._nodes[number] = Node(number)
        key = parent, name
        if key not in node.names:
            node.names[key] = None
            parent.children += 1
            self.moves += 1
        return node

    def unname(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that ``node`` is not called ``name`` in ``parent`` any more."""
        key = parent, name
        if key in node.names:
            del node.names[key]
            parent.children -= 1
            self.moves += 1

    def path(self, node: Node) -> bytes | None:
        """Return the node's path below the root (empty for the root), or None without a name."""
        path = b""
        while node is not self.root:
            if not node.names:
                return None
            node, name = next(iter(node.names))
            path = join(name, path) if path else name
        return path

    def forget(self, node: Node, lookups: int = 0) -> list[Node]:
        """Take back ``lookups`` of the kernel's; return the nodes that nobody needs any more."""
        node.lookups -= lookups
        dropped = []
        pending = [node]
        while pending:
            node = pending.pop()
            if node.is_needed or self._nodes.get(node.number) is not node:
                continue
            del self._nodes[node.number]
            dropped.append(node)
            for parent, _ in node.names:
                parent.children -= 1
                pending.append(parent)
            node.names.clear()
        return dropped
