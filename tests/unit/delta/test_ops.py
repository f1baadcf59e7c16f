"""Operations on the wire: what is packed comes back, what lies is refused."""

from __future__ import annotations

import pytest

from netsync.delta.ops import Copy, Literal, Op, pack, patch, unpack


def test_packed_ops_keep_their_order_and_their_buffers() -> None:
    data = memoryview(b"new")
    ops: list[Op] = [Copy(10, 20), Literal(data), Copy(0, 5)]
    numbers, buffers = pack(ops)
    assert numbers == [10, 20, -1, 3, 0, 5]
    assert buffers[0] is data


def test_unpack_returns_what_was_packed() -> None:
    numbers = [10, 20, -1, 3, 0, 5]
    assert unpack(numbers, 3, basis_size=30, room=28) == [(10, 20), (-1, 3), (0, 5)]


def test_no_operations_are_fine() -> None:
    assert unpack([], 0, basis_size=0, room=0) == []


@pytest.mark.parametrize(
    ("numbers", "tail", "words"),
    [
        ([0], 0, "middle"),
        ([0, 0], 0, "0 bytes"),
        ([0, -5], 0, "-5 bytes"),
        ([-1, -5], 0, "-5 bytes"),
        ([-3, 5], 0, "leaves the basis"),
        ([-2, 0], 0, "0 bytes"),
        ([-2, 201], 0, "exceeds the 200"),
        ([-2, 5], 5, "came with 5"),
        ([0, 101], 0, "leaves the basis"),
        ([100, 1], 0, "leaves the basis"),
        ([1 << 63, 1], 0, "leaves the basis"),
        ([1, 1 << 63], 0, "leaves the basis"),
        ([-1, 5], 4, "came with 4"),
        ([-1, 5], 6, "came with 6"),
        ([0, 5], 1, "came with 1"),
        ([-1, 1 << 63], 5, "came with 5"),
        ([0, 100, 0, 100, 0, 1], 0, "exceeds the 200"),
        ([-1, 201], 201, "exceeds the 200"),
    ],
)
def test_numbers_that_cannot_be_are_refused_with_words(
    numbers: list[int], tail: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        unpack(numbers, tail, basis_size=100, room=200)


def test_patch_spells_the_new_bytes() -> None:
    assert patch(b"0123456789", [Copy(5, 5), Literal(b"-"), Copy(0, 2)]) == b"56789-01"
