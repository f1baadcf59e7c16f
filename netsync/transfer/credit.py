"""How much the source may list: what was granted, what was asked for, what is given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from netsync.errors import ProtocolError
from netsync.transfer.unfolding import Unfolding
from netsync.wire.listing import TEXT_PER_CREDIT
from netsync.wire.messages import List, Relist, Relisted

CREDIT: Final = 16 * 1024
"""Entries listed and not decided: some megabytes on both sides, seconds of lead."""
RELISTED_TEXT: Final = 1024 * 1024
"""Bytes of names and link texts in one directory that was told by its digest."""


class Credit:
    """The target's account. What waits in ``unfolding`` holds its credit."""

    def __init__(self, unfolding: Unfolding) -> None:
        self._unfolding = unfolding
        self._granted = CREDIT
        self._asked = 0
        self._held = 0
        self._due = 0

    def take(self, message: List | Relisted) -> None:
        """Note what came. Raises ``ProtocolError`` if it is more than was granted or asked for."""
        if isinstance(message, List):
            self._granted -= message.cost
            if self._granted < 0:
                raise ProtocolError("more was listed than allowed", op="receive")
        else:
            self._asked -= message.cost
            if self._asked < 0:
                raise ProtocolError("more was listed than asked for", op="receive")

    def give_back(self, message: List | Relisted) -> int:
        """Return the credit to grant now that ``message`` was compared."""
        cost = message.cost if isinstance(message, List) else 0
        self._due += cost + self._held - self._unfolding.held
        self._held = self._unfolding.held
        entries, self._due = max(0, self._due), min(0, self._due)
        self._granted += entries
        return entries

    def asks(self) -> Iterator[Relist]:
        """Yield requests for the entries of directories that differ from their digests."""
        while asked := self._unfolding.take_asked():
            for number in asked:
                self._asked += 2 * self._unfolding.count_of(number)
                self._asked += RELISTED_TEXT // TEXT_PER_CREDIT
            yield Relist(asked)
