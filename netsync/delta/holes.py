"""Where a file has holes, and operations that leave them out.

A hole is a stretch of a file that takes no room on disk and reads as zeros. It is neither matched
nor sent: whoever reads the new file looks here first, and goes on behind it. What was matched or
gathered across a hole all the same has the hole cut out of it. So the target's file has the holes
of the source's. (It may have more, where zeros that are not in a hole were matched with one.)
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from netsync.delta.ops import Copy, Hole, Literal, Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Extent(NamedTuple):
    """Bytes of a file from ``start`` up to ``end``; ``is_hole`` says whether they take room."""

    start: int
    end: int
    is_hole: bool


class Holes:
    """The holes of one file: ``starts`` and ``ends``, rising, apart from each other."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, starts: Sequence[int] = (), ends: Sequence[int] = ()) -> None:
        self._starts = starts
        self._ends = ends

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._starts)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield what the file is made of between two places, without a gap."""
        index = bisect_right(self._ends, start)
        while start < end:
            hole = min(end, self._starts[index]) if index < len(self._starts) else end
            if start < hole:
                yield Extent(start, hole, is_hole=False)
                start = hole
            if start < end:
                yield Extent(start, min(end, self._ends[index]), is_hole=True)
                start = self._ends[index]
            index += 1

    def left_of(self, at: int) -> int:
        """Return how many bytes from ``at`` on lie in one hole, 0 if that byte lies in none."""
        index = bisect_right(self._starts, at) - 1
        return max(0, self._ends[index] - at) if index >= 0 else 0

    def data_left(self, at: int, end: int) -> int:
        """Return how many bytes from ``at`` on come before the next hole, or before ``end``."""
        index = bisect_right(self._ends, at)
        hole = self._starts[index] if index < len(self._starts) else end
        return max(0, min(hole, end) - at)


class Cutter:
    """Cuts ``holes`` out of operations that spell a file from place ``at`` on."""

    def __init__(self, holes: Holes, at: int = 0) -> None:
        self._holes = holes
        self._at = at

    def cut(self, ops: Iterable[Op]) -> Iterator[Op]:
        """Yield the same operations, but for what lies in a hole."""
        for op in ops:
            length = len(op.data) if isinstance(op, Literal) else op.length
            start, self._at = self._at, self._at + length
            if isinstance(op, Hole) or not self._holes:
                yield op
                continue
            for extent in self._holes.extents(start, self._at):
                first, count = extent.start - start, extent.end - extent.start
                if extent.is_hole:
                    yield Hole(count)
                elif isinstance(op, Copy):
                    yield Copy(op.offset + first, count)
                else:
                    yield op if count == length else Literal(op.data[first : first + count])
