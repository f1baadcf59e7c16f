"""What two levels find, what they send for it, and that crafted files cost no more."""

from __future__ import annotations

import random

import pytest

from netsync.delta.coarse import Gap, Scanner
from netsync.delta.fine import WINDOW_ENTRIES, Window
from netsync.delta.levels import (
    COARSE,
    Basis,
    Layout,
    Level,
    Run,
    check_layout,
    fine_entries,
    layout_for,
)
from netsync.delta.ops import patch
from netsync.delta.search import Budget
from netsync.delta.signature import SIGNATURE_MAX, entries_size, sign
from tests.support.two_levels import LAYOUT, SEED, Delta, delta

C, F = LAYOUT
BLOCKS = 64
BASIS = random.Random(1).randbytes(BLOCKS * C)


def checked(new: bytes, basis: bytes = BASIS, *, forward_only: bool = False) -> Delta:
    result = delta(basis, new, forward_only=forward_only)
    assert patch(basis, result.ops) == new
    return result


def edited(*places: int, basis: bytes = BASIS, length: int = F) -> bytes:
    new = bytearray(basis)
    for place in places:
        new[place : place + length] = random.Random(place).randbytes(length)
    return bytes(new)


def test_an_unchanged_file_needs_no_fine_entries_and_hashes_each_byte_once() -> None:
    result = checked(BASIS)
    assert (result.literal, result.fine, result.budget.work) == (0, 0, len(BASIS))


