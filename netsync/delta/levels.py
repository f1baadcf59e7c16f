"""Blocks of a basis that a part of the new file may be looked for in: one level of a signature.

A large file is signed at two levels. The *coarse* one, blocks of 128 KiB, covers the whole basis
and costs next to nothing on the wire. The *fine* one, blocks of 4 KiB, is asked for only where
coarse blocks did not match. A ``Level`` is one of the two: equal-sized blocks, in runs that are
contiguous in the basis, with their entries one behind the other. A block's *index* is its place
among the entries.

Where a block should be, its strong checksum alone decides; anywhere else the weak checksums are
asked first (``netsync.delta.search``).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from netsync.delta.kernel import WEAK_SIZE, count_repeated, make_table
from netsync.delta.signature import BLOCK_FREE, ENTRY_SIZE, SIGNATURE_MAX, entries_size, strong_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netsync.delta.kernel import WeakTable
    from netsync.delta.search import Budget

COARSE: Final = 128 << 10
"""Bytes of a coarse block: a signature of 0.01 %. Twice as large would halve what is not much,
and where one page in a hundred changed, nearly half of all blocks would need their fine level
instead of a quarter."""

FINE: Final = 4 << 10
"""Bytes of a fine block: the page that file systems and databases write."""

TWO_LEVELS_FROM: Final = 32 << 20
"""Bytes from which a basis is signed at two levels. Below it a single level of 4-KiB blocks is at
most 96 KiB, which is sent sooner than the answer to a second question arrives."""


class Layout(NamedTuple):
    """Block sizes of a signature, in bytes; ``fine`` is 0 where there is one level only."""

    block: int
    fine: int


class Basis(NamedTuple):
    """What is known of a signed basis: ``size`` in bytes, and how its blocks were signed.

    With ``forward_only`` no byte may be copied to a place behind its own.
    """

    size: int
    layout: Layout
    seed: int
    forward_only: bool = False


FINE_PER_COARSE: Final = 256
"""Fine blocks in a coarse one at most, so that a question about a few stays a small one."""


def layout_for(size: int) -> Layout:
    """Return the two block sizes for a basis of ``size`` bytes.

    128 and 4 KiB up to 683 GiB; then the coarse one doubles, so that its signature stays within
    SIGNATURE_MAX, and from 5 TiB on the fine one with it.
    """
    block = COARSE
    while entries_size(size, block) > SIGNATURE_MAX:
        block *= 2
    return Layout(block, max(FINE, block // FINE_PER_COARSE))


def check_layout(basis_size: int, layout: Layout) -> None:
    """Raise ValueError for two levels that no target would choose; values may be a peer's."""
    block, fine = layout
    if fine < 512 or fine & (fine - 1) or block % fine or block < 2 * fine:
        raise ValueError(f"fine blocks of {fine} bytes do not divide blocks of {block}")
    if entries_size(basis_size, block) > SIGNATURE_MAX:
        raise ValueError(f"blocks of {block} bytes are too many for {basis_size} bytes")
    if block & (block - 1) or block > max(BLOCK_FREE, layout_for(basis_size).block):
        raise ValueError(f"block size {block} is too large for {basis_size} bytes")


def fine_entries(basis_size: int, layout: Layout, first: int, count: int) -> int:
    """Return how many fine blocks ``count`` coarse ones have, beginning with number ``first``."""
    start = first * layout.block
    end = min(basis_size, start + count * layout.block)
    return -(-(end - start) // layout.fine)


class Run(NamedTuple):
    """``length`` bytes from place ``at`` of the new file on are the basis's from ``offset`` on."""

    at: int
    offset: int
    length: int


class Level:
    """Blocks of ``size`` bytes, contiguous from each of ``runs``: (number of the first, count)."""

    def __init__(
        self, size: int, seed: int, entries: bytes | bytearray, runs: Sequence[tuple[int, int]]
    ) -> None:
        self.size = size
        self._seed = seed
        self._entries = entries
        self._numbers = [number for number, _ in runs]
        self._starts: list[int] = []  # index of each run's first block
        total = 0
        for _, count in runs:
            self._starts.append(total)
            total += count
        self.count = total
        self._table: WeakTable | None = None

    @property
    def table(self) -> WeakTable:
        """The blocks by weak checksum, built when first looked at."""
        if self._table is None:
            self._table = make_table(bytes(self._entries[: self.count * ENTRY_SIZE]), ENTRY_SIZE)
        return self._table

    def offset(self, index: int) -> int:
        """Return where in the basis the block with this index begins."""
        run = bisect_right(self._starts, index) - 1
        return (self._numbers[run] + index - self._starts[run]) * self.size

    def index(self, offset: int) -> int:
        """Return the index of the block that begins at ``offset`` of the basis, -1 for none."""
        number, odd = divmod(offset, self.size)
        run = bisect_right(self._numbers, number) - 1
        if odd or run < 0:
            return -1
        index = self._starts[run] + number - self._numbers[run]
        return index if index < self._end(run) else -1

    def _end(self, run: int) -> int:
        return self._starts[run + 1] if run + 1 < len(self._starts) else self.count

    def run_end(self, index: int) -> int:
        """Return the index behind the last block that follows ``index`` in the basis too."""
        return self._end(bisect_right(self._starts, index) - 1)

    def strong(self, block: memoryview) -> bytes:
        """Return the strong checksum that entries of this level are made with."""
        return strong_sum(block, self._seed)

    def confirms(self, index: int, strong: bytes) -> bool:
        """Tell whether the block with this index has this strong checksum."""
        return self._entries.startswith(strong, index * ENTRY_SIZE + WEAK_SIZE)

    def candidates(self, state: int, first_offset: int) -> list[int]:
        """Return indices of blocks, from ``first_offset`` on, that have this weak state."""
        number = -(-first_offset // self.size)
        run = bisect_right(self._numbers, number) - 1
        if run < 0:
            return self.table.candidates(state)
        index = self._starts[run] + number - self._numbers[run]
        return self.table.candidates(state, min(index, self._end(run)))

    def follow(self, view: memoryview, at: int, index: int, budget: Budget) -> int:
        """Count the blocks that the view repeats from ``at`` on: ``index`` and what follows it."""
        if index < 0:
            return 0
        size = self.size
        most = min(self.run_end(index) - index, (len(view) - at) // size)
        place = index * ENTRY_SIZE + WEAK_SIZE
        blocks = view[at : at + most * size]
        count = count_repeated(blocks, size, self._seed, self._entries, place, ENTRY_SIZE)
        budget.work += size * (count + (count < most))
        return count
