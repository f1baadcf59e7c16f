"""Renamed files: content that the target is about to delete under another name.

With ``--delete`` a new file waits until the source has listed everything, for only then is it
known which names go. A name that goes and has a file of the same size is a candidate. What sizes,
times and names suggest is only an order to look in: the source is asked for the digest of the
wanted file, the candidate is copied into the stage (by reflink where that can be), and the copy
is published if its own digest is that one. The old name is not touched; it goes with the other
deletes, after the guards, or stays if they hold.

Bounds: what waits is spooled to disk; of candidates as many are known as fit ``PATHS_MAX``, the
rest are as if there were none. Each candidate is read at most once to no avail, however many
files have its size.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from netsync.model import Change, Entry, Options
from netsync.names import join
from netsync.transfer.offers import RENAME_MIN, waits_for_renames
from netsync.transfer.spool import Spool
from netsync.transfer.wanted import Doomed, Wanted
from netsync.tree.directories import Directories
from netsync.tree.native import stat_entries
from netsync.tree.place import Attributes
from netsync.tree.scan import entry_from, names_in
from netsync.wire.reuse import DIGESTS_MAX

PATHS_MAX: Final = 16 * 1024 * 1024
"""Bytes of candidates' paths held, and 100 bytes more for each: some 80,000 files."""
_CANDIDATE_BYTES: Final = 100
_SIZES: Final = 1 << 23
"""Bits in which the sizes that are waited for are marked: 1 MiB, however many they are."""
_SCANNED: Final = 512
"""Entries looked at together."""


class Waiting(Struct, frozen=True, array_like=True):
    """A new file that is wanted when all is listed."""

    number: int
    directory: bytes
    entry: Entry
    attributes: Attributes


class Candidates:
    """The files of one size that are about to go. A place is a directory and a name in it."""

    def __init__(self) -> None:
        self._unread: dict[bytes, None] = {}
        self._same: dict[tuple[int, bytes], bytes] = {}
        self._as_old: dict[int, bytes] = {}
        self._digests: dict[bytes, bytes] = {}

    def add(self, path: bytes, entry: Entry) -> None:
        """Note a file."""
        self._unread[path] = None
        self._same[entry.mtime_ns, entry.name] = path
        self._as_old[entry.mtime_ns] = path

    def with_digest(self, digest: bytes) -> bytes | None:
        """Return the path of a file that was read and had this digest."""
        return self._digests.get(digest)

    def read(self, path: bytes, digest: bytes) -> None:
        """Note what a file turned out to hold (empty: it could not be read)."""
        self._unread.pop(path, None)
        if digest:
            self._digests.setdefault(digest, path)

    def likely(self, entry: Entry) -> bytes | None:
        """Return the file to try first for ``entry``: one with its time and name, or its time."""
        same, as_old = (
            self._same.get((entry.mtime_ns, entry.name)),
            self._as_old.get(entry.mtime_ns),
        )
        return next((path for path in (same, as_old) if path in self._unread), None)

    def any_unread(self) -> bytes | None:
        """Return a file that has not been read."""
        return next(iter(self._unread), None)


class Renames:
    """New files that wait, and the files they may be. Used by one worker thread at a time."""

    def __init__(self, root: int, options: Options) -> None:
        self._options = options
        self._directories = Directories(root)
        self._waiting = Spool(Waiting)
        self._left: Iterator[Waiting] = iter(())
        self._sizes = bytearray()
        self._candidates: dict[int, Candidates] = {}
        self._room = PATHS_MAX
        self._possible = False

    def begin(self) -> None:
        """Look whether there is anything at the target that may be a file under its old name."""
        self._possible = self._options.delete and bool(names_in(self._directories.root)[0])
        if self._possible:
            self._sizes = bytearray(_SIZES // 8)

    def close(self) -> None:
        """Let go of what waits and of descriptors."""
        self._waiting.close()
        self._directories.close()

    def takes(self, wanted: Wanted) -> bool:
        """Tell whether ``wanted`` waits until all is listed, and keep it until then."""
        entry = wanted.entry
        if not self._possible or wanted.change is not Change.CREATED or wanted.in_the_way:
            return False
        if wanted.partial is not None or not waits_for_renames(entry, self._options):
            return False
        self._waiting.append(Waiting(wanted.number, wanted.directory, entry, wanted.attributes))
        bit = entry.size % _SIZES
        self._sizes[bit >> 3] |= 1 << (bit & 7)
        return True

    def look(self, doomed: Iterable[Doomed]) -> None:
        """Find the candidates among the names that go; call once, when all is listed."""
        if not len(self._waiting):
            return
        self._left = iter(self._waiting)
        for each in doomed:
            self._look_at(each.path)
            if self._room <= 0:
                return

    def _look_at(self, path: bytes) -> None:
        """Note the files at ``path`` and below; what cannot be read is no candidate."""
        directory, _, name = path.rpartition(b"/")
        stack = self._scan(directory, [name])
        while stack and self._room > 0:
            directory = stack.pop()
            with contextlib.suppress(OSError):
                names, _ = names_in(self._directories.fd(directory))
                for start in range(0, len(names), _SCANNED):
                    stack += self._scan(directory, names[start : start + _SCANNED])

    def _scan(self, directory: bytes, names: list[bytes]) -> list[bytes]:
        """Note the files among ``names``; return the directories."""
        below: list[bytes] = []
        with contextlib.suppress(OSError):
            fd = self._directories.fd(directory)
            for name, status in zip(names, stat_entries(fd, names), strict=True):
                if isinstance(status, int):
                    continue
                if stat.S_ISDIR(status[0]):
                    below.append(join(directory, name))
                elif stat.S_ISREG(status[0]):
                    self._note(join(directory, name), entry_from(status, name, fd))
        return below

    def _note(self, path: bytes, entry: Entry) -> None:
        bit = entry.size % _SIZES
        if self._room <= 0 or not entry.size or not self._sizes[bit >> 3] & (1 << (bit & 7)):
            return
        self._room -= len(path) + _CANDIDATE_BYTES
        self._candidates.setdefault(entry.size, Candidates()).add(path, entry)

    def candidates(self, size: int) -> Candidates | None:
        """Return the files of ``size`` bytes that are about to go."""
        return self._candidates.get(size)

    def _is_likely(self, entry: Entry) -> bool:
        """Tell whether there is a candidate worth asking for: for a small file only its like."""
        found = self._candidates.get(entry.size)
        if found is None:
            return False
        return entry.size >= RENAME_MIN or found.likely(entry) is not None

    def next_batch(self) -> tuple[list[Wanted], list[Wanted]] | None:
        """Return files that waited: those to be sent, and those to be asked the digest of.

        None at the end. Runs in a worker thread.
        """
        whole: list[Wanted] = []
        asked: list[Wanted] = []
        for waiting in self._left:
            wanted = Wanted(waiting.number, waiting.directory, waiting.entry, None, Change.CREATED)
            wanted.attributes = waiting.attributes
            (asked if self._is_likely(waiting.entry) else whole).append(wanted)
            if len(whole) + len(asked) == DIGESTS_MAX:
                break
        return (whole, asked) if whole or asked else None
