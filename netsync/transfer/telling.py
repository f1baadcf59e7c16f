"""What a target tells while it works: the source, and whoever watches it.

The source hears which files have landed and the itemized lines, in messages that fit a frame; the
observer hears how much there is and how much of it is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netsync.model import Item
from netsync.net.channel import Channel
from netsync.transfer.lines import Lines
from netsync.transfer.tally import Observer, Tally
from netsync.wire import messages as m
from netsync.wire.batches import batches

ITEMS_MAX: Final = 4096
"""Itemized lines in one message; their paths bound it too."""


class Telling:
    """Tells over ``channel`` and to ``observer`` what ``tallies`` count; ``lines`` may wait."""

    def __init__(
        self, channel: Channel, observer: Observer, lines: Lines, tallies: Sequence[Tally]
    ) -> None:
        self._channel = channel
        self._observer = observer
        self._lines = lines
        self._tallies = tallies
        self._told = 0

    def listed(self, counted: Tally, *, complete: bool) -> None:
        """Tell the observer how much is known to exist."""
        self._observer.listed(counted.considered, counted.total, complete=complete)

    def under_way(self, size: int) -> None:
        """Tell the observer how much of files under way has arrived (bytes)."""
        self._observer.under_way(size)

    async def tell(self, numbers: list[int], tally: Tally) -> None:
        """Send settled numbers, itemized lines and progress, as much as there is of each."""
        items = self._lines.take(tally)
        settled = sum(each.settled for each in self._tallies)
        size, self._told = settled - self._told, settled
        self._observer.settled(size)
        if numbers or size:
            await self._channel.send(m.Applied(numbers, [], size))
        await self._send(items)

    async def let_go(self, *, published: bool) -> None:
        """Send the lines that waited, those that are true of what was ``published``."""
        for items in self._lines.let_go(published=published):
            await self._send(items)

    async def _send(self, items: list[Item]) -> None:
        self._observer.items(items)
        for part in batches(items, _item_cost, ITEMS_MAX):
            await self._channel.send(m.Applied([], part))


def _item_cost(item: Item) -> int:
    return len(item.path) + 8
