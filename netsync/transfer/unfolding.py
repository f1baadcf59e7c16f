"""The target's order of work on a listing: what can be compared, what must wait, what to ask for.

Every listed entry has a number. A directory told by its digest takes the numbers of its entries
without naming them; if the digest is the target's own, its subdirectories are known from there.
If not, the directory is *undecided*: its entries are asked for, and what was listed of
directories in it waits, because only the entries say which directories those are. Nothing else
waits: undecided directories that are unrelated are asked for at once, and all of a subtree that
the target lacks is asked for together, so that a round trip is paid for a level of differences
and never for a directory.

What waits holds its credit, so it is bounded like all that is listed ahead. What is asked for
costs no credit, so that it comes however much waits; the entries asked for are bounded here.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from netsync.errors import ProtocolError
from netsync.model import Entry
from netsync.plan.xattrs import WantedXattrs
from netsync.transfer.equality import Equality
from netsync.transfer.listed import ListedDirectory
from netsync.tree.native import Packed
from netsync.wire.listing import DIGEST_BYTES, RELIST_MAX, Listing
from netsync.wire.messages import List, Relisted

ASKED_ENTRIES: Final = 16 * 1024
"""Entries of directories asked for beyond which no more are."""

Table = list[WantedXattrs]


class Part(NamedTuple):
    """A listing, the number of its first entry, and the sets of attributes that its entries mean.

    ``shared`` is the credit that the sets hold. They may be shared with other parts, so more may be
    held than was given; it is all given back.
    """

    listing: Listing
    first: int
    table: Table
    shared: int

    @property
    def cost(self) -> int:
        """The credit it holds while it waits."""
        return self.listing.cost + self.shared


class Step(NamedTuple):
    """A listing to compare now; with ``packed`` it is known to be equal, and that is in it."""

    directory: ListedDirectory
    listing: Listing
    first: int
    table: Table
    packed: Packed | None


class _Undecided:
    """A part whose entries are not known or not compared yet, so that those in them must wait.

    It is a directory told by its digest that differs, or is in one that does; or a part of a
    listing that waits. Its numbers are reserved.
    """

    __slots__ = ("below", "count", "directory", "first", "lacking", "next", "number", "state")

    def __init__(self, part: Part) -> None:
        self.number = part.listing.directory
        self.first = self.next = part.first
        self.count = part.listing.numbers
        self.directory: ListedDirectory | None = None
        self.lacking = False
        self.state = _WAITS
        self.below: dict[int, list[Part]] = {}

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def parts(self) -> Iterator[Part]:
        """What was listed of the directories in it, directory by directory."""
        for each in self.below.values():
            yield from each


_WAITS, _TO_ASK, _ASKED = range(3)


class Unfolding:
    """Numbers what is listed and says what can be compared. ``open`` are the directories whose
    listings may come, by number; the comparison adds those it meets and removes those that ended.
    """

    def __init__(self, root: ListedDirectory, admit: Callable[[int, Entry], None]) -> None:
        self.open = {0: root}
        self.held = 0
        """Credit of what waits."""
        self.equal: Equality | None = None
        """None while no digests were offered."""
        self._admit = admit
        self._next_number = 1
        self._undecided: dict[int, _Undecided] = {}
        self._ranges: list[_Undecided] = []
        self._firsts: list[int] = []
        self._to_ask: list[tuple[int, int]] = []
        self._asked_entries = 0

    def close(self) -> None:
        """Let go of what compares digests, when all is listed or nobody wants it any more."""
        if self.equal is not None:
            self.equal.close()

    @property
    def decided(self) -> int:
        """The number below which every entry is decided about."""
        return self._ranges[0].next if self._ranges else self._next_number

    @property
    def awaits(self) -> bool:
        """Tell whether directories were asked for that have not come whole."""
        return bool(self._undecided)

    @property
    def all_ended(self) -> bool:
        """Tell whether every listed directory was listed to its end."""
        return not self.open and not self._undecided

    def steps(self, message: List | Relisted, table: Table) -> Iterator[Step]:
        """Yield what can be compared now that ``message`` came; do so before the next is taken.

        ``table`` are the sets of attributes that came with it.
        """
        shared = message.cost - sum(listing.cost for listing in message.listings) if table else 0
        for listing in message.listings:
            if isinstance(message, Relisted):
                yield from self._relisted(listing)
            else:
                yield from self._listed(listing, table, shared)

    def take_asked(self) -> list[int]:
        """Return the directories to ask for next, a directory before those in it."""
        asked: list[int] = []
        while self._to_ask and self._asked_entries < ASKED_ENTRIES and len(asked) < RELIST_MAX:
            undecided = self._undecided[heapq.heappop(self._to_ask)[1]]
            undecided.state = _ASKED
            self._asked_entries += undecided.count
            asked.append(undecided.number)
        return asked

    def count_of(self, number: int) -> int:
        """Return how many entries a directory has that was asked for."""
        return self._undecided[number].count

    def _listed(self, listing: Listing, table: Table, shared: int) -> Iterator[Step]:
        self._check(listing)
        part = Part(listing, self._next_number, table, shared)
        self._next_number += listing.numbers
        for number, entry in enumerate(listing.entries, part.first):
            if entry.link:
                self._admit(number, entry)
        above = self._reserved_in(listing.directory)
        if above is not None:
            self._wait(above, part)
        elif listing.directory in self.open:
            yield from self._unfold([part])
        else:
            raise ProtocolError(f"directory {listing.directory} is not open", op="receive")

    def _check(self, listing: Listing) -> None:
        """Refuse what an honest source cannot have said."""
        if not listing.digest:
            allowed = not listing.count
        else:
            whole = listing.final and not (
                listing.partial or listing.entries or listing.protected or listing.rules
            )
            fits = len(listing.digest) == DIGEST_BYTES and listing.count > 0
            allowed = self.equal is not None and whole and fits
        if not allowed:
            raise ProtocolError("a directory's digest is not allowed or malformed", op="receive")

    def _relisted(self, listing: Listing) -> Iterator[Step]:
        """Take entries that were asked for."""
        undecided = self._undecided.get(listing.directory)
        if undecided is None or undecided.state != _ASKED or undecided.directory is None:
            raise ProtocolError(
                f"directory {listing.directory} was not asked for, or not in this order",
                op="receive",
            )
        first = undecided.next
        undecided.next += len(listing.entries)
        told = listing.digest or listing.count or listing.rules
        plain = not (told or listing.partial or listing.protected)
        counted = undecided.next == undecided.end if listing.final else bool(listing.entries)
        if not plain or not counted or undecided.next > undecided.end:
            raise ProtocolError("a directory was not listed as its digest said", op="receive")
        for number, entry in enumerate(listing.entries, first):
            if entry.link:
                self._admit(number, entry)
        yield Step(undecided.directory, listing, first, [], None)
        if listing.final:
            self._asked_entries -= undecided.count
            yield from self._unfold(self._settle(undecided))

    def _unfold(self, work: list[Part]) -> Iterator[Step]:
        """Yield the parts of open directories, and those that waited for what is in them."""
        work.reverse()
        while work:
            part = work.pop()
            number = part.listing.directory
            directory = self.open.get(number)
            if directory is None:
                raise ProtocolError(f"entry {number} is no open directory", op="receive")
            if not part.listing.digest:
                yield Step(directory, *part[:3], None)
                waited = self._of_part(part)
                if waited is not None:
                    work += reversed(self._settle(waited))
                continue
            del self.open[number]
            assert self.equal is not None  # a digest would have been refused
            packed = self.equal.packed(directory, part.listing)
            undecided = self._undecided.get(number)
            if packed is None:
                self._differs(undecided or self._add(part), directory)
                continue
            yield Step(directory, *part[:3], packed)
            if undecided is not None:
                work += reversed(self._settle(undecided))

    def _differs(self, undecided: _Undecided, directory: ListedDirectory) -> None:
        """Ask for a directory, and for all in it if nothing of that can be here."""
        undecided.directory = directory
        self._ask(undecided)
        if directory.fresh or directory.lost or directory.left:
            self._lacks(undecided)

    def _lacks(self, undecided: _Undecided) -> None:
        pending = [undecided]
        while pending:
            above = pending.pop()
            above.lacking = True
            for part in above.parts:
                below = self._of_part(part)
                if below is not None:
                    pending.append(below)
                    if part.listing.digest:
                        self._ask(below)

    def _ask(self, undecided: _Undecided) -> None:
        if undecided.state == _WAITS:
            undecided.state = _TO_ASK
            heapq.heappush(self._to_ask, (undecided.first, undecided.number))

    def _wait(self, above: _Undecided, part: Part) -> None:
        """Keep what is listed of a directory in one that is undecided."""
        parts = above.below.setdefault(part.listing.directory, [])
        if parts and (parts[-1].listing.final or part.listing.digest):
            raise ProtocolError("a directory was listed past its end", op="receive")
        parts.append(part)
        self.held += part.cost
        if not part.listing.numbers:
            return
        undecided = self._add(part)
        undecided.lacking = above.lacking
        if above.lacking and part.listing.digest:
            self._ask(undecided)

    def _add(self, part: Part) -> _Undecided:
        """Reserve the numbers of an undecided directory."""
        undecided = _Undecided(part)
        if part.listing.digest:
            self._undecided[undecided.number] = undecided
            self.held += 1
        position = bisect_right(self._firsts, undecided.first)
        self._ranges.insert(position, undecided)
        self._firsts.insert(position, undecided.first)
        return undecided

    def _settle(self, undecided: _Undecided) -> list[Part]:
        """Forget a part whose entries are known now; return what waited for them."""
        position = bisect_right(self._firsts, undecided.first) - 1
        del self._ranges[position], self._firsts[position]
        if self._undecided.get(undecided.number) is undecided:
            del self._undecided[undecided.number]
            self.held -= 1
        parts = list(undecided.parts)
        self.held -= sum(part.cost for part in parts)
        return parts

    def _of_part(self, part: Part) -> _Undecided | None:
        """Return what stands for a part that waits, or waited until now."""
        if not part.listing.numbers:
            return None
        found = self._reserved_in(part.first)
        return found if found is not None and found.first == part.first else None

    def _reserved_in(self, number: int) -> _Undecided | None:
        """Return the undecided directory that holds the entry ``number``, if one does."""
        position = bisect_right(self._firsts, number) - 1
        if position < 0 or number >= self._ranges[position].end:
            return None
        return self._ranges[position]
