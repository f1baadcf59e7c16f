"""Answering ``Watch``: a standby asks whether it is worth fetching.

The watch lasts as long as the session, from before its first answer on, so that no change falls
between two questions. The first answer to a question is always "changed": what was before is not
known. Changes come in bursts; an answer waits a moment for the rest of one. The kernel tells of
what happens in directories, not of another one in their place (a link that leads elsewhere, a mount
above): so before "nothing changed" is said, the places are resolved again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from netsync.errors import RefusedError, root_error
from netsync.server.modules import Module, Right, find_module, opened
from netsync.tree.changes import Changes, watchable
from netsync.tree.directories import identity_of
from netsync.tree.roots import open_source
from netsync.tree.threads import in_thread
from netsync.wire.messages import Place
from netsync.wire.watching import Changed, Watch

SETTLE_SECONDS: Final = 0.1
"""How long a first change waits for others: a tenth of the second in which it is to arrive."""


class Watching:
    """What one session watches. ``modules`` and ``identity`` are the session's."""

    def __init__(self, modules: Mapping[str, Module], identity: str) -> None:
        self._modules = modules
        self._identity = identity
        self._places: list[Place] = []
        self._watched: list[tuple[int, int]] = []
        self._changes: Changes | None = None

    @property
    def is_watching(self) -> bool:
        """Tell whether anything was ever asked for."""
        return self._changes is not None

    def close(self) -> None:
        """Watch no more."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    async def answer(self, request: Watch) -> Changed:
        """Return the answer when it is due. Raises ``RefusedError`` and ``RootError``."""
        changes = self._changes
        if changes is None or changes.ended or changes.trouble or self._places != request.places:
            changes = await self._begin(request.places)
            return Changed(changed=True, watched=not changes.trouble, why=changes.trouble)
        changed = False
        with trio.move_on_after(request.seconds):
            await changes.wait()
            changed = True
        if changed:
            await trio.sleep(SETTLE_SECONDS)
            await changes.gather()
        elif not await self._are_where_they_were():
            changes.ended = changed = True
        trouble = changes.trouble  # a new directory may have been one too many
        return Changed(changed=changed, watched=not trouble, why=trouble)

    async def _begin(self, places: Sequence[Place]) -> Changes:
        self.close()
        with contextlib.ExitStack() as stack:
            roots = await in_thread(self._opened, places, stack)
            self._watched = [identity_of(root) for root in roots]
            self._changes = await Changes.below(roots)
        self._places = list(places)
        return self._changes

    async def _are_where_they_were(self) -> bool:
        """Tell whether the places are the directories that are watched."""
        with contextlib.ExitStack() as stack:
            roots = await in_thread(self._opened, self._places, stack)
            return [identity_of(root) for root in roots] == self._watched

    def _opened(self, places: Sequence[Place], stack: contextlib.ExitStack) -> list[int]:
        """Open what is to be watched; ``stack`` closes it."""
        found: list[int] = []
        for place in places:
            module = find_module(self._modules, place.module)
            module.require(self._identity, Right.PULL)
            if module.user is not None:
                words = "changes of a module with a user of its own cannot be watched"
                hint = "fetch on a schedule, without on_change"
                raise RefusedError(words, op="watch", where=place.module, hint=hint)
            anchor = stack.enter_context(opened(module))
            source = open_source(anchor, place.path, b"")
            try:
                found.append(watchable(source.fd, source.name))
            except OSError as error:
                raise root_error(error, op="watch", where=place.path) from error
            finally:
                os.close(source.fd)
            stack.callback(os.close, found[-1])
        return found
