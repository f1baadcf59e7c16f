"""Whether anything below some directories has changed: notifiers, waited for.

A watch of several trees as one, for somebody who wants to know that something changed and not
what. A change is told after everything that came is watched, so whoever looks when told sees all
of what was unheard, and what happens later is heard.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

import trio

from netsync.errors import reason
from netsync.tree.directories import Directories
from netsync.tree.notify import Notifier, limit_words
from netsync.tree.threads import in_thread


class Changes:
    """Watches trees. ``below`` makes one; it is closed by whoever had it made.

    ``trouble`` says why not everything is watched; ``ended`` that a root is not where it was, so
    that the watch has to begin anew. One task may wait at a time.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self.ended = False
        self._changed = False
        self._roots: list[int] = []
        self._notifiers: list[Notifier] = []

    @classmethod
    async def below(cls, roots: Sequence[int]) -> Changes:
        """Return a watch on these directories, given as descriptors, and all below them."""
        changes = cls()
        try:
            await in_thread(changes._begin, roots)
        except BaseException:
            changes.close()
            raise
        return changes

    def close(self) -> None:
        """Watch no more."""
        while self._notifiers:
            self._notifiers.pop().close()
        while self._roots:
            os.close(self._roots.pop())

    async def wait(self) -> None:
        """Return once something has changed since this returned the last time."""
        while not self._changed:
            await self._readable()
            await in_thread(self._read)
        self._changed = False

    async def gather(self) -> None:
        """Take what has changed until now for told."""
        await in_thread(self._read)
        self._changed = False

    async def _readable(self) -> None:
        """Wait until any of the notifiers has something to tell."""
        async with trio.open_nursery() as nursery:

            async def wait_for(notifier: Notifier) -> None:
                await trio.lowlevel.wait_readable(notifier.fileno())
                nursery.cancel_scope.cancel()

            for notifier in self._notifiers:
                nursery.start_soon(wait_for, notifier)

    def _begin(self, roots: Sequence[int]) -> None:
        try:
            for root in roots:
                self._roots.append(os.dup(root))
                self._notifiers.append(Notifier(self._roots[-1]))
                self._notifiers[-1].cover()
        except OSError as error:
            why = f"the server cannot watch: {reason(error)}"
            self.trouble = f"{why} (raise fs.inotify.max_user_instances there)"
        self._look()

    def _read(self) -> None:
        """Take what the kernel has to tell, also when that was about nothing of ours."""
        for notifier in self._notifiers:
            self._changed |= bool(notifier.read())
        self._look()

    def _look(self) -> None:
        """See whether all is watched still."""
        if any(notifier.lost for notifier in self._notifiers):
            self.ended = self._changed = True
        watches = sum(notifier.watches for notifier in self._notifiers)
        short = [notifier for notifier in self._notifiers if notifier.uncovered]
        if short and short[0].why.errno != errno.ENOSPC:
            self.trouble = f"the server cannot watch all of this tree: {reason(short[0].why)}"
        elif short:
            limit = limit_words("max_user_watches")
            self.trouble = (
                f"the server has too few inotify watches for this tree{limit}, {watches} "
                "directories got one (raise fs.inotify.max_user_watches there)"
            )
        elif not self.trouble and not all(notifier.watches for notifier in self._notifiers):
            self.trouble = "the server cannot watch: it may not read the directory"


def watchable(fd: int, name: bytes) -> int:
    """Return a new descriptor of what to watch for a source: a directory, or a file's.

    ``name`` is an entry of directory ``fd``, or empty for all in it. Raises ``OSError``.
    """
    if name and stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        with Directories(fd) as directories:
            return os.dup(directories.fd(name))
    return os.dup(fd)
