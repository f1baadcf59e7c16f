"""Both ends of a two-level delta in one place: signature, questions, answers, operations."""

from __future__ import annotations

import random
from dataclasses import dataclass

from netsync.delta.coarse import Scanner
from netsync.delta.fine import Refiner, Window
from netsync.delta.holes import Holes
from netsync.delta.levels import Basis, Layout, check_layout, fine_entries
from netsync.delta.ops import Copy, Literal, Op
from netsync.delta.search import Budget
from netsync.delta.signature import ENTRY_SIZE, sign

LAYOUT = Layout(2048, 512)
SEED = 77


@dataclass
class Delta:
    """What a delta consists of: ``fine`` counts the fine entries that were asked for."""

    ops: list[Op]
    fine: int
    budget: Budget

    @property
    def literal(self) -> int:
        return sum(len(op.data) for op in self.ops if isinstance(op, Literal))

    @property
    def copies(self) -> int:
        """Copies that do not go on where the one before ended."""
        ends = [0, *(op.offset + op.length if isinstance(op, Copy) else -1 for op in self.ops)]
        return sum(
            isinstance(op, Copy) and op.offset != end
            for op, end in zip(self.ops, ends, strict=False)
        )


def delta(
    basis: bytes,
    new: bytes,
    *,
    layout: Layout = LAYOUT,
    window: int = 1 << 30,
    forward_only: bool = False,
    chance: random.Random | None = None,
    holes: Holes | None = None,
) -> Delta:
    """Return the delta from ``basis`` to ``new``.

    Entries arrive only when they are asked for, a few at a time, as ``chance`` has it. A window
    ends after ``window`` bytes.
    """
    check_layout(len(basis), layout)
    chance = chance or random.Random(0)
    result = Delta([], 0, Budget())
    signed = Basis(len(basis), layout, SEED, forward_only)
    signature = sign(basis, layout.block, SEED)
    sent = 0

    def read(at: int, count: int) -> memoryview:
        assert 0 < count <= len(new) - at
        return memoryview(new)[at : at + count]

    def read_ahead(at: int, count: int) -> memoryview:
        assert 0 < count <= len(new) - at
        return memoryview(new)[at : at + count + chance.randint(0, 4 * layout.block)]

    def send_more() -> None:
        nonlocal sent
        assert sent < len(signature), "more was wanted than there is"
        part = signature[sent : sent + ENTRY_SIZE * chance.randint(1, 4)]
        scanner.extend(part)
        sent += len(part)

    def refine(scanned: Window) -> None:
        block = layout.block
        parts = [
            sign(basis[first * block : (first + count) * block], layout.fine, SEED)
            for first, count in scanned.wanted()
        ]
        for (first, count), part in zip(scanned.wanted(), parts, strict=True):
            assert len(part) == ENTRY_SIZE * fine_entries(len(basis), layout, first, count)
        entries = b"".join(parts)
        result.fine += len(entries) // ENTRY_SIZE
        refiner = Refiner(read, lambda: scanner.whole, scanned, entries, signed, result.budget)
        for op in refiner.ops(len(new)):
            if op is None:
                send_more()
            else:
                result.ops.append(op)

    scanner = Scanner(read_ahead, len(new), signed, result.budget, holes)
    gathering = Window(signed)
    for span in scanner.spans():
        if span is None:
            send_more()
            continue
        gathering.add(span)
        if gathering.bytes >= window:
            refine(gathering)
            gathering = Window(signed)
    refine(gathering)
    return result
