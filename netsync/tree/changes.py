"""Whether anything below a directory has changed, told by the kernel (inotify).

inotify watches single directories, so a tree is as many watches, and a directory that appears is
watched from when we hear of it. What happened in it until then is unheard, but a change is told
only after the watches are placed: so whoever looks when told sees all of that, and what happens
later is heard. The same holds for directories that are moved, whose watches are placed anew.
Two things end a watch: a queue that overflowed, and a root that was deleted, moved or unmounted.
Then everything must count as changed, and whoever still cares begins anew. Directories are watched
by the descriptor they were opened with, component by component, through no link. What may not be
read is not watched, since it cannot be fetched either. netsync's own names are no change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio
from inotify_simple import INotify, flags

from netsync.errors import reason
from netsync.names import is_reserved, join
from netsync.tree.directories import Directories

_MASK: Final = int(
    flags.CREATE | flags.DELETE | flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB
    | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF
    | flags.EXCL_UNLINK | flags.ONLYDIR
)  # fmt: skip
_NEW: Final = flags.CREATE | flags.MOVED_TO
_GONE: Final = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED
_LIMIT: Final = Path("/proc/sys/fs/inotify/max_user_watches")


class Changes:
    """Watches directories ``roots``, given as descriptors that are the caller's.

    ``trouble`` says why not everything is watched, ``ended`` that the watch has to begin anew. One
    task may wait at a time.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self.ended = False
        self._changed = False
        self._roots: list[Directories] = []
        self._inotify: INotify | None = None
        self._watched: dict[int, tuple[int, bytes]] = {}
        """Watch descriptors to the root's place and the path below it."""

    @classmethod
    async def below(cls, roots: Sequence[int]) -> Changes:
        """Return a watch on these directories and all below them."""
        changes = cls()
        try:
            await trio.to_thread.run_sync(changes._begin, roots)
        except BaseException:
            changes.close()
            raise
        return changes

    def close(self) -> None:
        """Watch no more."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        for root in self._roots:
            root.close()
            os.close(root.root)
        self._roots = []

    async def wait(self) -> None:
        """Return once something has changed since this returned the last time."""
        while not self._changed:
            assert self._inotify is not None
            await trio.lowlevel.wait_readable(self._inotify.fileno())
            await trio.to_thread.run_sync(self._read)
        self._changed = False

    async def gather(self) -> None:
        """Take what has changed until now for told."""
        await trio.to_thread.run_sync(self._read)
        self._changed = False

    def _begin(self, roots: Sequence[int]) -> None:
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            self.trouble = (
                f"the server cannot watch: {reason(error)} "
                "(raise fs.inotify.max_user_instances there)"
            )
            return
        for number, root in enumerate(roots):
            self._roots.append(Directories(os.dup(root)))
            self._add(number, b"")

    def _add(self, root: int, top: bytes) -> None:
        """Watch the directory ``top`` and all below it."""
        pending = [top]
        while pending and not self.trouble:
            path = pending.pop()
            try:
                pending += self._add_one(root, path)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.trouble = self._too_few()
                elif not path and error.errno != errno.ENOENT:
                    self.trouble = f"the server cannot watch: {reason(error)}"
                # what is gone, no directory any more, or not ours to read needs no watch

    def _add_one(self, root: int, path: bytes) -> list[bytes]:
        """Watch one directory; return those in it, read after the watch was placed."""
        assert self._inotify is not None
        fd = self._roots[root].fd(path)
        wd = self._inotify.add_watch(f"/proc/self/fd/{fd}", _MASK)
        self._watched[wd] = root, path
        with os.scandir(fd) as entries:
            names = [os.fsencode(each.name) for each in entries if _is_directory(each)]
        return [join(path, name) for name in names if not is_reserved(name)]

    def _too_few(self) -> str:
        limit = ""
        with contextlib.suppress(OSError):
            limit = f" ({_LIMIT.read_text().strip()})"
        return (
            f"the server has too few inotify watches for this tree{limit}: "
            f"{len(self._watched)} directories got one (raise fs.inotify.max_user_watches there)"
        )

    def _read(self) -> None:
        """Take what the kernel has to tell."""
        assert self._inotify is not None
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                self.ended = self._changed = True
                continue
            root, path = self._watched.get(event.wd, (0, None))
            if event.mask & flags.IGNORED:
                self._watched.pop(event.wd, None)
            if path is None:
                continue
            if not path and event.mask & _GONE:
                self.ended = self._changed = True
                continue
            name = os.fsencode(event.name)
            if is_reserved(name) or event.mask & flags.IGNORED:
                continue
            if event.mask & flags.ISDIR and name:
                self._moved(event.mask, root, join(path, name))
            self._changed = True

    def _moved(self, mask: int, root: int, path: bytes) -> None:
        """Follow a directory that came or went."""
        self._roots[root].forget(path)
        if mask & flags.MOVED_FROM:
            self._drop(root, path)
        elif mask & _NEW:
            self._add(root, path)

    def _drop(self, root: int, top: bytes) -> None:
        assert self._inotify is not None
        below = top + b"/"
        for wd, (where, path) in list(self._watched.items()):
            if where == root and (path == top or path.startswith(below)):
                del self._watched[wd]
                with contextlib.suppress(OSError):
                    self._inotify.rm_watch(wd)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def watchable(fd: int, name: bytes) -> int:
    """Return a new descriptor of what to watch for a source: a directory, or a file's.

    ``name`` is an entry of directory ``fd``, or empty for all in it. Raises ``OSError``.
    """
    if name and stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        with Directories(fd) as directories:
            return os.dup(directories.fd(name))
    return os.dup(fd)
