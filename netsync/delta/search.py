"""Looking for blocks of a level where nothing says they should be: rolling, in bounded views.

The kernel rolls the weak checksum byte by byte to the next window that some block may be; a
strong checksum decides. What follows a confirmed window in the basis is tried at once behind it
in the view, so that moved data costs one hit however long it is.

Crafted files can propose windows that no strong checksum confirms. All looks of one delta draw on
one ``Budget``; once it is spent a search tries only where a block would be in step with what
matched before, which costs one hash a block, until the bytes passed have paid the debt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from netsync.delta.levels import Run
from netsync.delta.match import ALLOWANCE, BUDGET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netsync.delta.levels import Level


class Budget(Struct):
    """What a delta has passed and what it has wasted, in bytes, so that crafted files stay linear.

    ``work`` counts the bytes hashed or rolled, ``candidates`` the windows that a weak checksum
    proposed: for tests, and for whoever wonders where the time went. ``barren`` counts the bytes
    rolled at the fine level since it last found anything.
    """

    passed: int = 0
    wasted: int = 0
    work: int = 0
    candidates: int = 0
    barren: int = 0

    def is_spent(self, block_size: int) -> bool:
        """Tell whether vain looks have used up what the bytes passed allow."""
        return self.wasted > BUDGET * self.passed + ALLOWANCE * block_size


class Search:
    """Finds the blocks of one level; with ``forward_only`` none that lies before its place."""

    def __init__(self, level: Level, budget: Budget, *, forward_only: bool) -> None:
        self._level = level
        self._budget = budget
        self._forward_only = forward_only

    def runs(self, view: memoryview, base: int, shift: int) -> Iterator[Run]:
        """Yield the runs of blocks found in ``view``, from front to back.

        ``base`` is the view's place in the new file; ``shift`` is the basis offset minus the
        place of what matched before: where several blocks are equal the one in step with it wins.
        """
        level, budget, size = self._level, self._budget, self._level.size
        at, last = 0, len(view) - size
        state: int | None = None
        while at <= last:
            begun = at
            if budget.is_spent(size):
                at, index, state = *self._in_step(view, at, base, shift), None
            else:
                at, state = level.table.find(view, at, last, size, state)
                at = last + 1 if at < 0 else at
                budget.work += at - begun + size
                index = -1
                if state is not None and at <= last:
                    index = self._choose(view[at : at + size], state, base + at, shift)
            if index < 0:
                at += 1
                budget.passed += at - begun
                continue
            offset = level.offset(index)
            length = size * level.follow(view, at, index, budget)
            yield Run(base + at, offset, length)
            shift = offset - (base + at)
            at += length
            budget.passed += at - begun
            state = None

    def _in_step(self, view: memoryview, at: int, base: int, shift: int) -> tuple[int, int]:
        """Return the next place where a block would be in step, and the block if it is there."""
        level = self._level
        at += -(base + at + shift) % level.size
        window = view[at : at + level.size]
        index = level.index(base + at + shift)
        if len(window) < level.size or not self._allows(index, base + at):
            return at, -1
        self._budget.work += level.size
        return at, index if level.confirms(index, level.strong(window)) else -1

    def _allows(self, index: int, place: int) -> bool:
        return index >= 0 and not (self._forward_only and self._level.offset(index) < place)

    def _choose(self, window: memoryview, state: int, place: int, shift: int) -> int:
        """Return the index of the block to copy for a window, -1 for none, and pay for looking.

        Among equal blocks the one in step with the last match wins, then the one in the same
        place in both files, then the first: the choice that most likely grows.
        """
        level, budget = self._level, self._budget
        budget.candidates += 1
        candidates = level.candidates(state, place if self._forward_only else 0)
        if candidates:
            budget.work += level.size
            strong = level.strong(window)
            preferred = (level.index(place + shift), level.index(place))
            for index in (*preferred, *candidates):
                if self._allows(index, place) and level.confirms(index, strong):
                    return index
        budget.wasted += level.size
        return -1
