"""The files that a target wants and has not settled: one by one, or as neighbours.

Shared by who asks for files, on the trio thread, and the landing worker. Each changes it by single
steps of a dictionary, which the interpreter does not interrupt, and each adds to a counter of its
own. Memory: entries of neighbours that are settled stay until the last of them is, so a source that
holds back one of each could have them all stay. Past ``HELD_MAX`` all are parted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

from netsync.transfer.neighbours import Neighbours
from netsync.transfer.wanted import Wanted
from netsync.wire.messages import FileHead

HELD_MAX: Final = 64 * 1024
"""Entries of neighbours that are held, settled or not: four times what is wanted at once."""


class Awaited:
    """Wanted files by number. A file is parted from its neighbours when it is taken ``alone``."""

    def __init__(self) -> None:
        self._files: dict[int, Wanted | Neighbours] = {}
        self._added = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._files)

    def add(self, files: Iterable[Wanted | Neighbours]) -> int:
        """Await files; return how many."""
        before = self._added
        for each in files:
            self._files.update(dict.fromkeys(each.numbers, each))
            self._added += len(each.numbers)
        return self._added - before

    def alone(self, number: int) -> Wanted | None:
        """Return a file as one of its own, if it is awaited."""
        found = self._files.get(number)
        if not isinstance(found, Neighbours):
            return found
        self._files[number] = wanted = found.alone(number)
        self._dropped_of(found, 1)
        self._dropped -= 1
        return wanted

    def together(self, heads: Sequence[FileHead], at: int) -> tuple[Neighbours, int] | None:
        """Return the neighbours that come from ``at`` on, and where they end; they have arrived.

        None where the first of them is no neighbour, or not awaited: that is to be asked for alone.
        """
        number = heads[at].number
        found = self._files.get(number)
        if not isinstance(found, Neighbours):
            return None
        end = at + 1
        while end < len(heads) and heads[end].number == number + end - at:
            if self._files.get(heads[end].number) is not found:
                break
            end += 1
        these = slice(number - found.first, number - found.first + end - at)
        if any(found.arrived[these]):
            return None
        found.arrived[these] = b"\1" * (end - at)
        return found, end

    def settled(self, numbers: Sequence[int]) -> None:
        """Forget files."""
        files = map(self._files.pop, numbers, repeat(None))
        for each, count in Counter(files).items():
            if isinstance(each, Neighbours):
                self._dropped_of(each, count)
            else:
                self._dropped += count
        if self._added - self._dropped > HELD_MAX:
            self._part_all()

    def _dropped_of(self, files: Neighbours, count: int) -> None:
        files.open -= count
        if not files.open:
            self._dropped += len(files.entries)

    def _part_all(self) -> None:
        for number, each in list(self._files.items()):
            if isinstance(each, Neighbours) and each.open < len(each.entries):
                self.alone(number)
