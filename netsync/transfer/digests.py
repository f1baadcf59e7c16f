"""Directories told by a digest: what makes nothing cost next to nothing.

A directory that is equal on both sides need not be listed. Each side reads it in one native call
into one string (``tree/records.py``), and the source sends a digest of that in place of entries.
Only a directory whose digest is not the target's is listed, when the target asks for it. Until
then the source keeps the string, so that what it lists is what it digested.

Here is the source's side. The terms are the target's, see ``transfer/equality.py``; a directory
that they do not cover is listed as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from netsync.errors import ProtocolError
from netsync.model import Entry, Options
from netsync.names import join
from netsync.plan.digestible import kinds_kept
from netsync.transfer.backing import Node
from netsync.transfer.offers import Chunk, Located
from netsync.tree.native import Coverage, Packed
from netsync.tree.packing import Packer
from netsync.tree.records import RECORDS_MAX, entries_in, entry_in, name_at, records_digest
from netsync.wire.listing import DIGEST_BYTES, Listing, Terms
from netsync.wire.messages import Relisted

HELD_MAX: Final = 16 * 1024 * 1024
"""Bytes of records a source holds of directories that are not decided before it waits."""
_CHUNK_ENTRIES: Final = 512
_CHUNK_BYTES: Final = 32 * 1024
_MESSAGE_BYTES: Final = 64 * 1024
_ENTRY_BYTES: Final = 48
_LISTING_BYTES: Final = 24
_SCAN_BYTES: Final = 6
"""What reading an entry counts for, in estimated bytes of a message: so that a message stands for
some ten milliseconds of reading, and both sides read at the same time."""


class Told(NamedTuple):
    """A directory the source told by its digest, kept until the target has decided about it."""

    node: Node
    first: int
    entries: int
    root: int
    directory: bytes
    records: bytes

    @property
    def locate(self) -> Callable[[bytes], Located]:
        """Return what tells where an entry really is; it does not hold the records."""
        return functools.partial(Located, self.root, self.directory)


class Gathered:
    """What the digests of one message stand for: directories, bytes of files, owners."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.size = 0
        self.users: set[int] = set()
        self.groups: set[int] = set()


class Digest(NamedTuple):
    """A digested directory: how it is listed, its estimated bytes, the directories in it."""

    listing: Listing
    cost: int
    children: list[Node]


def subdirectories(packed: Packed) -> Iterator[tuple[int, Entry]]:
    """Yield the directories in a packed one, each with its place among the entries."""
    for index, offset in packed[3]:
        yield index, entry_in(packed[0], offset)[0]


def coverage_of(terms: Terms, options: Options) -> Coverage:
    """Return what a source may pack on the target's ``terms``."""
    return Coverage(
        terms.mode_mask,
        terms.kinds & kinds_kept(options.keep),
        terms.owner,
        terms.group,
        not terms.links,
        not terms.attributes,
        RECORDS_MAX,
    )


class Digester:
    """Makes digests at the source, keyed with ``seed``, of what ``packers`` pack of the roots."""

    def __init__(self, seed: int, packers: Sequence[Packer]) -> None:
        self._seed = seed
        self._packers = packers

    def digest(
        self, node: Node, place: tuple[int, bytes], first: int, gathered: Gathered
    ) -> Digest | None:
        """Return the digest of a directory; None if it must be listed, as an empty one is.

        ``place`` is its root's number and its path there, ``first`` the number its first entry
        gets. What it stands for is added to ``gathered``.
        """
        root, directory = place
        try:
            packed, _ = self._packers[root].pack(directory)
        except OSError:
            return None  # listing it will say what is wrong
        if packed is None or not packed[1]:
            return None
        records, count, size, below, uids, gids = packed
        gathered.told.append(Told(node, first, count, root, directory, records))
        gathered.size += size
        gathered.users.update(uids)
        gathered.groups.update(gids)
        children = []
        for index, offset in below:
            name = name_at(records, offset)
            path = join(directory, name)
            shown = path if node.path is directory else node.path_of(name)
            children.append(Node(first + index, shown, ((root, path),)))
        digest = records_digest(records, self._seed, DIGEST_BYTES)
        listing = Listing(node.number, [], True, digest=digest, count=count)
        return Digest(listing, _LISTING_BYTES + _SCAN_BYTES * count, children)


def is_above_backup(directory: bytes, options: Options) -> bool:
    """Tell whether the backup directory lies in ``directory``: its way is listed name by name.

    It takes no part, and equal entries on both sides would open it like any other directory.
    """
    if not options.backup_dir:
        return False
    return not directory or options.backup_dir.startswith(directory + b"/")


class Records:
    """At the source: directories told by a digest, until the target has decided about them."""

    def __init__(self) -> None:
        self.size = 0
        self._told: dict[int, Told] = {}

    def add(self, told: Told) -> None:
        """Keep a directory; the numbers of its entries only grow."""
        self._told[told.node.number] = told
        self.size += len(told.records)

    def take(self, number: int) -> Told:
        """Return a directory to be listed after all. Raises ``ProtocolError``."""
        told = self._told.pop(number, None)
        if told is None:
            raise ProtocolError(
                f"directory {number} was not told by a digest, or is decided", op="receive"
            )
        self.size -= len(told.records)
        return told

    def decided(self, below: int) -> None:
        """Forget the directories whose entries are all numbered below ``below``."""
        done = []
        for told in self._told.values():
            if told.first + told.entries > below:
                break
            done.append(told)
        for told in done:
            del self._told[told.node.number]
            self.size -= len(told.records)


def relistings(told: Sequence[Told]) -> Iterator[tuple[Relisted, list[Chunk]]]:
    """Yield the messages that list directories after all, and what each of them offers."""
    listings: list[Listing] = []
    chunks: list[Chunk] = []
    size = 0
    for each in told:
        for chunk, final, cost in _parts(each):
            listings.append(Listing(each.node.number, chunk.entries, final))
            chunks.append(chunk)
            size += cost
            if size >= _MESSAGE_BYTES:
                yield Relisted(listings), chunks
                listings, chunks, size = [], [], 0
    if listings:
        yield Relisted(listings), chunks


def _parts(told: Told) -> Iterator[tuple[Chunk, bool, int]]:
    """Cut one directory into listings: what each offers, if it is the last, its bytes."""
    part: list[Entry] = []
    number, cost = told.first, _ENTRY_BYTES
    for entry in entries_in(told.records):
        part.append(entry)
        cost += len(entry.name) + len(entry.target) + _ENTRY_BYTES
        final = number + len(part) == told.first + told.entries
        if final or len(part) >= _CHUNK_ENTRIES or cost >= _CHUNK_BYTES:
            yield Chunk(number, part, told.node.path_of, told.locate), final, cost
            number, part, cost = number + len(part), [], _ENTRY_BYTES
