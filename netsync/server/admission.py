"""How many may be in: a bound on those who have not greeted, and on the sessions of one name.

Anybody can open connections, and each costs some 50 KiB before we know whose it is. So those
that have not said ``Hello`` in a session of their own are counted from the moment they are
accepted, and the oldest makes way when they are too many: who means it is welcomed within
moments, whoever only wants to occupy a place loses it first. Nobody is turned away at the door,
since a stranger cannot be told from a client there. Those who are welcomed have a name, and one
name may hold so many sessions and no more.

Strangers never take the last descriptors: whoever is let in needs some more to open what was asked
for, so most of what the process may have is left to sessions.
"""

from __future__ import annotations

import contextlib
import resource
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final

import trio

from netsync.errors import RefusedError

STRANGERS_MAX: Final = 2048
"""Connections that have not greeted: some 100 MiB at worst."""
STRANGERS_SHARE: Final = 4
"""One in so many of the descriptors that the process may have is a stranger's, at most."""
SESSIONS_MAX: Final = 512
"""Sessions of one certificate name at once: more than any host has use for."""


def strangers_max() -> int:
    """Return how many connections may be in that have not greeted, by what is left for others."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(STRANGERS_MAX, descriptors // STRANGERS_SHARE)


class Admission:
    """The account of one server."""

    def __init__(self) -> None:
        self._strangers: OrderedDict[trio.CancelScope, None] = OrderedDict()
        self._sessions: Counter[str] = Counter()

    @contextlib.contextmanager
    def stranger(self, scope: trio.CancelScope) -> Iterator[None]:
        """Count a connection that is served in ``scope``, which is cancelled if it must go."""
        self._strangers[scope] = None
        if len(self._strangers) > strangers_max():
            self.make_room()
        try:
            yield
        finally:
            self._strangers.pop(scope, None)

    def make_room(self) -> None:
        """Have the oldest stranger go, if there is one."""
        if self._strangers:
            oldest, _ = self._strangers.popitem(last=False)
            oldest.cancel()

    @contextlib.contextmanager
    def session(self, scope: trio.CancelScope, name: str) -> Iterator[None]:
        """Count what was a stranger in ``scope`` as a session of ``name``.

        Raises ``RefusedError`` if it is one too many.
        """
        self._strangers.pop(scope, None)
        if self._sessions[name] >= SESSIONS_MAX:
            raise RefusedError(
                f"{name!r} has {SESSIONS_MAX} sessions already", op="serve", hint="end some of them"
            )
        self._sessions[name] += 1
        try:
            yield
        finally:
            self._sessions[name] -= 1
            if not self._sessions[name]:
                del self._sessions[name]
