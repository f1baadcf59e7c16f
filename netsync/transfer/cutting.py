"""A listing in the making: entries until there are enough for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netsync.model import Entry, Rule
from netsync.plan.xattrs import Items
from netsync.transfer.backing import RUN_NAMES, Node, Places
from netsync.transfer.describing import NONE, XattrTable
from netsync.transfer.offers import Chunk
from netsync.wire.messages import Listing

CHUNK_ENTRIES: Final = RUN_NAMES
"""Entries in one listing."""
CHUNK_BYTES: Final = 32 * 1024
"""Estimated bytes of one listing, its last entry excepted."""
ENTRY_BYTES: Final = 48
"""Estimated bytes of an entry beside its name and link text."""
_GONE_BYTES: Final = 3

HASHED_PER_BYTE: Final = 8192
"""Bytes of files that were hashed and count like one of listing: after 256 MiB the other side gets
to hash too."""


class Part:
    """A listing in the making; ``first`` is the number of its first entry."""

    def __init__(self, first: int, table: XattrTable, rules: Sequence[Rule] = ()) -> None:
        self._first = first
        self._table = table
        self._entries: list[Entry] = []
        self._protected: list[bytes] = []
        self._gone: list[bytes] = []
        self._rules = list(rules)
        self._cost = sum(len(rule.pattern) for rule in rules)

    def add(self, entry: Entry, xattrs: Items | None) -> None:
        """Add an entry and the attributes it has."""
        if xattrs != NONE:
            before = self._table.size
            entry = self._table.told(entry, xattrs)
            self._cost += self._table.size - before
        self._entries.append(entry)
        if entry.digest:
            self._cost += entry.size // HASHED_PER_BYTE
        self._cost += len(entry.name) + len(entry.target) + ENTRY_BYTES

    def protect(self, name: bytes) -> None:
        """Add a name that is not listed and must not be deleted."""
        self._protected.append(name)
        self._cost += len(name)

    def bury(self, name: bytes) -> None:
        """Add a name that is not there any more."""
        self._gone.append(name)
        self._cost += len(name) + _GONE_BYTES

    @property
    def is_full(self) -> bool:
        """Tell whether it is time to cut."""
        return len(self._entries) >= CHUNK_ENTRIES or self._cost >= CHUNK_BYTES

    def cut(
        self, node: Node, places: Places, *, final: bool, partial: bool
    ) -> tuple[Listing, Chunk, int]:
        """Return the listing, what it offers and its estimated bytes."""
        protected, rules = self._protected, self._rules
        listing = Listing(
            node.number, self._entries, final, partial, protected, rules, gone=self._gone
        )
        chunk = Chunk(self._first, self._entries, node.path_of, places.locate)
        return listing, chunk, self._cost + ENTRY_BYTES
