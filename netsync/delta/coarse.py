"""The coarse level: where the new file repeats the basis in large blocks, while the basis is
still being signed.

The scanner reads the new file once, from front to back, and says of every byte either that it is
*matched* or that it lies in a *gap*. It starts in step with the basis, and checks where the next
block should be as soon as the entry for it has arrived; so it runs behind the signature, not
after it. What is at hand and has its entries is compared with one call. When blocks differ it stays
in step: most changes are edits in place, and the first block that fits again closes the gap.

When a stretch of ``_patience`` blocks differs, the alignment may be lost. Then the stretch is
rolled through, first against the entries that have arrived, since what was inserted or deleted is
mostly short and what was moved has mostly not moved far; then, once the signature is whole,
against all. A hit brings the scanner in step at another shift. A stretch without one is a gap,
and the next one begins in step again. A shift that was found makes the scanner less patient, a gap
closed in step more: files tend to be either edited or shifted.

A block that lies in a hole of the new file is neither read nor compared, and passed over.

Every byte is hashed once in step, again after each hit for at most ``_PATIENCE_BYTES``, and rolled
at most twice; so work is linear whatever is in the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from netsync.delta.holes import Holes
from netsync.delta.levels import COARSE, Basis, Level, Run
from netsync.delta.ops import Hole
from netsync.delta.search import Budget, Search
from netsync.delta.signature import ENTRY_SIZE, entries_size

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_PATIENCE_BYTES: Final = 4 << 20
"""Bytes that may differ in a row before the alignment counts as lost."""
_PATIENCE_MAX: Final = _PATIENCE_BYTES // COARSE
_PATIENCE_MIN: Final = 2
_GROWTH: Final = 64
"""Entries by which, beside a quarter, a table of what has arrived must be outgrown to be remade."""


class Gap(NamedTuple):
    """Bytes of the new file that no coarse block was found for.

    ``before`` is the basis offset behind the match in front of it, ``after`` that of the match
    behind it, -1 if there is none. ``rolled`` says that no coarse block lies anywhere in it.
    """

    at: int
    length: int
    before: int
    after: int
    rolled: bool = False

    @property
    def in_step(self) -> bool:
        """Tell whether it looks like an edit in place: as long as what it replaces."""
        return self.after - self.before == self.length


class Scanner:
    """Compares a new file of ``size`` bytes with a basis whose signature is still arriving.

    ``read`` returns at least so many bytes of the new file from an offset on, and what it has at
    hand behind them, valid until the next call; ``at`` is how far the scanner is.
    """

    def __init__(
        self,
        read: Callable[[int, int], memoryview],
        size: int,
        basis: Basis,
        budget: Budget,
        holes: Holes | None = None,
    ) -> None:
        self._read = read
        self._size = size
        self._basis_size = basis.size
        self._block = block_size = basis.layout.block
        self._seed = basis.seed
        self._forward_only = basis.forward_only
        self._budget = budget
        self._holes = holes or Holes()
        self._entries = bytearray()
        self._missing = entries_size(basis.size, block_size)
        fitting = max(_PATIENCE_MIN, _PATIENCE_BYTES // block_size)
        self._patience = self._patience_max = min(fitting, _PATIENCE_MAX)
        self._arrived = self._level(0)
        self._all: Level | None = None
        self.at = 0

    def _level(self, blocks: int) -> Level:
        return Level(self._block, self._seed, self._entries, [(0, blocks)])

    def extend(self, entries: bytes) -> None:
        """Take the next entries of the signature. Raises ValueError when they are too many."""
        if len(entries) > self._missing or len(entries) % ENTRY_SIZE:
            raise ValueError("a signature is longer than its file")
        self._entries += entries
        self._missing -= len(entries)

    @property
    def whole(self) -> Level | None:
        """All full blocks, once the signature is complete."""
        if self._all is None and not self._missing:
            self._all = self._level(self._basis_size // self._block)
        return self._all

    def spans(self) -> Iterator[Run | Gap | Hole | None]:
        """Yield the matches, gaps and holes, from the first byte to the last.

        Of a hole only whole blocks are told as one. None means that more entries are needed
        before it can go on.
        """
        gap = shift = 0  # where the undecided part begins; basis offset minus place
        while self.at < self._size:
            if self._holes and (hole := self._holes.left_of(self.at) // self._block):
                if gap < self.at:
                    yield Gap(gap, self.at - gap, gap + shift, self.at + shift)
                yield Hole(hole * self._block)
                self.at = gap = self.at + hole * self._block
                continue
            gap, differs = yield from self._in_step(gap, shift)
            if not differs:
                continue
            self.at = min(self._size, self.at + self._block)
            if self.at - gap < self._patience * self._block:
                continue
            run = yield from self._recovered(gap, shift)
            if run is None:
                yield Gap(gap, self.at - gap, gap + shift, -1, rolled=True)
                gap = self.at
                continue
            if gap < run.at:
                yield Gap(gap, run.at - gap, gap + shift, run.offset)
            yield run
            shift = run.offset - run.at
            gap = self.at = run.at + run.length
            self._patience = max(_PATIENCE_MIN, self._patience // 4)
        if gap < self._size:
            after = self._basis_size if self._size + shift == self._basis_size else -1
            yield Gap(gap, self._size - gap, gap + shift, after)

    def _in_step(self, gap: int, shift: int) -> Generator[Run | Gap | None, None, tuple[int, bool]]:
        """Yield what matches where it should, behind the gap that it closes.

        Return where the undecided part begins, and whether the next block is known to differ.
        """
        length = self._length_in_step(shift)
        if not length:  # beyond the basis, or the last few bytes
            self._read(self.at, min(self._block, self._size - self.at))
            return gap, True
        matched, differs = yield from self._matches(length, shift)
        if not matched:
            return gap, differs
        if gap < self.at:
            yield Gap(gap, self.at - gap, gap + shift, self.at + shift)
            self._patience = min(self._patience_max, 2 * self._patience)
        yield Run(self.at, self.at + shift, matched)
        self.at += matched
        return self.at, differs

    def _length_in_step(self, shift: int) -> int:
        """Return how long the basis block is that should come next, 0 if none can.

        The basis's short last block fits only at the new file's end.
        """
        offset, left = self.at + shift, self._size - self.at
        length = min(self._block, self._basis_size - offset)
        if offset < 0 or length <= 0 or length > left or (shift < 0 and self._forward_only):
            return 0
        return length if length in (self._block, left) else 0

    def _matches(self, length: int, shift: int) -> Generator[None, None, tuple[int, bool]]:
        """Compare the block of ``length`` that should come next, once its entry has arrived.

        The blocks behind it that are at hand are compared with it. Return the bytes that match,
        and whether the block behind them is known to differ.
        """
        block = (self.at + shift) // self._block
        while len(self._entries) < (block + 1) * ENTRY_SIZE:
            yield None
        view = self._read(self.at, length)
        if length < self._block:  # the last one, whose entry is not among the full ones
            self._budget.work += length
            self._budget.passed += length
            confirmed = self._arrived.confirms(block, self._arrived.strong(view[:length]))
            return length * confirmed, not confirmed
        level = self._level(min(len(self._entries) // ENTRY_SIZE, self._basis_size // self._block))
        if self._holes:  # they are passed over
            view = view[: max(length, self._holes.data_left(self.at, self.at + len(view)))]
        most = min(len(view) // self._block, level.count - block)
        count = level.follow(view, 0, block, self._budget)
        self._budget.passed += self._block * (count + (count < most))
        return count * self._block, count < most

    def _recovered(self, gap: int, shift: int) -> Generator[None, None, Run | None]:
        """Look for the first block in the stretch from ``gap`` on, at any offset."""
        if self.whole is None:
            enough = self._arrived.count * 5 // 4 + _GROWTH
            while self.whole is None and len(self._entries) // ENTRY_SIZE < enough:
                yield None
        if self.whole is None:
            self._arrived = self._level(len(self._entries) // ENTRY_SIZE)
            if (run := self._first_run(self._arrived, gap, shift)) is not None:
                return run
        while (level := self.whole) is None:
            yield None
        return self._first_run(level, gap, shift)

    def _first_run(self, level: Level, gap: int, shift: int) -> Run | None:
        """Roll through all windows that begin from ``gap`` on and before where we are."""
        stop = min(self._size, self.at + self._block - 1)
        view = self._read(gap, stop - gap)[: stop - gap]
        search = Search(level, self._budget, forward_only=self._forward_only)
        return next(search.runs(view, gap, shift), None)
