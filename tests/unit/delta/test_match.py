"""What the matcher finds, in which shape, and how much work it may spend on hostile input."""

from __future__ import annotations

import random

import pytest

from netsync.delta.match import GATHER, LITERAL_MAX, Matcher
from netsync.delta.ops import Copy, Literal, Op, patch
from netsync.delta.signature import Signature, sign

B = 512
SEED = 0x5EED
WORK_FACTOR = 12
"""Bytes of work allowed a byte of input: five for the worst mixture of matches and misses, four
of budget, and the first rounds, which short inputs do not spread."""


def signed(basis: bytes) -> Signature:
    return Signature(len(basis), B, SEED, sign(basis, B, SEED))


def run(
    basis: bytes, new: bytes, *, chunk: int = 1 << 20, forward_only: bool = False
) -> tuple[Matcher, list[Op]]:
    """Match ``new`` against ``basis``; the result is proven right before it is returned."""
    matcher = Matcher(signed(basis), forward_only=forward_only)
    ops: list[Op] = []
    for at in range(0, len(new), chunk):
        ops += matcher.feed(new[at : at + chunk])
    ops += matcher.finish()
    assert patch(basis, ops) == new
    assert matcher.matched == sum(op.length for op in ops if isinstance(op, Copy))
    assert matcher.literal == sum(len(op.data) for op in ops if isinstance(op, Literal))
    return matcher, ops


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.mark.parametrize("length", [1, B - 1, B, B + 1, 10 * B, 10 * B + 77])
@pytest.mark.parametrize("chunk", [1, 100, B, 3 * B, 1 << 20])
def test_an_unchanged_file_is_one_copy(length: int, chunk: int) -> None:
    _, ops = run(noise(length), noise(length), chunk=chunk)
    assert ops == [Copy(0, length)]


def test_an_empty_file_needs_no_operations() -> None:
    assert run(noise(5 * B), b"")[1] == []
    assert run(b"", b"")[1] == []


def test_without_a_basis_everything_is_literal() -> None:
    matcher, ops = run(b"", noise(3000))
    assert matcher.literal == 3000
    assert all(isinstance(op, Literal) for op in ops)


def test_an_unchanged_file_is_only_hashed_never_rolled() -> None:
    matcher, _ = run(noise(100 * B), noise(100 * B))
    assert matcher.work == 100 * B


def test_a_block_changed_in_place_costs_one_literal_and_no_rolling() -> None:
    basis = noise(20 * B)
    new = basis[: 7 * B] + noise(B, 2) + basis[8 * B :]
    matcher, ops = run(basis, new)
    assert [op for op in ops if isinstance(op, Copy)] == [Copy(0, 7 * B), Copy(8 * B, 12 * B)]
    assert matcher.literal == B
    assert matcher.work == 20 * B


def test_two_changed_blocks_in_a_row_are_found_over_by_rolling() -> None:
    basis = noise(20 * B)
    new = basis[: 7 * B] + noise(2 * B, 2) + basis[9 * B :]
    matcher, _ = run(basis, new)
    assert matcher.literal == 2 * B


def test_an_insertion_shifts_everything_after_it() -> None:
    basis = noise(20 * B)
    _, ops = run(basis, b"seventeen bytes.." + basis)
    assert ops == [Literal(b"seventeen bytes.."), Copy(0, 20 * B)]


def test_a_deletion_costs_less_than_a_block() -> None:
    basis = noise(20 * B)
    matcher, _ = run(basis, basis[: 5 * B + 100] + basis[5 * B + 300 :])
    assert matcher.literal < B


def test_the_short_last_block_is_found_after_an_insertion() -> None:
    basis = noise(3 * B + 100)
    _, ops = run(basis, b"x" + basis)
    assert ops == [Literal(b"x"), Copy(0, 3 * B + 100)]


def test_the_short_last_block_is_found_behind_a_changed_one() -> None:
    basis = noise(3 * B + 100)
    matcher, _ = run(basis, basis[: 2 * B] + noise(B, 2) + basis[3 * B :])
    assert matcher.literal == B


def test_the_short_last_block_is_not_looked_for_before_the_end() -> None:
    basis = noise(3 * B + 100)
    matcher, _ = run(basis, basis + b"appended")
    assert matcher.literal == 108


def test_zeros_inserted_or_dropped_still_copy_in_long_runs() -> None:
    basis = noise(2 * B) + bytes(40 * B) + noise(2 * B, 2)
    new = noise(2 * B) + bytes(30 * B) + noise(2 * B, 2)
    matcher, ops = run(basis, new)
    assert matcher.literal == 0
    assert len(ops) == 2


