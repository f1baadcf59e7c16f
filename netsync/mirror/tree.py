"""What a program changes in a mirror through the Python API, by path.

The same as a mount does, with the same parts: ``Naming`` and ``Attributes`` change the backing
directory and note it, in one step. A path is looked up one component at a time for each call, and
forgotten behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from netsync.mirror.attributes import Attributes, Wanted
from netsync.mirror.backing import Backing, failed
from netsync.mirror.dirty import Dirty
from netsync.mirror.files import Files, OpenFile, Safety
from netsync.mirror.naming import Caller, Naming
from netsync.mirror.nodes import Node
from netsync.mirror.noting import Notes
from netsync.mirror.opened_file import MirrorFile, Opened
from netsync.oplog.log import Log
from netsync.tree.capability import capability
from netsync.tree.scan import names_in

_MODES: Final = {
    "r": os.O_RDONLY, "r+": os.O_RDWR, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC, "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "x+": os.O_RDWR | os.O_CREAT | os.O_EXCL, "a": os.O_WRONLY | os.O_CREAT,
    "a+": os.O_RDWR | os.O_CREAT,
}  # fmt: skip


class Tree:
    """The mirrored directory ``root``, which stays the caller's, and its ``log``."""

    def __init__(self, root: int, log: Log) -> None:
        self._backing = Backing(root)
        notes = Notes(self._backing, log, _nobody_caches)
        self._log = log
        self._attributes = Attributes(self._backing, notes)
        self._naming = Naming(self._backing, notes)
        self._files = Files(self._backing, notes, self._attributes, Safety())
        self._caller = Caller(os.geteuid(), os.getegid(), capability().umask)
        self._dirty = Dirty(root)

    def close(self) -> None:
        """Let go of every descriptor but those of open files."""
        self._dirty.close()
        self._backing.close()

    def flushing(self) -> Callable[[], None]:
        """Return what makes all that was changed so far durable here, in a thread, once."""
        return self._dirty.taken()

    def open(self, path: bytes, mode: str, permissions: int) -> MirrorFile:
        """Open a regular file. There is room in the log, if ``mode`` may change something."""
        flags = _MODES.get(mode.replace("b", ""))
        if flags is None:
            raise ValueError(f"{mode!r} is no mode for a file of bytes")
        with self._parent(path) as (parent, name):
            try:
                node, status = self._backing.look_up(parent, name)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
                fd, made = self._naming.create(parent, name, permissions, self._caller)
                self._changed(parent)
                self._dirty.add(made.node, fd)
                return self._file(self._files.adopt(fd, made.node), made.node, mode)
            try:
                if flags & os.O_EXCL:
                    raise failed(errno.EEXIST)
                if not stat.S_ISREG(status.st_mode):
                    raise failed(errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL)
                file = self._files.open(node, flags & (os.O_ACCMODE | os.O_TRUNC), self._caller)
            except BaseException:
                self._forget(node)
                raise
            if flags & os.O_TRUNC:
                self._dirty.add(node, file.fd)
            return self._file(file, node, mode)

    def _file(self, file: OpenFile, node: Node, mode: str) -> MirrorFile:
        def release() -> None:
            for fd in (*self._files.close(file), *self._backing.forget([(node.number, 1)])):
                os.close(fd)

        return MirrorFile(
            Opened(file, self._files, self._attributes, self._dirty, self._caller), self._log,
            release, at_end=mode.startswith("a"),
        )  # fmt: skip

    def mkdir(self, path: bytes, permissions: int) -> None:
        """Create a directory."""
        with self._parent(path) as (parent, name):
            made = self._naming.mkdir(parent, name, permissions, self._caller)
            self._changed(parent)
            self._changed(made.node)
            self._forget(made.node)

    def symlink(self, target: bytes, path: bytes) -> None:
        """Create a symbolic link."""
        with self._parent(path) as (parent, name):
            made = self._naming.symlink(parent, name, target, self._caller)
            self._changed(parent)
            self._forget(made.node)

    def link(self, path: bytes, to: bytes) -> None:
        """Give a file one more name."""
        with self._found(path) as node, self._parent(to) as (parent, name):
            made = self._naming.link(node, parent, name)
            self._changed(parent)
            self._forget(made.node)

    def rename(self, path: bytes, to: bytes) -> None:
        """Rename, in the place of what ``to`` is."""
        with self._parent(path) as (source, name), self._parent(to) as (target, new_name):
            self._naming.rename(source, name, target, new_name, 0)
            self._changed(source)
            self._changed(target)

    def unlink(self, path: bytes) -> None:
        """Take a name from what is no directory."""
        with self._parent(path) as (parent, name):
            self._naming.unlink(parent, name)
            self._changed(parent)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty directory."""
        with self._parent(path) as (parent, name):
            self._naming.rmdir(parent, name)
            self._changed(parent)

    def set(self, path: bytes, **wanted: int) -> None:
        """Set what ``Wanted`` names."""
        with self._found(path) as node:
            self._attributes.set(node, Wanted(**wanted), self._caller)
            self._changed(node)

    def set_xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""
        with self._found(path) as node:
            self._attributes.set_xattr(node, name, value)
            self._changed(node)

    def remove_xattr(self, path: bytes, name: bytes) -> None:
        """Remove an extended attribute."""
        with self._found(path) as node:
            self._attributes.remove_xattr(node, name)
            self._changed(node)

    def stat(self, path: bytes) -> os.stat_result:
        """Return what is known of a path."""
        with self._found(path) as node:
            return self._backing.status(node)

    def names(self, path: bytes) -> list[str]:
        """Return the names in a directory."""
        with self._found(path) as node:
            return [os.fsdecode(name) for name in names_in(self._backing.directory(node))[0]]

    def _changed(self, node: Node) -> None:
        """Remember that ``node`` is to be flushed, if it can be opened: links and FIFOs cannot."""
        kind = stat.S_IFMT(self._backing.status(node).st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFREG):
            return
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECTORY if kind == stat.S_IFDIR else 0)
        fd = self._backing.open(node, flags)
        try:
            self._dirty.add(node, fd)
        finally:
            os.close(fd)

    def _forget(self, *nodes: Node) -> None:
        for fd in self._backing.forget([(node.number, 1) for node in nodes]):
            os.close(fd)

    @contextlib.contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[Node, bytes]]:
        """Hold the directory that the last name of ``path`` is in."""
        above, _, name = path.rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            raise failed(errno.EINVAL)
        with self._found(above) as parent:
            yield parent, name

    @contextlib.contextmanager
    def _found(self, path: bytes) -> Iterator[Node]:
        """Hold what is at ``path``."""
        node = self._backing.nodes.root
        held: list[Node] = []
        try:
            for name in path.split(b"/"):
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    raise failed(errno.EINVAL)
                node, _ = self._backing.look_up(node, name)
                held.append(node)
            yield node
        finally:
            self._forget(*reversed(held))


def _nobody_caches(inode: int) -> None:
    """Nothing: there is no kernel that remembers what an inode was like."""
