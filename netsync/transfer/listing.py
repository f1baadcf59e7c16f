"""The source's walk: directories depth first, names sorted as bytes, in chunks.

The transfer's root is a directory that may not exist anywhere: it merges the contents of every
source named with a trailing slash and holds every other source under its own name. Where two
sources offer the same path the first wins, except that directories merge. Everything runs in a
worker thread, one batch a call, and holds only names of the directory under way and the
directories still to be listed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from netsync.errors import reason
from netsync.model import DEVICES, SPECIALS, Entry, Kind, Name, Options, Problem
from netsync.names import join
from netsync.plan.filters import Filter
from netsync.plan.xattrs import Items
from netsync.transfer.backing import RUN_NAMES, MergedPlaces, OnePlace, Places
from netsync.transfer.describing import NONE, Describer, XattrTable
from netsync.transfer.inodes import FirstNames, inode_of, names_of
from netsync.transfer.offers import Chunk, Located
from netsync.tree.directories import Directories
from netsync.tree.native import XATTR_NAMES, Status, stat_entries
from netsync.tree.owners import IdNames, group_name, user_name
from netsync.tree.read import content_digest
from netsync.tree.roots import SourceRoot
from netsync.tree.scan import entry_at, entry_from, names_in
from netsync.tree.xattrs import Where, of_name
from netsync.wire.batches import batches
from netsync.wire.messages import List, Listing

CHUNK_ENTRIES: Final = RUN_NAMES
"""Entries in one listing."""
CHUNK_BYTES: Final = 32 * 1024
BATCH_BYTES: Final = 64 * 1024
"""Estimated bytes of one listing and of one message: far below the frame's limit even when the
last entry is the longest possible (a name of 255 bytes, a link of 4,095, attributes of 64 KiB)."""
NAMES_BYTES: Final = 16 * 1024
"""Estimated bytes of owners' names in a message of entries; more go in messages before it."""
CREDIT_MIN: Final = 4096
"""Credit with which a batch may be listed: no batch costs as much, its bytes see to it."""
_NAME_BYTES: Final = 10
_ENTRY_BYTES: Final = 48
"""Estimated bytes of an entry beside its name and link text."""


class Batch(NamedTuple):
    """One message's worth of listing, and what it offers."""

    message: List
    chunks: list[Chunk]
    entries: int
    size: int


class Node:
    """A directory to list: its number, its path in the transfer, the places that back it."""

    __slots__ = ("backings", "number", "path")

    def __init__(self, number: int, path: bytes, backings: Sequence[tuple[int, bytes]]) -> None:
        self.number = number
        self.path = path
        self.backings = backings

    def path_of(self, name: bytes) -> bytes:
        """Return the transfer path of the entry ``name`` here."""
        return join(self.path, name)


class _Part:
    """A listing in the making; ``first`` is the number of its first entry."""

    def __init__(self, first: int, table: XattrTable) -> None:
        self._first = first
        self._table = table
        self._entries: list[Entry] = []
        self._protected: list[bytes] = []
        self._cost = 0

    def add(self, entry: Entry, xattrs: Items | None) -> None:
        if xattrs != NONE:
            before = self._table.size
            entry = self._table.told(entry, xattrs)
            self._cost += self._table.size - before
        self._entries.append(entry)
        self._cost += len(entry.name) + len(entry.target) + _ENTRY_BYTES

    def protect(self, name: bytes) -> None:
        self._protected.append(name)
        self._cost += len(name)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= CHUNK_ENTRIES or self._cost >= CHUNK_BYTES

    def cut(
        self, node: Node, places: Places, *, final: bool, partial: bool
    ) -> tuple[Listing, Chunk, int]:
        """Return the listing, what it offers and its estimated bytes."""
        listing = Listing(node.number, self._entries, final, partial, self._protected)
        chunk = Chunk(self._first, self._entries, node.path_of, places.first)
        return listing, chunk, self._cost + _ENTRY_BYTES


