"""What the source has offered and the target may still ask for.

Entries are numbered as they are listed. A target can want only a number that was offered, that
is a regular file, and that it has not decided about; nothing else that it says leads to a file.
Memory is bounded by the credit for listing (undecided entries) and by the target's bound on
wants (wanted ones), which is checked here too. Files that a target may have to decide about later
than when they are compared (``is_deferrable``) are kept apart, on disk past a bound.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Final, NamedTuple

from msgspec import Struct

from netsync.errors import ProtocolError
from netsync.model import Entry, Kind, Options
from netsync.transfer.spool import Archive

WANTED_MAX: Final = 32 * 1024
"""Files a target may have wanted and not yet settled; ours stays far below."""
ATTEMPTS_MAX: Final = 3
"""Times one file may be asked for: whole or delta, and again when a digest did not fit."""


class Located(NamedTuple):
    """Where an entry really is: which root, the directory below it, the name in that."""

    root: int
    directory: bytes
    name: bytes


class InDirectory(Struct, frozen=True):
    """Says of names where they are: under themselves in one real directory."""

    root: int
    directory: bytes

    def __call__(self, name: bytes) -> Located:
        return Located(self.root, self.directory, name)


class Offered(Struct, frozen=True, gc=False):
    """A regular file that was listed: its entry, and where its name leads.

    What its path is matters only where it fails, so that is not worked out before.
    """

    number: int
    entry: Entry
    path_of: Callable[[bytes], bytes]
    locate: Callable[[bytes], Located]

    @property
    def path(self) -> bytes:
        """Its path in the transfer."""
        return self.path_of(self.entry.name)

    @property
    def located(self) -> Located:
        """Its real place."""
        return self.locate(self.entry.name)


class Chunk(NamedTuple):
    """Consecutive entries of one directory; ``first`` is the number of the first.

    The functions outlive the chunk with what is wanted of it: they hold no names.
    """

    first: int
    entries: list[Entry]
    path_of: Callable[[bytes], bytes]
    locate: Callable[[bytes], Located]

    @property
    def end(self) -> int:
        """The number after its last."""
        return self.first + len(self.entries)

    def offered(self, number: int) -> Offered:
        """Return one of its files."""
        return Offered(number, self.entries[number - self.first], self.path_of, self.locate)

    def part(self, first: int, end: int) -> Chunk:
        """Return those numbered from ``first`` to before ``end``."""
        entries = self.entries[first - self.first : end - self.first]
        return Chunk(first, entries, self.path_of, self.locate)


def _single(offered: Offered) -> Chunk:
    return Chunk(offered.number, [offered.entry], offered.path_of, offered.locate)


class _Part(Struct, eq=False):
    """Files that were wanted together; ``open`` counts those not settled."""

    files: Chunk
    open: int


class Kept(Struct, frozen=True, array_like=True):
    """An offered file that may be wanted after the target has gone on."""

    path: bytes
    entry: Entry
    root: int
    directory: bytes
    name: bytes


RENAME_MIN: Final = 64 * 1024
"""Bytes: smaller new files are sent at once, for less than asking for their digest may cost."""
RENAME_MIN_OF_CHANGES: Final = 1
"""The same where only what changed is listed: there what goes is few, and mostly was renamed."""


def waits_for_renames(entry: Entry, options: Options) -> bool:
    """Tell whether a new file may be one the target has under a name that goes.

    What ``--delete-before`` deletes is gone by then.
    """
    if not options.delete or options.delete_before or options.whole_file:
        return False
    least = RENAME_MIN_OF_CHANGES if options.changes else RENAME_MIN
    return entry.size >= least and not entry.link


def is_deferrable(entry: Entry, options: Options) -> bool:
    """Tell whether a target may want this file only when it knows the whole listing.

    A name of several of one inode is wanted if the name that carries the data fails. A new file
    may be a renamed one. With
    ``--delete-before`` all data is wanted behind the deletes.
    """
    deferred = options.delete_before and not options.dry_run
    return entry.kind is Kind.FILE and (
        deferred or bool(entry.link) or waits_for_renames(entry, options)
    )


_NOWHERE: Final = Chunk(0, [], bytes, lambda name: Located(0, b"", name))


class Offers:
    """The window of what is listed and not decided, and what is wanted and not settled."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._kept = Archive(Kept)
        self._chunks: list[Chunk] = []
        self._firsts: list[int] = []
        self._wanted: dict[int, _Part] = {}
        self._held = 0  # entries of their parts
        self._attempts: dict[int, int] = {}  # of those wanted more than once
        self._near = _NOWHERE  # numbers mostly come as neighbours

    def add(self, chunk: Chunk) -> None:
        """Remember a listed chunk. Numbers grow, but for those listed after their digest."""
        if chunk.entries:
            position = bisect_right(self._firsts, chunk.first)
            self._chunks.insert(position, chunk)
            self._firsts.insert(position, chunk.first)

    def want_all(self, numbers: Sequence[int]) -> Iterator[Chunk]:
        """Yield the files with these numbers, neighbours together; raise like ``want``."""
        if not self._wanted.keys().isdisjoint(numbers):
            for number in numbers:
                yield _single(self.want(number))
            return
        for first, end in _ranges(numbers):
            at = first
            while at < end:
                chunk = self._chunk_of(at)
                files = chunk.part(at, min(end, chunk.end)) if at < chunk.end else self._alone(at)
                if {entry.kind for entry in files.entries} != {Kind.FILE}:
                    files = self._alone(at)
                self._take(files)
                yield files
                at = files.end

    def _alone(self, number: int) -> Chunk:
        return _single(self._find(number))

    def _take(self, files: Chunk) -> None:
        """Note files as wanted. Raises ``ProtocolError`` for one too many, or one that is named
        twice."""
        count = len(files.entries)
        before = len(self._wanted)
        part = _Part(files, count)
        self._wanted.update(dict.fromkeys(range(files.first, files.end), part))
        if len(self._wanted) != before + count:
            raise ProtocolError("a file was wanted twice at once", op="receive")
        if len(self._wanted) > WANTED_MAX:
            raise ProtocolError("too many files wanted at once", op="receive")
        self._held += count
        if self._held > 2 * WANTED_MAX:
            self._part_all()

    def _part_all(self) -> None:
        """Hold the entries of what is not settled alone: few of many that were wanted together."""
        for number, part in self._wanted.items():
            if len(part.files.entries) > 1:
                self._wanted[number] = _Part(part.files.part(number, number + 1), 1)
        self._held = len(self._wanted)

    def want(self, number: int) -> Offered:
        """Return the file with this number; raise ``ProtocolError`` if it may not be wanted."""
        part = self._wanted.get(number)
        if part is None:
            self._take(files := self._alone(number))
            return files.offered(number)
        offered = part.files.offered(number)
        attempts = self._attempts.get(number, 1) + 1
        if attempts > ATTEMPTS_MAX:
            raise ProtocolError(f"file {number} was wanted too often", op="receive")
        self._attempts[number] = attempts
        return offered

    def ask(self, number: int) -> Offered:
        """Return the file with this number, of which only the digest is wanted yet."""
        if number in self._wanted:
            raise ProtocolError(f"file {number} is wanted already", op="receive")
        self._take(files := self._alone(number))
        self._attempts[number] = 0
        return files.offered(number)

    def wanted(self, number: int) -> Offered:
        """Return a file that was wanted before."""
        part = self._wanted.get(number)
        if part is None:
            raise ProtocolError(f"file {number} is not wanted", op="receive")
        return part.files.offered(number)

    def is_last_attempt(self, number: int) -> bool:
        """Tell whether a wanted file may not be asked for once more."""
        return self._attempts.get(number, 0) >= ATTEMPTS_MAX

    def close(self) -> None:
        """Drop what is kept."""
        self._kept.close()

    def _chunk_of(self, number: int) -> Chunk:
        """Return the chunk that has this number, if one does; else any, or none."""
        near = self._near
        if not near.first <= number < near.end:
            position = bisect_right(self._firsts, number) - 1
            near = self._near = self._chunks[position] if position >= 0 else _NOWHERE
        return near

    def _find(self, number: int) -> Offered:
        first, entries, path_of, locate = self._chunk_of(number)
        if 0 <= number - first < len(entries):
            entry = entries[number - first]
            if entry.kind is Kind.FILE:
                return Offered(number, entry, path_of, locate)
        kept = self._kept.get(number)
        if kept is not None:
            located = Located(kept.root, kept.directory, kept.name)
            return Offered(number, kept.entry, lambda _: kept.path, lambda _: located)
        raise ProtocolError(f"entry {number} was not offered as a file", op="receive")

    def decided(self, below: int) -> None:
        """Forget the entries numbered below ``below`` that were not wanted, or put them by."""
        count = bisect_right(self._firsts, below)
        if count and self._firsts[count - 1] + len(self._chunks[count - 1].entries) > below:
            count -= 1
        for chunk in self._chunks[:count]:
            self._keep_deferrable(chunk)
        del self._chunks[:count], self._firsts[:count]
        self._near = _NOWHERE

    def _keep_deferrable(self, chunk: Chunk) -> None:
        for number, entry in enumerate(chunk.entries, chunk.first):
            if is_deferrable(entry, self._options):
                located = chunk.locate(entry.name)
                self._kept.put(number, Kept(chunk.path_of(entry.name), entry, *located))

    @property
    def all_settled(self) -> bool:
        """Tell whether nothing that was wanted is open."""
        return not self._wanted

    def settled(self, numbers: Sequence[int]) -> None:
        """Forget wanted files: the target has them or has given them up."""
        parts = list(map(self._wanted.pop, numbers, repeat(None)))
        for part, count in Counter(parts).items():
            if part is None:
                raise ProtocolError("a file was settled but not wanted", op="receive")
            part.open -= count
            if not part.open:
                self._held -= len(part.files.entries)
        if self._attempts:
            for number in numbers:
                self._attempts.pop(number, None)


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first of neighbours in ``numbers``, and the number after their last."""
    first = before = -1
    for number in numbers:
        if number != before + 1 or first < 0:
            if first >= 0:
                yield first, before + 1
            first = number
        before = number
    if first >= 0:
        yield first, before + 1
