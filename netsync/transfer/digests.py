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
from netsync.model import DEVICES, SPECIALS, Entry, Keep, Kind, Options
from netsync.names import join
from netsync.transfer.backing import Node
from netsync.transfer.offers import Chunk, Located
from netsync.tree.directories import Directories
from netsync.tree.native import Coverage, Packed, pack_directory
from netsync.tree.records import entries_in, entry_in, records_digest
from netsync.wire.listing import DIGEST_BYTES, Listing, Terms
from netsync.wire.messages import Relisted

RECORDS_MAX: Final = 1024 * 1024
"""Bytes of records of one directory, some 15,000 entries; a larger one is listed."""
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


def kinds_kept(keep: Keep) -> int:
    """Return ``Terms.kinds`` of what a transfer keeps."""
    kinds = {Kind.FILE, Kind.DIRECTORY}
    if keep.links:
        kinds.add(Kind.SYMLINK)
    if keep.devices:
        kinds |= DEVICES | SPECIALS
    return sum(1 << kind for kind in kinds)


class Told(NamedTuple):
    """A directory the source told by its digest, kept until the target has decided about it."""

    number: int
    first: int
    entries: int
    path_of: Callable[[bytes], bytes]
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
    chunk: Chunk
    cost: int
    children: list[Node]


def subdirectories(packed: Packed) -> Iterator[tuple[int, Entry]]:
    """Yield the directories in a packed one, each with its place among the entries."""
    for index, offset in packed[3]:
        yield index, entry_in(packed[0], offset)[0]


class Digester:
    """Makes digests at the source, on the target's ``terms``."""

    def __init__(self, terms: Terms, options: Options) -> None:
        self._seed = terms.seed
        self._coverage = Coverage(
            terms.mode_mask,
            terms.kinds & kinds_kept(options.keep),
            terms.owner,
            terms.group,
            not terms.links,
            not terms.attributes,
            RECORDS_MAX,
        )

    def digest(
        self, node: Node, place: tuple[int, bytes, Directories], first: int, gathered: Gathered
    ) -> Digest | None:
        """Return the digest of a directory; None if it must be listed, as an empty one is.

        ``place`` is its root's number, its path there and the root's directories, ``first`` the
        number its first entry gets. What it stands for is added to ``gathered``.
        """
        root, directory, directories = place
        try:
            packed, _ = pack_directory(directories.fd(directory), self._coverage, b"", b"")
        except OSError:
            return None  # listing it will say what is wrong
        if packed is None or not packed[1]:
            return None
        records, count, size, _, uids, gids = packed
        told = Told(node.number, first, count, node.path_of, root, directory, records)
        gathered.told.append(told)
        gathered.size += size
        gathered.users.update(uids)
        gathered.groups.update(gids)
        children = [
            Node(first + index, node.path_of(entry.name), [(root, join(directory, entry.name))])
            for index, entry in subdirectories(packed)
        ]
        digest = records_digest(records, self._seed, DIGEST_BYTES)
        listing = Listing(node.number, [], True, digest=digest, count=count)
        chunk = Chunk(first, [], node.path_of, told.locate)
        return Digest(listing, chunk, _LISTING_BYTES + _SCAN_BYTES * count, children)


def is_digestible(options: Options) -> bool:
    """Tell whether a source may tell directories by what they hold: all that is there is listed.

    What is stored beside entries is no part of a digest.
    """
    chosen = options.rules or options.paths is not None or options.max_size is not None
    changed = options.chmod or options.copy_links or options.safe_links or options.store_metadata
    return not (chosen or options.min_size or options.one_file_system or changed)


def is_above_backup(directory: bytes, options: Options) -> bool:
    """Tell whether the backup directory lies in ``directory``: its way is listed name by name.

    It takes no part, and equal entries on both sides would open it like any other directory.
    """
    inside = not directory or options.backup_dir.startswith(directory + b"/")
    return bool(options.backup_dir) and inside


class Records:
    """At the source: directories told by a digest, until the target has decided about them."""

    def __init__(self) -> None:
        self.size = 0
        self._told: dict[int, Told] = {}

    def add(self, told: Told) -> None:
        """Keep a directory; the numbers of its entries only grow."""
        self._told[told.number] = told
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
            del self._told[told.number]
            self.size -= len(told.records)


def relistings(told: Sequence[Told]) -> Iterator[tuple[Relisted, list[Chunk]]]:
    """Yield the messages that list directories after all, and what each of them offers."""
    listings: list[Listing] = []
    chunks: list[Chunk] = []
    size = 0
    for each in told:
        for chunk, final, cost in _parts(each):
            listings.append(Listing(each.number, chunk.entries, final))
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
            yield Chunk(number, part, told.path_of, told.locate), final, cost
            number, part, cost = number + len(part), [], _ENTRY_BYTES