class Lister:
    """Lists the merged tree of ``roots``. ``single_name`` renames a lone regular file."""

    def __init__(
        self,
        roots: Sequence[SourceRoot],
        options: Options,
        single_name: bytes = b"",
        problems: Sequence[Problem] = (),
    ) -> None:
        self.complete = not problems
        self._roots = roots
        self._options = options
        self._filter = Filter(options.rules)
        self._single_name = single_name
        self._directories = [Directories(root.fd) for root in roots]
        self._users = IdNames(user_name)
        self._groups = IdNames(group_name)
        self._first_names = FirstNames()
        self._next_number = 1
        self._stack: list[Node] = [Node(0, b"", [])]
        self._problems = list(problems)
        self._describer = Describer(options, self._problems.append)
        self._table = XattrTable()
        self._ready: deque[Batch] = deque()
        self._chunks = self._walk()

    def note(self, problems: Sequence[Problem]) -> None:
        """Take problems that do not make the listing incomplete."""
        self._problems += problems

    def close(self) -> None:
        """Let go of all descriptors but the roots', and of what is known of links."""
        self._first_names.close()
        for directories in self._directories:
            directories.close()

    def next_batch(self) -> Batch | None:
        """Return the next listings, worth at most ``CREDIT_MIN``, or None at the end."""
        if not self._ready:
            self._list_some()
        return self._ready.popleft() if self._ready else None

    def _list_some(self) -> None:
        """Walk on by a message's worth, and make ready what must be told before it."""
        listings: list[Listing] = []
        chunks: list[Chunk] = []
        self._table = XattrTable()
        entries = size = cost = 0
        while cost < BATCH_BYTES:
            step = next(self._chunks, None)
            if step is None:
                break
            listing, chunk, chunk_bytes = step
            listings.append(listing)
            chunks.append(chunk)
            entries += max(1, len(listing.entries))
            size += sum(entry.size for entry in listing.entries)
            cost += chunk_bytes
        users, groups = self._names([entry for each in listings for entry in each.entries])
        if self._problems:
            self._ready.append(Batch(List([], problems=self._take_problems()), [], 0, 0))
        if listings:
            message = List(listings, users, groups, xattrs=self._table.sets)
            self._ready.append(Batch(message, chunks, entries, size))

    def _names(self, entries: list[Entry]) -> tuple[list[Name], list[Name]]:
        """Return the names of owners to be told with ``entries``, many in messages before it."""
        if self._options.numeric_ids:
            return [], []
        users = self._users.new({entry.uid for entry in entries} | self._table.users)
        groups = self._groups.new({entry.gid for entry in entries} | self._table.groups)
        if sum(map(_name_bytes, (*users, *groups))) <= NAMES_BYTES:
            return users, groups
        for part in batches(users, _name_bytes, CHUNK_ENTRIES):
            self._ready.append(Batch(List([], users=part), [], 0, 0))
        for part in batches(groups, _name_bytes, CHUNK_ENTRIES):
            self._ready.append(Batch(List([], groups=part), [], 0, 0))
        return [], []

    def _take_problems(self) -> list[Problem]:
        """Return the problems found so far, as many as fit a message."""
        size = count = 0
        while count < len(self._problems) and size < BATCH_BYTES:
            size += len(self._problems[count].path) + _ENTRY_BYTES
            count += 1
        taken = self._problems[:count]
        del self._problems[:count]
        return taken

    def _walk(self) -> Iterator[tuple[Listing, Chunk, int]]:
        while self._stack:
            yield from self._directory(self._stack.pop())

    def _directory(self, node: Node) -> Iterator[tuple[Listing, Chunk, int]]:
        """Yield the listings of one directory and stack the directories in it."""
        places, readable = self._places(node)
        children: list[Node] = []
        partial = not readable or (node.number == 0 and all(root.name for root in self._roots))
        part = _Part(self._next_number, self._table)
        for name, listed, status, xattrs in self._entries(node, places):
            if listed is None:
                part.protect(name)
            elif not self._excluded(node, name, listed.kind):
                entry = self._linked(listed, status)
                if entry.kind is Kind.DIRECTORY:
                    children.append(self._child(node, name, places))
                part.add(entry, xattrs)
                self._next_number += 1
            if part.is_full:
                yield part.cut(node, places, final=False, partial=partial)
                part = _Part(self._next_number, self._table)
        yield part.cut(node, places, final=True, partial=partial)
        self._stack.extend(reversed(children))

    def _linked(self, entry: Entry, status: Status | int) -> Entry:
        """Return ``entry``, which is listed next, with the number of its link group."""
        assert not isinstance(status, int)  # it would not be listed
        if (
            names_of(status) == 1
            or entry.kind is Kind.DIRECTORY
            or not self._options.keep.hard_links
        ):
            return entry
        link = self._first_names.number(inode_of(status), entry, self._next_number)
        return msgspec.structs.replace(entry, link=link)

    def _excluded(self, node: Node, name: bytes, kind: Kind) -> bool:
        if self._options.backup_dir and node.path_of(name) == self._options.backup_dir:
            return True
        if not self._options.rules:
            return False
        return self._filter.excludes(node.path_of(name), directory=kind is Kind.DIRECTORY)

    def _places(self, node: Node) -> tuple[Places, bool]:
        """Return where the names of a directory are found, and whether all could be read."""
        merged: dict[bytes, list[Located]] = {}
        backings = list(node.backings)
        if node.number == 0:
            for index, root in enumerate(self._roots):
                if root.name:
                    listed = self._single_name or root.listed
                    merged.setdefault(listed, []).append(Located(index, b"", root.name))
                else:
                    backings.append((index, b""))
        readable = True
        for index, directory in backings:
            try:
                names, _ = names_in(self._directories[index].fd(directory))
            except OSError as error:
                self._trouble(node.path or b".", "list", error)
                readable = False
                continue
            if len(backings) == 1 and not merged:
                return OnePlace(index, directory, names), readable
            for name in names:
                merged.setdefault(name, []).append(Located(index, directory, name))
        return MergedPlaces(merged), readable

    def _entries(
        self, node: Node, places: Places
    ) -> Iterator[tuple[bytes, Entry | None, Status | int, Items | None]]:
        """Yield each name with its entry, or None if that is skipped or unreadable.

        A run is read whole: its descriptor is not valid any more when the caller has gone on.
        """
        for run in places.runs():
            try:
                fd = self._directories[run.root].fd(run.directory)
            except OSError as error:
                for name in run.names:
                    self._trouble(node.path_of(name), "read", error)
                    yield name, None, 0, NONE
                continue
            statuses = stat_entries(fd, run.real, bool(self._describer.scope))
            found = zip(run.names, run.real, statuses, strict=True)
            yield from [
                (name, *self._entry(node, name, status, real, fd)) for name, real, status in found
            ]

    def _entry(
        self, node: Node, name: bytes, status: Status | int, real: bytes, fd: int
    ) -> tuple[Entry | None, Status | int, Items | None]:
        """Return the entry to list as ``name``, which is ``real`` in the directory ``fd``."""
        xattrs: Items | None = NONE
        try:
            entry = self._describer.changed(entry_from(status, real, fd))
            if self._skips(entry):
                return None, status, NONE
            if (
                self._options.checksum
                and entry.kind is Kind.FILE
                and not self._excluded(node, name, entry.kind)
            ):
                entry = msgspec.structs.replace(entry, digest=content_digest(fd, real))
            if not isinstance(status, int) and status[XATTR_NAMES] != b"":
                xattrs = self._xattrs(node, entry, name, status[XATTR_NAMES], of_name(fd, real))
        except OSError as error:
            self._trouble(node.path_of(name), "read", error)
            return None, status, NONE
        if real != name:
            entry = msgspec.structs.replace(entry, name=name)
        return entry, status, xattrs

    def _xattrs(
        self, node: Node, entry: Entry, name: bytes, told: bytes | None, where: Where
    ) -> Items | None:
        """Return the attributes of an entry that has some; of what is left out none are read."""
        if self._excluded(node, name, entry.kind):
            return NONE
        xattrs = self._describer.xattrs(where, node.path_of(name), told)
        return self._describer.with_mode(xattrs, entry)

    def _child(self, node: Node, name: bytes, places: Places) -> Node:
        first = places.first(name)
        backings = [(first.root, join(first.directory, first.name))]
        for place in places.others(name):
            try:
                fd = self._directories[place.root].fd(place.directory)
                if entry_at(fd, place.name).kind is Kind.DIRECTORY:
                    backings.append((place.root, join(place.directory, place.name)))
            except OSError as error:
                self._trouble(node.path_of(name), "read", error)
        return Node(self._next_number, node.path_of(name), backings)

    def _skips(self, entry: Entry) -> bool:
        if entry.kind is Kind.FILE or entry.kind is Kind.DIRECTORY:
            return False
        keep = self._options.keep
        if entry.kind is Kind.SYMLINK:
            return not keep.links
        return entry.kind in DEVICES | SPECIALS and not keep.devices

    def _trouble(self, path: bytes, op: str, error: OSError) -> None:
        vanished = isinstance(error, FileNotFoundError)
        self.complete = self.complete and vanished
        self._problems.append(Problem(path, op, reason(error), vanished))


def _name_bytes(named: Name) -> int:
    return len(named.name) + _NAME_BYTES
