"""Holes of a file, and operations without what lies in them."""

from __future__ import annotations

import pytest

from netsync.delta.holes import Cutter, Extent, Holes
from netsync.delta.ops import Copy, Hole, Literal, Op

HOLES = Holes([10, 50], [20, 60])


def test_extents_cover_everything_once() -> None:
    assert list(HOLES.extents(0, 70)) == [
        Extent(0, 10, is_hole=False),
        Extent(10, 20, is_hole=True),
        Extent(20, 50, is_hole=False),
        Extent(50, 60, is_hole=True),
        Extent(60, 70, is_hole=False),
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (12, 18, [Extent(12, 18, is_hole=True)]),
        (15, 25, [Extent(15, 20, is_hole=True), Extent(20, 25, is_hole=False)]),
        (20, 50, [Extent(20, 50, is_hole=False)]),
        (60, 61, [Extent(60, 61, is_hole=False)]),
        (30, 30, []),
    ],
)
def test_extents_of_a_part(start: int, end: int, expected: list[Extent]) -> None:
    assert list(HOLES.extents(start, end)) == expected


@pytest.mark.parametrize(("at", "left"), [(9, 0), (10, 10), (19, 1), (20, 0), (55, 5), (99, 0)])
def test_left_of_counts_to_the_end_of_the_hole(at: int, left: int) -> None:
    assert HOLES.left_of(at) == left


@pytest.mark.parametrize(("at", "left"), [(0, 10), (12, 0), (20, 30), (58, 0), (60, 10), (70, 0)])
def test_data_left_counts_to_the_next_hole_or_the_end(at: int, left: int) -> None:
    assert HOLES.data_left(at, 70) == left


def test_a_file_without_holes_is_one_extent_and_nothing_is_cut() -> None:
    assert list(Holes().extents(3, 9)) == [Extent(3, 9, is_hole=False)]
    ops: list[Op] = [Copy(0, 5), Literal(b"abc")]
    assert list(Cutter(Holes()).cut(ops)) == ops
    assert not Holes()


def test_holes_are_cut_out_of_copies_and_literals() -> None:
    ops: list[Op] = [Copy(100, 15), Literal(bytes(range(15, 40))), Copy(0, 40)]
    assert list(Cutter(HOLES).cut(ops)) == [
        Copy(100, 10), Hole(5),
        Hole(5), Literal(bytes(range(20, 40))),
        Copy(0, 10), Hole(10), Copy(20, 20),
    ]  # fmt: skip


def test_a_cutter_goes_on_where_it_was() -> None:
    cutter = Cutter(HOLES)
    assert [*cutter.cut([Copy(0, 10)]), *cutter.cut([Hole(10)]), *cutter.cut([Copy(20, 5)])] == [
        Copy(0, 10), Hole(10), Copy(20, 5),
    ]  # fmt: skip
