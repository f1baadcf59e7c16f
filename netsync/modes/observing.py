"""The source of a watch: held, listened to, found again when it was lost.

What is heard becomes what the watch owes. While a transfer reads from the directory it stays open
(``held``), also if it is lost meanwhile. From the moment at which a directory is watched, a look at
the whole is owed: nobody knows what happened before.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import trio

from netsync.errors import NetsyncError, RootError, unwrapped
from netsync.model import Options
from netsync.modes.owing import HEARD_SECONDS, Owing
from netsync.modes.troubles import About, Troubles, trouble_from
from netsync.names import IGNORE_FILE
from netsync.plan.filters import Filter
from netsync.tree.glance import Glance, glance
from netsync.tree.notify import EVERYTHING, Changed
from netsync.tree.threads import in_thread
from netsync.tree.watched import WatchedDirectory

LOOK_SECONDS: Final = 5.0
"""How often it is seen whether the path still leads to the directory that is watched."""
_GIVEN_UP_SECONDS: Final = 0.1
"""How often it is seen whether a directory in whose place another one is has been given up."""
UNCOVERED_SECONDS: Final = 30.0
"""How often directories that got no watch are looked into."""
COVER_SECONDS: Final = 300.0
"""How often they are tried to be watched again: it means to walk through the tree."""


class Observing:
    """Observes the directory at ``path``; ``directory`` is it while it is watched.

    ``trouble`` says why not all of it is. ``tell`` is called when there is news of either.
    """

    def __init__(
        self, path: bytes, options: Options, owing: Owing, troubles: Troubles,
        steady: Callable[[], float],
    ) -> None:  # fmt: skip
        self.directory: WatchedDirectory | None = None
        self.trouble = ""
        self._path = path
        self._filter = Filter(options.rules)
        self._owing = owing
        self._troubles = troubles
        self._steady = steady
        self._using = trio.Lock()

    async def work(self) -> None:
        """Observe until cancelled."""
        while True:
            directory = WatchedDirectory(self._path, self._hear, self._leaves_out)
            try:
                await self._observe(directory)
            except NetsyncError as error:
                self._troubles.meet(About.SOURCE, trouble_from(error))
            finally:
                with trio.CancelScope(shield=True):
                    async with self._using:
                        self.directory = None
                        await directory.aclose()
            self._owing.bell.ring()
            await trio.sleep(self._troubles.pause(About.SOURCE))

    async def _observe(self, directory: WatchedDirectory) -> None:
        await directory.open()
        began = self._steady()
        self._owing.blind = began if directory.uncovered else None
        self._owing.owe_look("the watch begins", self._owing.drained or began)
        self.directory, self.trouble = directory, directory.trouble
        self._troubles.clear(About.SOURCE)
        with unwrapped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_again, directory)
                await directory.listen()
                nursery.cancel_scope.cancel()
        raise RootError(directory.lost, op="watch", where=self._path)

    async def drain(self) -> None:
        """Hear all that has happened by now."""
        directory = self.directory
        if directory is None:
            return
        began = self._steady()
        await directory.drain()
        if self.directory is directory and not directory.lost:
            self._owing.drained = began
            self._heed_uncovered(directory)

    async def confirm(self) -> None:
        """Hear all that has happened by now in the directory that the path leads to.

        If that is another one, this one is given up first: what was written there is owed then.
        """
        directory = self.directory
        while directory is not None and not await directory.is_where_it_was():
            if self.directory is not directory:
                return
            await trio.sleep(_GIVEN_UP_SECONDS)
        if directory is not None:
            await self._heed_mounts(directory)
        await self.drain()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncGenerator[WatchedDirectory | None]:
        """Hold the directory open; None if it is not there."""
        async with self._using:
            yield self.directory

    async def glance(self, paths: Sequence[bytes]) -> Glance | None:
        """Look at ``paths``, unless a transfer uses the directory or it is not there."""
        if self.directory is None or self._using.locked():
            return None
        async with self._using:
            if self.directory is None:
                return None
            return await in_thread(glance, self.directory.root, paths)

    def look_into_uncovered(self, more: frozenset[bytes] = frozenset()) -> None:
        """Have directories that got no watch looked into: what is in them may have changed.

        ``more`` had none until now.
        """
        directory = self.directory
        paths = more if directory is None else more | directory.uncovered
        if not paths:
            return
        now = self._steady()
        since = now if self._owing.blind is None else self._owing.blind
        for path in paths:
            self._owing.dirty.add(path, now, tree=True)
            self._owing.dirty.date_back(path, since)
        self._owing.blind = now
        self._owing.bell.ring()

    def _hear(self, changes: Sequence[Changed]) -> None:
        for each in changes:
            directory, _, name = each.path.rpartition(b"/")
            if each == EVERYTHING:
                self._owing.owe_look("more happened than could be told", self._owing.drained)
            elif name == IGNORE_FILE and not directory:
                self._owing.owe_look("other rules say what takes part")
            elif name == IGNORE_FILE:
                self._owing.change(directory, tree=True, writing=False)
            elif not self._is_excluded(each):
                self._owing.change(each.path, tree=each.tree, writing=each.writing)
                self._owing.dirty.mark(each.path, came=each.came, went=each.went)
                if each.before is not None:
                    self._owing.move(each.before, each.path, tree=each.tree)

    def _is_excluded(self, changed: Changed) -> bool:
        excludes = self._filter.excludes
        either = excludes(changed.path, directory=True)
        return either and (changed.tree or excludes(changed.path, directory=False))

    def _leaves_out(self, path: bytes) -> bool:
        return self._filter.excludes(path, directory=True)

    def _heed_uncovered(self, directory: WatchedDirectory) -> None:
        self.trouble = directory.trouble
        if not directory.uncovered:
            self._owing.blind = None
        elif self._owing.blind is None:  # a new directory was one too many
            self._owing.blind = self._steady() - HEARD_SECONDS

    async def _heed_mounts(self, directory: WatchedDirectory) -> None:
        """Owe a look if a file system was mounted inside: nobody told of what it holds.

        Also if one was unmounted: it meets the guard that keeps what it held at the standby, and so
        is told at once.
        """
        if await directory.heed_mounts():
            why = "a file system was mounted or unmounted in it"
            self._owing.owe_look(why, self._owing.drained, rests=True)

    async def _look_again(self, directory: WatchedDirectory) -> None:
        """See again and again what the kernel does not tell."""
        looked = covered = self._steady()
        while True:
            await trio.sleep(LOOK_SECONDS)
            if not await directory.is_where_it_was():
                raise RootError("another directory is in its place", op="watch", where=self._path)
            await self._heed_mounts(directory)
            now = self._steady()
            before = directory.uncovered
            if before and now - looked >= UNCOVERED_SECONDS:
                if now - covered >= COVER_SECONDS:
                    covered = now
                    await directory.cover_more()
                looked = now
                self.look_into_uncovered(before)
            self._heed_uncovered(directory)
