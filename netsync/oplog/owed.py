"""What a lost standby is owed: the operations on names in their order, and ranges that changed.

While a standby is degraded its operations are not kept: their data is on the primary's disk. What
is kept is enough to make up for them: every operation that is not about data, and for each file the
ranges that were written, coalesced. Files are told apart by inode, since names change; each has the
names under which it was met. If a file with owed data loses its last known name and is said to have
others, only a comparison of everything can find it: ``whole`` then says why. Which files were
written is known all the same (``written``), and a comparison looks at their content: size and time
may be those that the standby has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from netsync.names import shown
from netsync.operation import (
    DataOperation,
    Link,
    Operation,
    PunchHole,
    Rename,
    Truncate,
    Unlink,
    Write,
    ZeroRange,
    written_by,
)
from netsync.wire.codec import Buffer

OWED_BYTES: Final = 512 * 1024 * 1024
"""Bytes of changed ranges; with more, a comparison is cheaper and needs no journal."""
OWED_NAMES: Final = 64 * 1024 * 1024
"""Bytes of operations on names, and of names of files."""
ENDLESS: Final = 2**63 - 1
WRITTEN_MAX: Final = 65_536
"""Names of written files until somebody takes them; with more, all count as written."""
_RANGE_COST: Final = 64
"""Bytes that one range is counted with."""


class Ranges:
    """Ranges of one file, apart from each other and in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> int:
        """Add a range; return by how many bytes there are more."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        before = sum(self._ends[first:last]) - sum(self._starts[first:last])
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        return end - start - before

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        return len(self._starts)


class OwedFile:
    """One file: what was written of it, and the shortest it was meanwhile (None: never cut)."""

    def __init__(self) -> None:
        self.ranges = Ranges()
        self.cut: int | None = None


class FileNames:
    """Under which names files are known, while names change.

    Files are told apart by a number, or by the first name where none is given.
    """

    def __init__(self, names: dict[bytes, int | bytes] | None = None) -> None:
        self._files: dict[bytes, int | bytes] = dict(names or {})
        self._names: dict[int | bytes, set[bytes]] = {}
        for path, file in self._files.items():
            self._names.setdefault(file, set()).add(path)

    def copy(self) -> FileNames:
        """Return another that knows the same."""
        return FileNames(self._files)

    def met(self, path: bytes, file: int) -> int | bytes:
        """The file was met under ``path``: return what it is called here."""
        key = self._files.get(path, file or path)
        self._files[path] = key
        self._names.setdefault(key, set()).add(path)
        return key

    def name_of(self, file: int | bytes) -> bytes | None:
        """Return a name of the file, or None if none is left that is known."""
        return min(self._names.get(file, ()), default=None)

    def follow(self, operation: Operation) -> int | bytes | None:
        """Names change by ``operation``; return the file that lost its last known one."""
        match operation:
            case Link(path=path, to=to):
                if path in self._files:
                    self._move(to, self._files[path])
            case Rename(path=path, to=to):
                lost = self._drop(to)
                self._rename(path, to)
                return lost
            case Unlink(path=path):
                return self._drop(path)
        return None

    def _rename(self, path: bytes, to: bytes) -> None:
        below = path + b"/"
        for each in [p for p in self._files if p == path or p.startswith(below)]:
            file = self._files[each]
            self._drop(each)
            self._files[to + each[len(path) :]] = file
            self._names.setdefault(file, set()).add(to + each[len(path) :])

    def _move(self, path: bytes, file: int | bytes) -> None:
        self._drop(path)
        self._files[path] = file
        self._names.setdefault(file, set()).add(path)

    def _drop(self, path: bytes) -> int | bytes | None:
        file = self._files.pop(path, None)
        if file is None:
            return None
        names = self._names[file]
        names.discard(path)
        if names:
            return None
        del self._names[file]
        return file


class Owed:
    """What there is to make up for since operation ``since``; ``until`` is the last of it.

    ``chains`` are those of the places at which the standby may be.
    ``written`` are the names of files with new content, until they are taken; the empty one stands
    for all.
    """

    def __init__(self, since: int) -> None:
        self.since = self.until = since
        self.operations = 0
        self.bytes = 0
        self.whole = ""
        self.chains: dict[int, bytes] = {}
        self.names: list[tuple[int, bytes]] = []
        self.files: dict[int | bytes, OwedFile] = {}
        self.known = FileNames()
        self.written: set[bytes] = set()
        self._text = 0

    def add(
        self, seq: int, operation: Operation, parts: Sequence[Buffer], file: int, left: int
    ) -> None:
        """An operation, packed in ``parts``, is done that the standby does not get.

        See ``Log.append``.
        """
        self.operations += 1
        self.until = seq
        if written := written_by(operation):
            self.written.add(written)
            if len(self.written) > WRITTEN_MAX:
                self.written = {b""}
        if self.whole:
            return
        if isinstance(operation, DataOperation):
            self._add_data(operation, file)
        else:
            packed = b"".join(parts)
            self.names.append((seq, packed))
            self._text += len(packed)
            self._add_name(operation, left)
        if self.bytes > OWED_BYTES or self._text > OWED_NAMES:
            self._give_up(f"{self.bytes} bytes and {len(self.names)} changes of names are too much")

    def _add_data(self, operation: Operation, file: int) -> None:
        key = self.known.met(operation.path, file)
        owed = self.files.setdefault(key, OwedFile())
        match operation:
            case Write(offset=offset, data=data):
                self._add_range(owed, offset, offset + len(data))
            case Truncate(size=size):
                owed.cut = size if owed.cut is None else min(owed.cut, size)
            case PunchHole(offset=start, length=length) | ZeroRange(offset=start, length=length):
                self._add_range(owed, start, min(start + length, ENDLESS))

    def _add_range(self, owed: OwedFile, start: int, end: int) -> None:
        before = len(owed.ranges)
        self.bytes += owed.ranges.add(start, end)
        self._text += _RANGE_COST * (len(owed.ranges) - before)

    def _add_name(self, operation: Operation, left: int) -> None:
        lost = self.known.follow(operation)
        if lost is not None and lost in self.files:
            for start, end in self.files.pop(lost).ranges:
                self.bytes -= end - start
            if left:
                self._give_up(f"{shown(operation.path)} was written under a name that is gone")

    def _give_up(self, why: str) -> None:
        self.whole = why
        self.names.clear()
        self.files.clear()
        self.known = FileNames()
