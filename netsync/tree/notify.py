"""What the kernel says has changed in a tree: inotify, made recursive.

inotify watches directories, one by one, and tells names in them. What is ours is the recursion.

*Nothing is missed.* A directory is watched before its names are read, and its parent before it is
opened. So whatever is created meanwhile is either found by reading or told by an event, mostly
both; being told twice costs one more look. A new directory is told as a *tree*: all in it is to be
looked at, since some of it may be older than its watch.

*Paths.* A watch stands for an inode, a node for its place; paths are put together from the nodes
when an event is told. Moving a directory inside the tree moves its node and costs nothing; the two
events of a move bear one cookie. One that moves out is not watched any more once the next events
show that nothing with its cookie came in. Directories are opened component by component and
watched through their descriptors, never through their paths.

*Places that change.* While we walk, directories move, and what lies at a path may be another one
than the node stands for. So nothing is walked before all events that wait have been taken; and
before a name in a directory is believed, the directory's watch is asked for once more, which costs
nothing and gives the node's own number only if it is still that one. If not, an event is on its way
that will say where it went, and we try again then.

*What cannot be known.* When the kernel's queue overflows, all of the tree is told as changed, and
every directory is watched anew. Directories that may not be watched (``max_user_watches``) are
``uncovered``: what is in them must be looked at in another way. Writes through memory maps show
when the file is closed, and changes through a hard link outside the tree never.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from inotify_simple import INotify, flags, parse_events

from netsync.names import is_reserved, join
from netsync.tree.directories import ABSENT, Directories

_WATCHED: Final = (
    flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB | flags.CREATE | flags.DELETE
    | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF
    | flags.ONLYDIR | flags.EXCL_UNLINK
)  # fmt: skip
_ENDS_ROOT: Final = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT
_GOES: Final = flags.MOVED_FROM | flags.DELETE
_BUFFER: Final = 256 * 1024
"""Bytes of events read at once: some thousand."""
_READS: Final = 64
"""Buffers read before anything else is done: all that the kernel queues by default."""


class Changed(NamedTuple):
    """One path that changed; with ``tree`` all below it may have.

    ``writing`` says that a file was written to and not closed yet, ``before`` what it was called
    until it was moved here, ``came`` that the name is new and nobody knows of what, ``went`` that
    it was taken away.
    """

    path: bytes
    tree: bool = False
    writing: bool = False
    before: bytes | None = None
    came: bool = False
    went: bool = False


_LIMITS: Final = Path("/proc/sys/fs/inotify")
EVERYTHING: Final = Changed(b"", tree=True)


class _Node:
    """A watched directory and its place. ``is_holed`` if it moved with some in it not watched."""

    __slots__ = ("below", "is_holed", "name", "parent", "wd")

    def __init__(self, wd: int, parent: _Node | None, name: bytes) -> None:
        self.wd = wd
        self.parent = parent
        self.name = name
        self.below: dict[bytes, _Node] = {}
        self.is_holed = False


class Notifier:
    """Watches the tree below ``root``, a directory descriptor that stays the caller's.

    Directories for whose path ``leaves_out`` is true are not looked into. ``uncovered`` are paths
    of directories that cannot be watched, with all below them, ``why`` the last one could not;
    ``lost`` is why the root itself is
    not watched any more. Methods may run in worker threads, one at a time. Raises ``OSError``
    where there can be no watching at all (``EMFILE``: ``max_user_instances``).
    """

    def __init__(self, root: int, leaves_out: Callable[[bytes], bool] = lambda _: False) -> None:
        self.uncovered: set[bytes] = set()
        self.why = OSError(errno.ENOSPC, "too few watches")
        self.lost = ""
        self._root = root
        self._leaves_out = leaves_out
        self._inotify = INotify(nonblocking=True)
        self._nodes: dict[int, _Node] = {}
        self._moving: dict[int, _Node] = {}
        self._moving_before: dict[int, _Node] = {}
        self._left: dict[int, bytes] = {}
        self._left_before: dict[int, bytes] = {}
        self._new: dict[tuple[_Node, bytes], None] = {}
        self._top = _Node(-1, None, b"")
        self._overflowed = False

    def close(self) -> None:
        """Watch no more."""
        self._inotify.close()
        self._nodes.clear()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something changed."""
        return int(self._inotify.fileno())

    @property
    def watches(self) -> int:
        """The number of directories watched."""
        return len(self._nodes)

    def cover(self) -> None:
        """Watch every directory of the tree, and none that is not in it any more."""
        self.uncovered.clear()
        before = dict(self._nodes)
        self._new.clear()
        for wd in self._cover(None, b""):
            before.pop(wd, None)
        for node in before.values():
            self._unhook(node)
            self._unwatch(node)

    def read(self) -> list[Changed]:
        """Return what changed since the last call, in order; empty if nothing did."""
        self._moving_before, self._moving = self._moving, {}
        self._left_before, self._left = self._left, {}
        found: list[Changed] = []
        for event in self._events():
            self._take(event.wd, event.mask, event.cookie, os.fsencode(event.name), found)
        found += self._cover_new()
        for node in self._moving_before.values():
            if node.parent is None:  # else it was found where it went
                self._drop(node)
        self._moving_before = {}
        if self._overflowed:
            self._overflowed = False
            self.cover()
            return [EVERYTHING]
        return found

    @property
    def is_waiting(self) -> bool:
        """Tell whether a move may still be completed: read again soon."""
        return bool(self._moving)

    def _events(self) -> Iterator[Any]:
        for _ in range(_READS):
            try:
                data = os.read(self.fileno(), _BUFFER)
            except BlockingIOError:
                return
            yield from parse_events(data)

    def _take(self, wd: int, mask: int, cookie: int, name: bytes, found: list[Changed]) -> None:
        if mask & flags.Q_OVERFLOW:
            self._overflowed = True
            return
        node = self._nodes.get(wd)
        if node is None:
            return
        if mask & flags.IGNORED:
            self._unhook(node)
            return
        if mask & _ENDS_ROOT:
            if node is self._top:
                self.lost = "it was moved, deleted or unmounted"
            return
        if is_reserved(name):
            return
        directory = self._path(node)
        if directory is None:
            return  # on its way, or out of the tree
        path = join(directory, name) if name else directory
        if mask & flags.MOVED_FROM:
            self._left[cookie] = path
        if mask & flags.ISDIR and name:
            self._directory(node, name, path, mask, cookie, found)
        else:
            before = self._came_from(cookie) if mask & flags.MOVED_TO else None
            came = before is None and bool(mask & (flags.MOVED_TO | flags.CREATE))
            went = bool(mask & _GOES)
            writing = bool(mask & flags.MODIFY)
            found.append(Changed(path, writing=writing, before=before, came=came, went=went))

    def _came_from(self, cookie: int) -> bytes | None:
        """Return what something was called before it was moved; None if it came from elsewhere."""
        return self._left.pop(cookie, None) or self._left_before.pop(cookie, None)

    def _directory(
        self, above: _Node, name: bytes, path: bytes, mask: int, cookie: int, found: list[Changed]
    ) -> None:
        """A directory in ``above`` came, went or changed."""
        if mask & _GOES:
            node = above.below.pop(name, None)
            holed = self._uncover(path)
            if node is not None:
                node.parent = None
                node.is_holed = holed
                if mask & flags.MOVED_FROM:
                    self._moving[cookie] = node
                else:
                    self._drop(node)
            found.append(Changed(path, went=True))
        elif mask & (flags.MOVED_TO | flags.CREATE):
            moved = self._moving.pop(cookie, None) or self._moving_before.pop(cookie, None)
            if moved is not None and mask & flags.MOVED_TO:
                self._hook(moved, above, name)
            if moved is None or moved.is_holed:  # what has no watch there is told again as such
                self._new[above, name] = None
            before = self._came_from(cookie)
            found.append(Changed(path, tree=True, before=before, came=before is None))
        else:
            found.append(Changed(path))

    def _path(self, node: _Node) -> bytes | None:
        """Return the path of a directory below the root, None if it is not in the tree now."""
        parts: list[bytes] = []
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts)) if node is self._top else None

    def _cover_new(self) -> list[Changed]:
        """Watch directories that came; return those that had to wait for it until now."""
        new, self._new = self._new, {}
        late: list[Changed] = []
        for above, name in new:
            path = self._path(above)
            if path is None:
                if above.wd in self._nodes:
                    self._new[above, name] = None  # it is moving
                continue
            self._cover(above, name)
            if (above, name) not in self._new:
                late.append(Changed(join(path, name), tree=True, came=True))
        return late

    def _cover(self, above: _Node | None, name: bytes) -> list[int]:
        """Watch the directory ``name`` in ``above`` (None: the root) and all below it.

        Returns the watches.
        """
        covered: list[int] = []
        with Directories(self._root) as directories:
            stack = [(above, name)]
            while stack:
                parent, name = stack.pop()
                path = b"" if parent is None else self._path(parent)
                if path is None:
                    continue
                path = join(path, name) if name else path
                if path and self._leaves_out(path):
                    continue
                try:
                    if parent is not None and not self._is_still(directories, parent):
                        self._new[parent, name] = None
                        continue
                    fd = directories.fd(path)
                    node = self._watch(fd, parent, name)
                    below = [] if node is None else _subdirectories(fd)
                except OSError as error:
                    if error.errno not in ABSENT:
                        self.uncovered.add(path)
                        self.why = error
                    continue  # gone or replaced since: its parent tells
                if node is not None:
                    covered.append(node.wd)
                    stack += [(node, each) for each in below]
        return covered

    def _is_still(self, directories: Directories, node: _Node) -> bool:
        """Tell whether what lies at the path of a node is its directory."""
        try:
            fd = directories.fd(self._path(node) or b"")
            return bool(self._inotify.add_watch(b"/proc/self/fd/%d" % fd, _WATCHED) == node.wd)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            return False

    def _watch(self, fd: int, parent: _Node | None, name: bytes) -> _Node | None:
        """Watch one directory. Raises ``OSError``."""
        wd = self._inotify.add_watch(b"/proc/self/fd/%d" % fd, _WATCHED)
        node = self._nodes.get(wd)
        if node is None:
            node = self._nodes[wd] = self._top if parent is None else _Node(wd, None, name)
            node.wd = wd
        if parent is not None:
            if node is self._top:
                return None  # a mount of the tree inside itself
            self._hook(node, parent, name)
        return node

    def _hook(self, node: _Node, parent: _Node, name: bytes) -> None:
        """Give a node its place; what had it before is not watched any more."""
        if node.parent is not None and node.parent.below.get(node.name) is node:
            del node.parent.below[node.name]
        before = parent.below.get(name)
        if before is not None and before is not node:
            before.parent = None
            self._drop(before)
        node.parent, node.name = parent, name
        parent.below[name] = node

    def _unhook(self, node: _Node) -> None:
        """Forget a directory that the kernel does not watch any more."""
        self._nodes.pop(node.wd, None)
        if node.parent is not None and node.parent.below.get(node.name) is node:
            del node.parent.below[node.name]
        node.parent = None

    def _drop(self, node: _Node) -> None:
        """Watch a directory and all below it no more."""
        stack = [node]
        while stack:
            node = stack.pop()
            stack += node.below.values()
            if self._nodes.pop(node.wd, None) is not None:
                self._unwatch(node)

    def _unwatch(self, node: _Node) -> None:
        try:
            self._inotify.rm_watch(node.wd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # gone already, with its directory
                raise

    def _uncover(self, path: bytes) -> bool:
        """Forget what could not be watched at ``path`` and below: it is not there any more.

        Tells whether there was any.
        """
        below = path + b"/"
        gone = {each for each in self.uncovered if each == path or each.startswith(below)}
        self.uncovered -= gone
        return bool(gone)


def _subdirectories(fd: int) -> list[bytes]:
    """Return the names of the directories in one, but for netsync's own."""
    with os.scandir(fd) as entries:
        names = [os.fsencode(each.name) for each in entries if each.is_dir(follow_symlinks=False)]
    return [name for name in names if not is_reserved(name)]


def limit_words(name: str) -> str:
    """Return, to be put behind what there is too little of, how much the kernel grants."""
    try:
        return f" ({(_LIMITS / name).read_text().strip()})"
    except OSError:
        return ""
