"""Deltas of files with holes spell the file, and leave exactly its holes out."""

from __future__ import annotations

import random
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from netsync.delta.holes import Cutter, Holes
from netsync.delta.match import Matcher
from netsync.delta.ops import Copy, Hole, Literal, Op, patch
from netsync.delta.signature import Signature, sign
from tests.property.test_delta import SEED, B, bases, edits, unhurried
from tests.support.two_levels import LAYOUT, delta


@st.composite
def cases(draw: st.DrawFn) -> tuple[bytes, bytes, Holes]:
    """A basis, and a new version of it with holes in it, which are zero."""
    basis = draw(bases()) + draw(bases())
    new = bytearray(draw(edits(basis)))
    limits = sorted(set(draw(st.lists(st.integers(0, len(new)), max_size=8))))
    pairs = list(zip(limits[::2], limits[1::2], strict=False))
    for start, end in pairs:
        new[start:end] = bytes(end - start)
    return basis, bytes(new), Holes([start for start, _ in pairs], [end for _, end in pairs])


def left_out(ops: list[Op]) -> set[int]:
    """Return the places that the operations leave out."""
    lengths = [len(op.data) if isinstance(op, Literal) else op.length for op in ops]
    ends = accumulate(lengths)
    return {
        place
        for op, end in zip(ops, ends, strict=True)
        if isinstance(op, Hole)
        for place in range(end - op.length, end)
    }


def in_holes(holes: Holes, size: int) -> set[int]:
    return {
        place
        for extent in holes.extents(0, size)
        if extent.is_hole
        for place in range(extent.start, extent.end)
    }


@unhurried
@given(cases(), st.booleans())
def test_one_level(case: tuple[bytes, bytes, Holes], forward: bool) -> None:
    basis, new, holes = case
    matcher = Matcher(Signature(len(basis), B, SEED, sign(basis, B, SEED)), forward_only=forward)
    ops: list[Op] = []
    for extent in holes.extents(0, len(new)):
        if extent.is_hole:
            ops += matcher.skip(extent.end - extent.start)
        else:
            ops += matcher.feed(new[extent.start : extent.end])
    ops += matcher.finish()
    check(basis, new, holes, ops, forward=forward)


@unhurried
@given(cases(), st.integers(1, 20_000), st.randoms(), st.booleans())
def test_two_levels(
    case: tuple[bytes, bytes, Holes], window: int, chance: random.Random, forward: bool
) -> None:
    basis, new, holes = case
    found = delta(
        basis, new, layout=LAYOUT, window=window, forward_only=forward, chance=chance, holes=holes
    )
    check(basis, new, holes, list(Cutter(holes).cut(found.ops)), forward=forward)


def check(basis: bytes, new: bytes, holes: Holes, ops: list[Op], *, forward: bool) -> None:
    assert patch(basis, ops) == new
    assert left_out(ops) == in_holes(holes, len(new))
    at = 0
    for op in ops:
        assert not forward or not isinstance(op, Copy) or op.offset >= at
        at += len(op.data) if isinstance(op, Literal) else op.length
