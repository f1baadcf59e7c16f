"""What keeps a watch from being in step: at most one trouble of each kind, the gravest told first.

A kind is cleared by whoever finds that it is over, so that an old complaint never hides a new one,
and a job is never called well while one of them stands.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from netsync.errors import TEXT_MAX, NetsyncError
from netsync.modes.job import Done
from netsync.modes.retrying import pause_after
from netsync.names import one_line


class About(enum.IntEnum):
    """What a trouble is about, the gravest first."""

    SOURCE = 0
    LINK = 1
    WHOLE = 2
    HELD = 3
    PATHS = 4


class Trouble(NamedTuple):
    """One trouble: an exit code, words, and whether time may mend it."""

    code: int
    words: str
    retryable: bool


class Troubles:
    """The troubles of one watch. ``count`` rises with each that is met, also again."""

    def __init__(self) -> None:
        self.count = 0
        self._found: dict[About, Trouble] = {}
        self._in_vain: dict[About, int] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def meet(self, about: About, trouble: Trouble) -> None:
        """Note a trouble. Its words may be a peer's."""
        trouble = trouble._replace(words=one_line(trouble.words, TEXT_MAX))
        self._found[about] = trouble
        self._in_vain[about] = self._in_vain.get(about, 0) + 1
        self.count += 1

    def clear(self, about: About) -> None:
        """Note that it is over."""
        self._found.pop(about, None)
        self._in_vain.pop(about, None)

    def pause(self, about: About) -> float:
        """Return the seconds to wait before it is tried again."""
        in_vain = max(1, self._in_vain.get(about, 1))
        found = self._found.get(about)
        return pause_after(in_vain, retryable=found is None or found.retryable)

    @property
    def worst(self) -> Trouble | None:
        """The gravest one."""
        return self._found[min(self._found)] if self._found else None

    @property
    def words(self) -> str:
        """What to say of them; empty if there is none."""
        return "" if self.worst is None else self.worst.words

    def as_done(self) -> Done:
        """Return the answer to somebody who waits in vain."""
        worst = self.worst
        if worst is None:
            return Done(0)
        return Done(worst.code, worst.words, retryable=worst.retryable)


def trouble_from(error: NetsyncError) -> Trouble:
    """Return what an error means to a watch."""
    return Trouble(error.exit_code, str(error), error.retryable)
