"""The fine level: what the gaps between coarse matches still share with the basis.

Spans are gathered in windows of the new file. A window knows which coarse blocks of the basis its
gaps may have come from: those between the matches around each gap, as many as the gap could hold.
Their fine entries are asked for once, for the whole window, and looked through together, so that
pages that changed places within a window are found too.

A gap is then narrowed from both ends in steps of the fine block, and where it replaces as many
bytes as it has, an edit in place, in step throughout. What is left is mostly a page or two that
changed. One page is looked up as it is; more are rolled through: at the coarse level first if a
coarse block could hide there and nobody looked yet, then at the fine one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netsync.delta.coarse import Gap
from netsync.delta.kernel import WEAK_SIZE
from netsync.delta.levels import Basis, Level, Run, fine_entries
from netsync.delta.match import LITERAL_MAX
from netsync.delta.ops import Copy, Hole, Literal, Op
from netsync.delta.search import Budget, Search
from netsync.delta.signature import ENTRY_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW_BYTES: Final = 64 << 20
"""Bytes of the new file in a window: the target starts to write after the first one."""
WINDOW_RUNS: Final = 4096
"""Ranges of blocks asked for at once: two numbers each, in one frame."""
WINDOW_ENTRIES: Final = 64 << 10
"""Fine entries from which on a window is full: 768 KiB. One gap more may come on top."""

_MISSES: Final = 2
"""Fine blocks that may differ in a row before what follows a match counts as shifted."""
_BARREN: Final = 16 << 20
"""Bytes rolled at the fine level without a find after which most of it is left out: a file of new
data would be rolled twice, and what is longer than two coarse blocks the coarse level finds."""
_STRETCH: Final = 4 << 20
_SAMPLE: Final = 4
"""Then one stretch in so many is still rolled; a find ends it."""


class Window:
    """Consecutive spans of the new file, and the basis blocks that their gaps may consist of.

    It is full with ``most`` bytes. ``bytes`` does not count holes, which are nothing to read or to
    write.
    """

    def __init__(self, basis: Basis, most: int = WINDOW_BYTES) -> None:
        self._most = most
        self._basis_size, self._layout = basis.size, basis.layout
        self._blocks = -(-basis.size // basis.layout.block)
        self._ranges: list[tuple[int, int]] = []  # first block, block behind the last
        self._entries = 0
        self.spans: list[Run | Gap | Hole] = []
        self.bytes = 0

    def add(self, span: Run | Gap | Hole) -> None:
        """Take the next span."""
        if isinstance(span, Hole):
            self.spans.append(span)
            return
        self.bytes += span.length
        if isinstance(span, Gap):
            self.spans.append(span)
            if span.length >= self._layout.fine:
                self._ask(span)
            return
        last = self.spans[-1] if self.spans else None
        if isinstance(last, Run) and last.offset + last.length == span.offset:
            self.spans[-1] = Run(last.at, last.offset, last.length + span.length)
        else:
            self.spans.append(span)

    def _ask(self, gap: Gap) -> None:
        """Note the blocks behind the match before the gap, and those before the match behind it."""
        block = self._layout.block
        room = -(-gap.length // block) + (0 if gap.rolled and gap.after < 0 else 1)
        first = gap.before // block
        last = -(-gap.after // block) if gap.after >= 0 else -1
        if first <= last <= first + 2 * room:
            wanted = [(first, last)]
        else:
            end = first + room if last < first else min(first + room, last)
            wanted = [(first, end), (last - room, last)] if last >= 0 else [(first, end)]
        for start, stop in wanted:
            first, count = max(0, start), min(stop, self._blocks) - max(0, start)
            if count > 0:
                self._ranges.append((first, first + count))
                self._entries += fine_entries(self._basis_size, self._layout, first, count)

    @property
    def is_full(self) -> bool:
        """Tell whether its fine entries should be asked for now."""
        return (
            self.bytes >= self._most
            or self._entries >= WINDOW_ENTRIES
            or len(self._ranges) >= WINDOW_RUNS
        )

    def wanted(self) -> list[tuple[int, int]]:
        """Return the runs of coarse blocks wanted, as (first, count), rising and apart."""
        merged: list[list[int]] = []
        for first, end in sorted(self._ranges):
            if merged and first <= merged[-1][1]:
                merged[-1][1] = max(end, merged[-1][1])
            else:
                merged.append([first, end])
        return [(first, end - first) for first, end in merged]


class Refiner:
    """Turns the spans of one window into operations, with the fine entries that were asked for.

    ``read`` returns bytes of the new file, valid until its next call; ``coarse`` returns the
    coarse level once it is whole, None until then. ``entries`` are those of ``wanted``, in order.
    """

    def __init__(
        self,
        read: Callable[[int, int], memoryview],
        coarse: Callable[[], Level | None],
        window: Window,
        entries: bytes | bytearray,
        basis: Basis,
        budget: Budget,
    ) -> None:
        self._read = read
        self._coarse = coarse
        self._spans = window.spans
        self._budget = budget
        self._forward_only = basis.forward_only
        self._block = basis.layout.block
        layout = basis.layout
        runs: list[tuple[int, int]] = []
        self._tail: Run | None = None
        for first, count in window.wanted():
            start = first * layout.block
            end = min(basis.size, start + count * layout.block)
            runs.append((start // layout.fine, (end - start) // layout.fine))
            if end % layout.fine:
                length = end % layout.fine
                self._tail = Run(0, end - length, length)
        self._tail_sum = bytes(entries[-ENTRY_SIZE + WEAK_SIZE :]) if self._tail else b""
        self._level = Level(layout.fine, basis.seed, entries, runs)

    def ops(self, size: int) -> Iterator[Op | None]:
        """Yield the operations of the window; None means that the coarse signature is needed.

        ``size`` is the new file's. Copies are not joined. Literals own their bytes.
        """
        for span in self._spans:
            if isinstance(span, Run):
                yield Copy(span.offset, span.length)
                continue
            if isinstance(span, Hole):
                yield span
                continue
            view = self._read(span.at, span.length)
            at = 0
            for run in self._narrowed(span, view, size):
                if run is None:
                    yield None
                    continue
                yield from _literals(view[at : run.at - span.at])
                yield Copy(run.offset, run.length)
                at = run.at - span.at + run.length
            yield from _literals(view[at:])

    def _narrowed(self, gap: Gap, view: memoryview, size: int) -> Iterator[Run | None]:
        """Yield the runs in a gap, from front to back."""
        at, end = 0, len(view)
        behind = self._from_the_end(gap, view, size)
        if behind is not None:
            end = behind.at - gap.at
        for run in self._in_step(gap, view[:end]):
            yield from self._rolled(gap, view, at, run.at - gap.at)
            yield run
            at = run.at - gap.at + run.length
        yield from self._rolled(gap, view, at, end)
        if behind is not None:
            yield behind

    def _in_step(self, gap: Gap, view: memoryview) -> Iterator[Run]:
        """Yield what is where it would be had nothing moved: all of it, or up to two misses."""
        level, shift = self._level, gap.before - gap.at
        misses = at = 0
        if shift < 0 and self._forward_only:
            return
        while at + level.size <= len(view) and (gap.in_step or misses < _MISSES):
            index = level.index(gap.before + at)
            length = level.size * level.follow(view, at, index, self._budget)
            if length:
                yield Run(gap.at + at, gap.before + at, length)
            misses = 0 if length else misses + 1
            at += length or level.size

    def _from_the_end(self, gap: Gap, view: memoryview, size: int) -> Run | None:
        """Return what is in step with the match behind the gap, or is the end of both files."""
        tail, end = self._tail, len(view)
        if tail is not None and gap.at + end == size and tail.length <= end:
            place = size - tail.length
            self._budget.work += tail.length
            strong = self._level.strong(view[end - tail.length :])
            if strong == self._tail_sum and not (self._forward_only and tail.offset < place):
                return Run(place, tail.offset, tail.length)
        backwards = gap.after >= 0 and not gap.in_step
        if not backwards or (self._forward_only and gap.after < gap.at + end):
            return None
        level, at, offset = self._level, end, gap.after
        while at >= level.size:
            at, offset = at - level.size, offset - level.size
            if not level.follow(view[: at + level.size], at, level.index(offset), self._budget):
                at, offset = at + level.size, offset + level.size
                break
        return Run(gap.at + at, offset, end - at) if at < end else None

    def _rolled(self, gap: Gap, view: memoryview, start: int, end: int) -> Iterator[Run | None]:
        """Yield runs found at any offset between ``start`` and ``end`` of the view."""
        if end - start >= self._block and not gap.rolled:
            while (coarse := self._coarse()) is None:
                yield None
            for run in self._found(coarse, gap, view[start:end], start):
                yield from self._found_fine(gap, view[start : run.at - gap.at], start)
                yield run
                start = run.at - gap.at + run.length
        yield from self._found_fine(gap, view[start:end], start)

    def _found_fine(self, gap: Gap, view: memoryview, at: int) -> Iterator[Run]:
        """Yield runs of fine blocks; in new data without end, look in one gap of a few only."""
        budget = self._budget
        budget.barren += len(view)
        if budget.barren > _BARREN and budget.barren % (_SAMPLE * _STRETCH) >= _STRETCH:
            return
        for run in self._found(self._level, gap, view, at):
            budget.barren = 0
            yield run

    def _found(self, level: Level, gap: Gap, view: memoryview, at: int) -> Iterator[Run]:
        if len(view) < level.size or not level.count:
            return iter(())
        search = Search(level, self._budget, forward_only=self._forward_only)
        return search.runs(view, gap.at + at, gap.before - gap.at)


def _literals(view: memoryview) -> Iterator[Literal]:
    for start in range(0, len(view), LITERAL_MAX):
        yield Literal(bytes(view[start : start + LITERAL_MAX]))
