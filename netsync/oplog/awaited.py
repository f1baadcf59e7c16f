"""Who waits for what a standby says: each is woken when it is so, and not before.

Among many writers an acknowledgement is the answer for some. To wake all of them each time, so that
most go to sleep again, would cost more than the answers.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


class Awaited:
    """Tasks that wait, each until something of its own is so."""

    def __init__(self) -> None:
        self._waiting: dict[trio.Event, Callable[[], bool]] = {}

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when ``look`` finds that ``is_so``, or at the next ``wake``."""
        event = trio.Event()
        self._waiting[event] = is_so
        try:
            await event.wait()
        finally:
            del self._waiting[event]

    def look(self) -> None:
        """A standby has said more: wake those for whom that is enough."""
        for event, is_so in self._waiting.items():
            if is_so():
                event.set()

    def wake(self) -> None:
        """Something else has changed: let all see for themselves."""
        for event in self._waiting:
            event.set()
