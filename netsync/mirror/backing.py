"""The backing directory: where the mount's files really are.

Everything is reached from the held root, one component at a time, and no link is followed: what
the kernel calls a directory must be one here as well. A node's inode is checked whenever its name
is used; if something else is there, somebody changed the directory behind the mount's back, and
the answer is ESTALE. Only one file system is seen: what is mounted inside the directory is not
mirrored, and cannot be entered.

Directory descriptors are kept in a bounded cache. One stays valid when the directory is renamed,
and is let go of when it is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from netsync.mirror.nodes import NONE_HELD, ROOT, Node, Nodes
from netsync.names import NAME_MAX, is_reserved
from netsync.tree.cached import is_cached
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.tree.quick_threads import QuickThreads

DIRECTORIES_MAX: Final = 256
"""Directory descriptors kept open between requests."""
FLUSHES_MAX: Final = 40
"""Files flushed at once: as many as trio lends threads."""
OPEN_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def failed(number: int) -> OSError:
    """Return the error that the kernel knows by ``number``."""
    return OSError(number, os.strerror(number))


def by_descriptor(fd: int) -> bytes:
    """Return a path that means what ``fd`` is open on, a link included, and not where it leads."""
    return b"/proc/self/fd/%d" % fd


class Backing:
    """One directory, held open. ``device`` is the file system's number.

    ``flushes`` are the threads in which its files are flushed.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.device = os.fstat(root).st_dev
        self.nodes = Nodes()
        self.nodes.root.held = root
        self._directories: OrderedDict[Node, int] = OrderedDict()
        self.flushes = QuickThreads("netsync flush", FLUSHES_MAX)

    def close(self) -> None:
        """Let go of every descriptor but the root's, and of the threads."""
        self.flushes.close()
        while self._directories:
            os.close(self._directories.popitem()[1])

    def directory(self, node: Node) -> int:
        """Return a descriptor of a directory, valid until the next call. Raises ``OSError``."""
        if node.held != NONE_HELD:
            return node.held
        fd = self._directories.get(node)
        if fd is not None:
            self._directories.move_to_end(node)
            return fd
        missing = [node]
        while (above := self._place(missing[-1])[0]).held == NONE_HELD:
            if above in self._directories:
                break
            missing.append(above)
        for each in reversed(missing):
            above, name = self._place(each)
            fd = self._directories[above] if above.held == NONE_HELD else above.held
            fd = self._checked(each, os.open(name, OPEN_DIRECTORY, dir_fd=fd))
            self._keep(each, fd)
        assert fd is not None
        return fd

    def directories(self, one: Node, other: Node) -> tuple[int, int]:
        """Return descriptors of two directories, valid until the next call."""
        fd = self.directory(one)
        pair = fd, self.directory(other)
        if one.held != fd and self._directories.get(one) != fd:
            raise failed(errno.ENAMETOOLONG)  # deeper than the cache is large
        return pair

    def _keep(self, node: Node, fd: int) -> None:
        self._directories[node] = fd
        if len(self._directories) > DIRECTORIES_MAX:
            os.close(self._directories.popitem(last=False)[1])

    def open(self, node: Node, flags: int) -> int:
        """Open what ``node`` is; the caller closes the descriptor. Raises ``OSError``."""
        if node.held != NONE_HELD:
            return os.open(by_descriptor(node.held), flags & ~os.O_NOFOLLOW)
        parent, name = self._place(node)
        fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=self.directory(parent))
        return self._checked(node, fd)

    @contextlib.contextmanager
    def gripped(self, node: Node) -> Iterator[bytes]:
        """Hold ``node``, whatever it is, and yield a path by which system calls reach it."""
        if node.held != NONE_HELD:
            yield by_descriptor(node.held)
            return
        fd = self.open(node, OPEN_ANYTHING)
        try:
            yield by_descriptor(fd)
        finally:
            os.close(fd)

    def read_link(self, node: Node) -> bytes:
        """Return what the symbolic link ``node`` says. Raises ``OSError``."""
        fd = self.open(node, OPEN_ANYTHING) if node.held == NONE_HELD else node.held
        try:
            return os.readlink(b"", dir_fd=fd)
        finally:
            if fd != node.held:
                os.close(fd)

    def hold(self, node: Node) -> None:
        """Hold ``node``, which is about to lose its last name, until the kernel forgets it."""
        if node.held != NONE_HELD:
            return
        fd = self._directories.pop(node, None)
        node.held = self.open(node, OPEN_ANYTHING) if fd is None else fd

    def let_go(self, node: Node) -> None:
        """Do not hold ``node`` any more: it keeps its name after all."""
        if node.held != NONE_HELD and node is not self.nodes.root:
            os.close(node.held)
            node.held = NONE_HELD

    def status(self, node: Node) -> os.stat_result:
        """Return what the file system says of ``node``. Raises ``OSError``."""
        if node.held != NONE_HELD:
            return os.fstat(node.held)
        parent, name = self._place(node)
        status = os.stat(name, dir_fd=self.directory(parent), follow_symlinks=False)
        if status.st_ino != node.number:
            raise failed(errno.ESTALE)
        return status

    def status_of(self, parent: Node, name: bytes) -> os.stat_result:
        """Return what is called ``name`` in ``parent``. Raises ``OSError``."""
        if is_reserved(name):
            raise failed(errno.ENOENT)
        if len(name) > NAME_MAX:
            raise failed(errno.ENAMETOOLONG)
        status = os.stat(name, dir_fd=self.directory(parent), follow_symlinks=False)
        if status.st_dev != self.device or status.st_ino == ROOT:
            raise failed(errno.EXDEV)  # the kernel would take number 1 for the root
        return status

    def cold(self, parent: Node, name: bytes) -> int | None:
        """Return a descriptor of ``parent`` if looking up ``name`` there may wait for a disk.

        The caller closes it. Raises ``OSError``.
        """
        directory = self.directory(parent)
        return None if is_cached(directory, name) else os.dup(directory)

    def look_up(self, parent: Node, name: bytes) -> tuple[Node, os.stat_result]:
        """Return what is called ``name`` in ``parent``; the kernel knows it from now on."""
        status = self.status_of(parent, name)
        return self.introduce(status, parent, name), status

    def introduce(self, status: os.stat_result, parent: Node, name: bytes) -> Node:
        """Return the node that ``name`` in ``parent`` is; the kernel knows it from now on."""
        node = self.nodes.name(status.st_ino, parent, name)
        node.lookups += 1
        return node

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> list[int]:
        """Take back the kernel's lookups; return descriptors that the caller is to close.

        Closing one may free a file's last blocks, which takes time.
        """
        dropped = [
            node
            for number, lookups in forgotten
            for node in self.nodes.forget(self.nodes.find(number), lookups)
        ]
        return [fd for node in dropped for fd in self._descriptors_of(node)]

    def _descriptors_of(self, node: Node) -> Iterator[int]:
        """Give up the descriptors of a node that is not needed any more."""
        if node.held != NONE_HELD:
            yield node.held
            node.held = NONE_HELD
        if (fd := self._directories.pop(node, None)) is not None:
            yield fd

    def release(self, node: Node) -> list[int]:
        """Note that an open file of ``node`` was closed; as ``forget``."""
        return self.forget([(node.number, 0)])

    def _place(self, node: Node) -> tuple[Node, bytes]:
        """Return where ``node`` is to be found."""
        for place in node.names:
            return place
        raise failed(errno.ESTALE)

    def _checked(self, node: Node, fd: int) -> int:
        if os.fstat(fd).st_ino != node.number:
            os.close(fd)
            raise failed(errno.ESTALE)
        return fd