def test_blocks_at_hand_whose_entries_have_arrived_are_compared_at_once() -> None:
    new, asked = memoryview(edited(9 * C)), []

    def read(at: int, count: int) -> memoryview:
        asked.append(at // C)
        return new[at : at + max(count, 8 * C)]

    budget = Budget()
    scanner = Scanner(read, len(new), Basis(len(BASIS), LAYOUT, SEED), budget)
    scanner.extend(sign(BASIS, C, SEED))
    assert list(scanner.spans()) == [
        Run(0, 0, 8 * C), Run(8 * C, 8 * C, C), Gap(9 * C, C, 9 * C, 10 * C),
        *(Run(at * C, at * C, min(8, BLOCKS - at) * C) for at in range(10, BLOCKS, 8)),
    ]  # fmt: skip
    assert asked == [0, 8, *range(10, BLOCKS, 8)]
    assert budget.work == len(new)


def test_edits_in_place_cost_their_blocks_and_nothing_is_rolled_far() -> None:
    places = [C, 10 * C + F, 10 * C + 3 * F, 40 * C]
    result = checked(edited(*places))
    assert result.literal == 4 * F
    assert result.fine == 3 * C // F
    assert result.budget.work <= len(BASIS) + 3 * C + 4 * 2 * F


@pytest.mark.parametrize("length", [1, 17, F, C, 3 * C + 5])
@pytest.mark.parametrize("place", [0, 5 * C + 100, len(BASIS)])
def test_an_insertion_costs_itself_and_one_fine_block(place: int, length: int) -> None:
    fresh = random.Random(length).randbytes(length)
    result = checked(BASIS[:place] + fresh + BASIS[place:])
    assert length <= result.literal <= length + F
    assert result.fine <= 2 * (length // F + 2 * C // F)


@pytest.mark.parametrize("length", [1, 17, F, C, 3 * C + 5])
@pytest.mark.parametrize("place", [0, 5 * C + 100])
def test_a_deletion_costs_one_fine_block(place: int, length: int) -> None:
    result = checked(BASIS[:place] + BASIS[place + length :])
    assert result.literal <= F


def test_several_insertions_are_each_found() -> None:
    parts = [BASIS[at : at + 6 * C + 7] for at in range(0, len(BASIS), 6 * C + 7)]
    result = checked(b"inserted".join(parts))
    assert result.literal <= len(parts) * (8 + F)


@pytest.mark.parametrize("length", [C, 4 * C])
def test_large_blocks_that_changed_places_are_found(length: int) -> None:
    a, b = 2 * C, 50 * C
    new = (
        BASIS[:a] + BASIS[b : b + length] + BASIS[a + length : b]
        + BASIS[a : a + length] + BASIS[b + length :]
    )  # fmt: skip
    assert checked(new).literal == 0


def test_pages_that_changed_places_within_a_window_are_found() -> None:
    a, b = 2 * C + F, 50 * C
    new = BASIS[:a] + BASIS[b : b + F] + BASIS[a + F : b] + BASIS[a : a + F] + BASIS[b + F :]
    assert checked(new).literal == 0


def test_a_copy_of_matched_data_is_found_in_the_place_of_other_data() -> None:
    new = BASIS[: 8 * C] + BASIS[20 * C + 9 : 22 * C + 9] + BASIS[10 * C :]
    assert checked(new).literal <= 2 * C - 1 - (C - 1)


@pytest.mark.parametrize("size", [0, 1, F, C - 1, C, 9 * C + 5, len(BASIS) - 1])
def test_truncation_and_growth_send_what_is_new(size: int) -> None:
    assert checked(BASIS[:size]).literal < F
    assert len(BASIS) - size <= checked(BASIS, BASIS[:size]).literal + size <= len(BASIS) + F


def test_the_short_end_of_the_basis_is_found_at_the_end_of_the_new_file() -> None:
    basis = BASIS + b"short end"
    assert checked(basis, basis).literal == 0
    assert checked(b"new" + basis, basis).literal <= F
    assert checked(edited(len(BASIS) - 3 * F, basis=basis), basis).literal == F


def test_zeros_with_edits_cost_the_edits() -> None:
    zeros = bytes(BLOCKS * C)
    new = edited(3 * C, 9 * C + F, basis=zeros)
    result = checked(new, zeros)
    assert result.literal == 2 * F
    assert result.budget.work < 2 * len(zeros)


def test_zeros_inserted_or_dropped_are_copied() -> None:
    zeros = bytes(BLOCKS * C)
    assert checked(zeros[F + 5 :], zeros).literal < F
    assert checked(zeros + bytes(F + 5), zeros).literal <= F + 5 + C


@pytest.mark.parametrize("forward_only", [False, True])
def test_forward_only_never_copies_what_is_already_overwritten(forward_only: bool) -> None:
    new = BASIS[5 * C :] + BASIS[: 5 * C]
    result = checked(new, forward_only=forward_only)
    assert result.literal == (5 * C if forward_only else 0)


def colliding(blocks: int) -> bytes:
    """Blocks of one byte sum and one prefix sum, and so one weak checksum, all different."""
    chance = random.Random(5)
    first = bytes(chance.choices(range(2, 254), k=F))
    parts = []
    for _ in range(blocks):
        block = bytearray(first)
        at = chance.randrange(F - 2)
        block[at] += 1
        block[at + 1] -= 2
        block[at + 2] += 1
        at = chance.randrange(F - 2)
        block[at] += 1
        block[at + 1] -= 2
        block[at + 2] += 1
        parts.append(bytes(block))
    return b"".join(parts)


def test_crafted_weak_collisions_stay_linear() -> None:
    both = colliding(2 * BLOCKS * C // F)
    basis, new = both[: BLOCKS * C], both[BLOCKS * C :]
    assert len({sign(basis[at : at + F], F, SEED)[:5] for at in range(0, C, F)}) == 1
    result = checked(new, basis)
    unlike = checked(random.Random(3).randbytes(len(new)))
    assert result.budget.work <= 8 * unlike.budget.work


def test_new_data_without_end_is_hashed_once_in_step_and_rolled_a_few_times() -> None:
    new = random.Random(9).randbytes(len(BASIS))
    result = checked(new)
    assert result.literal == len(new)
    assert result.budget.work <= 6 * len(new)


def test_a_window_asks_for_no_block_twice_and_ends_when_it_is_full() -> None:
    window = Window(Basis(len(BASIS), LAYOUT, SEED))
    window.add(Gap(0, C, 0, C))
    window.add(Run(C, C, C))
    window.add(Gap(2 * C, C, 2 * C, 3 * C))
    window.add(Gap(3 * C, C, C, -1))
    assert window.wanted() == [(0, 3)]
    assert not window.is_full
    size = WINDOW_ENTRIES * F + 1
    big = Window(Basis(size, LAYOUT, SEED))
    big.add(Gap(0, size - 1, 0, -1))
    assert big.is_full
    small = Window(Basis(len(BASIS), LAYOUT, SEED), 3 * C)
    for at in range(3):
        assert not small.is_full
        small.add(Run(at * C, at * C, C))
    assert small.is_full


def test_a_gap_smaller_than_a_fine_block_asks_for_nothing() -> None:
    window = Window(Basis(len(BASIS), LAYOUT, SEED))
    window.add(Gap(0, F - 1, 0, C))
    assert window.wanted() == []


def test_a_level_knows_its_runs() -> None:
    data = random.Random(2).randbytes(6 * F)
    level = Level(F, SEED, sign(data, F, SEED), [(10, 2), (20, 4)])
    assert [level.offset(index) // F for index in range(6)] == [10, 11, 20, 21, 22, 23]
    assert [level.index(number * F) for number in (9, 10, 11, 12, 20, 23, 24)] == [
        -1, 0, 1, -1, 2, 5, -1,
    ]  # fmt: skip
    assert level.index(10 * F + 1) == -1
    assert [level.run_end(index) for index in range(6)] == [2, 2, 6, 6, 6, 6]


def test_the_coarse_signature_keeps_its_bound_up_to_a_tebibyte_and_beyond() -> None:
    assert layout_for(2 << 30) == (COARSE, 4096)
    for size in (684 << 30, 1 << 40, 100 << 40):
        layout = layout_for(size)
        check_layout(size, layout)
        assert SIGNATURE_MAX // 2 < entries_size(size, layout.block) <= SIGNATURE_MAX


@pytest.mark.parametrize(
    ("block", "fine"),
    [
        (COARSE, 256),
        (COARSE, 3 << 9),
        (COARSE, COARSE),
        (3 << 16, 4096),
        (1 << 21, 4096),
    ],
)
def test_impossible_layouts_are_refused(block: int, fine: int) -> None:
    with pytest.raises(ValueError, match="block"):
        check_layout(1 << 30, Layout(block, fine))


def test_fine_entries_end_with_the_basis() -> None:
    assert fine_entries(3 * C + 1, LAYOUT, 2, 2) == C // F + 1
    assert fine_entries(3 * C, LAYOUT, 0, 3) == 3 * C // F