def test_long_literals_are_cut() -> None:
    _, ops = run(b"", noise(LITERAL_MAX * 5), chunk=LITERAL_MAX * 5)
    lengths = [len(op.data) for op in ops if isinstance(op, Literal)]
    assert lengths[:4] == [LITERAL_MAX] * 4
    assert max(lengths) == LITERAL_MAX


def test_no_more_than_three_blocks_wait_between_chunks() -> None:
    basis, new = noise(60 * B), noise(60 * B, 2)
    matcher = Matcher(signed(basis))
    fed = 0
    for at in range(0, len(new), 100):
        matcher.feed(new[at : at + 100])
        fed += len(new[at : at + 100])
        assert fed - matcher.literal - matcher.matched < GATHER * B


def test_forward_only_never_copies_from_behind() -> None:
    basis = noise(20 * B)
    matcher, ops = run(basis, b"x" + basis, forward_only=True)
    assert matcher.matched == 0
    assert all(isinstance(op, Literal) for op in ops)


def test_forward_only_copies_from_ahead() -> None:
    basis = noise(20 * B)
    _, ops = run(basis, basis[B + 9 :], forward_only=True)
    assert ops[-1] == Copy(2 * B, 18 * B)


def test_forward_only_finds_equal_blocks_ahead_beyond_the_cap() -> None:
    basis = bytes(60 * B)
    matcher, _ = run(basis, b"x" + bytes(50 * B), forward_only=True)
    assert matcher.literal <= 2 * B


def speckled(data: bytes, share: float) -> bytes:
    chance = random.Random(3)
    return bytes(chance.randrange(1, 256) if chance.random() < share else byte for byte in data)


def forged(pattern: bytes) -> tuple[bytes, bytes]:
    """Return a basis and a new file in which every position collides weakly, none strongly.

    The new file repeats ``pattern``, so it has as many kinds of windows as the pattern has bytes.
    For each the basis holds a block in which four neighbours changed by +1, -1, -1, +1: neither
    the sum of the bytes nor the sum of the prefix sums notices.
    """
    repeated = pattern * (2 * B // len(pattern) + 2)
    blocks = []
    for start in range(len(pattern)):
        block = bytearray(repeated[start : start + B])
        for i, change in enumerate((1, -1, -1, 1)):
            block[100 + i] += change
        blocks.append(bytes(block))
    return b"".join(blocks), repeated[: len(pattern)] * (60 * B // len(pattern))


HOSTILE = {
    "zeros against zeros with 1 % noise": (bytes(60 * B), speckled(bytes(60 * B), 0.01)),
    "zeros with 1 % noise against zeros": (speckled(bytes(60 * B), 0.01), bytes(60 * B)),
    "zeros against zeros with 0.1 % noise": (bytes(60 * B), speckled(bytes(60 * B), 0.001)),
    "zeros with 0.1 % noise against zeros": (speckled(bytes(60 * B), 0.001), bytes(60 * B)),
    "one block repeated, out of phase": (noise(B) * 60, (noise(B) * 61)[200:]),
    "one block repeated, cut short": (noise(B) * 60, (noise(B) + noise(B)[:-1]) * 30),
    "a period of 7": (noise(7) * (60 * B // 7), noise(7)[3:] + noise(7) * (60 * B // 7)),
    "a period of 511": (noise(511) * 60, noise(511)[100:] + noise(511) * 60),
    "weak collisions everywhere": forged(bytes(range(100, 132))),
    "match, miss, miss": (noise(60 * B), b"".join(noise(B) + noise(2 * B, n) for n in range(20))),
}


@pytest.mark.parametrize("forward_only", [False, True])
@pytest.mark.parametrize("chunk", [1 << 20, 700, 1])
@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_linear_in_the_input(name: str, chunk: int, forward_only: bool) -> None:
    basis, new = HOSTILE[name]
    matcher, _ = run(basis, new, chunk=chunk, forward_only=forward_only)
    assert matcher.work <= WORK_FACTOR * len(new)


def test_the_forged_corpus_collides_at_every_position() -> None:
    """The hostile case above is worth nothing if the forgery fails."""
    basis, new = HOSTILE["weak collisions everywhere"]
    table = Matcher(signed(basis))._table
    assert [table.find(new, at, at, B)[0] for at in range(100)] == list(range(100))
    matcher, _ = run(basis, new)
    assert matcher.matched == 0


def test_a_spent_budget_still_finds_blocks_in_step() -> None:
    """After the collisions, what follows in its old place is found again."""
    basis, new = HOSTILE["weak collisions everywhere"]
    tail = noise(20 * B, 9)
    basis = basis + bytes(len(new) - len(basis)) + tail
    matcher, ops = run(basis, new + tail)
    assert matcher.matched == len(tail)
    assert ops[-1] == Copy(len(new), len(tail))
