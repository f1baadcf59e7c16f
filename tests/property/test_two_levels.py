"""A two-level delta spells the new file: any edits, windows, arrival of entries, either kernel."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from netsync.delta import levels
from netsync.delta.levels import Layout
from netsync.delta.ops import Copy, Literal, patch
from tests.property.test_delta import bases, edits, other, unhurried
from tests.support.two_levels import delta

LAYOUTS = [Layout(1024, 512), Layout(4096, 512), Layout(2048, 1024)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[bytes, bytes]:
    basis = draw(bases()) + draw(bases())
    return basis, draw(edits(basis))


@unhurried
@given(cases(), st.sampled_from(LAYOUTS), st.integers(1, 20_000), st.randoms(), st.booleans())
def test_patch_after_match_is_identity(
    case: tuple[bytes, bytes], layout: Layout, window: int, chance: random.Random, forward: bool
) -> None:
    basis, new = case
    found = delta(basis, new, layout=layout, window=window, forward_only=forward, chance=chance)
    assert patch(basis, found.ops) == new
    at = 0
    for op in found.ops:
        if isinstance(op, Copy):
            assert op.length > 0
            assert not forward or op.offset >= at
        at += len(op.data) if isinstance(op, Literal) else op.length


@unhurried
@given(cases(), st.sampled_from(LAYOUTS))
def test_both_kernels_give_the_same_operations(case: tuple[bytes, bytes], layout: Layout) -> None:
    ours = delta(*case, layout=layout)
    chosen = vars(levels)["make_table"]
    vars(levels)["make_table"] = other.WeakTable
    try:
        theirs = delta(*case, layout=layout)
    finally:
        vars(levels)["make_table"] = chosen
    assert [tuple(op) for op in ours.ops] == [tuple(op) for op in theirs.ops]
