"""Finding the names of a file that the kernel knows by one only.

A file with several names may be opened by one of them, lose that one, and be written all the same.
The log must say under which name, and nobody may have looked at the others yet. Only then the tree
is searched for its number, in a worker thread; what was found is looked at again, since names may
have changed meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

import trio

from netsync.mirror.backing import Backing, failed
from netsync.mirror.nodes import Node
from netsync.names import is_reserved
from netsync.tree.directories import OPEN_DIRECTORY

_TRIES: Final = 5
"""Searches of a tree that changes under them, before it is given up."""

Steps = tuple[tuple[int, bytes], ...]
"""A path from the root: number and name of each component."""


async def learn_names(backing: Backing, node: Node) -> None:
    """Have ``node`` know one more name than it does, if it has one. Raises ``OSError``."""
    for _ in range(_TRIES):
        known = len(node.names)
        found = await trio.to_thread.run_sync(_search, backing.root, backing.device, node.number)
        paths = [steps for steps in found if _take(backing, steps)]
        if len(paths) == len(found) or len(node.names) > known:
            return
    raise failed(errno.EBUSY)


def _take(backing: Backing, steps: Steps) -> bool:
    """Note a name that was found, and tell whether it is still there."""
    nodes = backing.nodes
    parent = nodes.root
    passed: list[Node] = []
    try:
        for number, name in steps:
            if backing.status_of(parent, name).st_ino != number:
                return False
            parent = nodes.name(number, parent, name)
            passed.append(parent)
    except OSError:
        return False
    finally:
        for each in reversed(passed):
            for fd in backing.release(each):  # what leads to nothing known is not kept
                os.close(fd)
    return True


def _search(root: int, device: int, number: int) -> list[Steps]:
    fd = os.open(".", OPEN_DIRECTORY, dir_fd=root)
    try:
        return list(_below(fd, device, number, ()))
    finally:
        os.close(fd)


def _below(fd: int, device: int, number: int, above: Steps) -> Iterator[Steps]:
    with os.scandir(fd) as entries:
        found = [(entry.inode(), os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
                 for entry in entries]  # fmt: skip
    for inode, name, is_directory in found:
        if is_reserved(name):
            continue
        if inode == number:
            yield (*above, (inode, name))
        if is_directory:
            try:
                inner = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
            except OSError:
                continue  # it has gone, or is not ours to read
            try:
                if os.fstat(inner).st_dev == device:
                    yield from _below(inner, device, number, (*above, (inode, name)))
            finally:
                os.close(inner)
