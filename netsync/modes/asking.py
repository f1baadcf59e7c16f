"""Those who have asked a job for something that its one loop does, and wait for what it comes to.

Who asks while it is being done waits for the next time: only what begins after the question is sure
to answer it. Who leaves is forgotten, so that nothing is done for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from netsync.modes.job import Done


@dataclass(eq=False)
class Waiting:
    """Somebody who waits."""

    answered: trio.Event = field(default_factory=trio.Event)
    done: Done | None = None


class Asking:
    """Who waits by now. ``wake`` has the loop look; true while anybody waits."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: list[Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def ask(self) -> Done:
        """Wait to be answered."""
        asked = Waiting()
        self._waiting.append(asked)
        self._wake()
        try:
            await asked.answered.wait()
        finally:
            if asked in self._waiting:
                self._waiting.remove(asked)
        assert asked.done is not None
        return asked.done

    def take(self) -> Sequence[Waiting]:
        """Return those who wait for what begins now; they are the caller's to answer."""
        taken, self._waiting = self._waiting, []
        return taken

    def answer_all(self, done: Done) -> None:
        """Answer all who wait."""
        answer(self.take(), done)


def answer(waiting: Sequence[Waiting], done: Done) -> None:
    """Tell those who wait what it came to."""
    for each in waiting:
        each.done = done
        each.answered.set()
