"""The itemized lines of a run on their way out: as they come, or when it is known if they are true.

Of a run that is published at once no line is true before the end, and then all are or none but
those that say what failed. They wait in memory, and on disk past a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from netsync.model import Change, Item
from netsync.transfer.spool import Spool
from netsync.transfer.tally import Tally

_TOGETHER: Final = 65536
"""Lines told at once at the end."""


class Lines:
    """The lines of all workers of one transfer. ``waits`` until ``let_go`` says what is true."""

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self._waiting = Spool(Item)

    def close(self) -> None:
        """Drop everything."""
        self._waiting.close()

    def take(self, tally: Tally) -> list[Item]:
        """Return the lines to be told now; those of ``tally`` are taken from it."""
        items = tally.take_items()
        if not self._waits:
            return items
        for item in items:
            self._waiting.append(item)
        return []

    def let_go(self, *, published: bool) -> Iterator[list[Item]]:
        """Yield what waited, as far as it is true."""
        waiting = iter(self._waiting)
        while items := list(islice(waiting, _TOGETHER)):
            yield [item for item in items if published or item.change is Change.FAILED]
