"""The signature's sizes, layout and refusals."""

from __future__ import annotations

import random

import pytest

from netsync.delta.signature import (
    BLOCK_FREE,
    ENTRY_SIZE,
    SIGNATURE_MAX,
    Signature,
    block_size_for,
    sign,
    strong_sum,
)

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("size", "block_size"),
    [
        (0, 4096),
        (32 * MIB, 4096),
        (32 * MIB + 1, 8192),
        (8 * GIB, 8192),
        (8 * GIB + 1, 16384),
        (85 * GIB, 16384),
        (86 * GIB, 32768),
        (TIB, 256 << 10),
        (681 * TIB, 128 * MIB),
    ],
)
def test_block_size_steps_where_documented(size: int, block_size: int) -> None:
    assert block_size_for(size) == block_size


@pytest.mark.parametrize("size", [1, 85 * GIB, 86 * GIB, 3 * TIB, 600 * TIB])
def test_no_signature_exceeds_its_limit(size: int) -> None:
    assert -(-size // block_size_for(size)) * ENTRY_SIZE <= SIGNATURE_MAX


@pytest.mark.parametrize("size", [-1, 700 * TIB])
def test_sizes_no_delta_can_have_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        block_size_for(size)


def test_chunks_signed_one_by_one_give_the_whole_signature() -> None:
    data = random.Random(1).randbytes(5000)
    chunks = [data[at : at + 1536] for at in range(0, 5000, 1536)]
    assert b"".join(sign(chunk, 512, 7) for chunk in chunks) == sign(data, 512, 7)


def test_an_entry_is_weak_then_strong() -> None:
    entry = sign(b"x" * 512, 512, 3)
    assert len(entry) == ENTRY_SIZE
    assert entry[5:] == strong_sum(b"x" * 512, 3)


def test_another_seed_changes_the_strong_part_only() -> None:
    one, two = sign(b"x" * 512, 512, 1), sign(b"x" * 512, 512, 2)
    assert one[:5] == two[:5]
    assert one[5:] != two[5:]


def test_a_signature_tells_full_blocks_from_the_short_one() -> None:
    signature = Signature(1300, 512, 0, sign(bytes(1300), 512, 0))
    assert (signature.full_blocks, signature.short_length) == (2, 276)
    empty = Signature(0, 512, 0, b"")
    assert (empty.full_blocks, empty.short_length) == (0, 0)


@pytest.mark.parametrize(
    ("basis_size", "block_size", "seed", "entries", "words"),
    [
        (1024, 512, 0, bytes(12), "instead of 24"),
        (1024, 512, 0, bytes(36), "instead of 24"),
        (1025, 512, 0, bytes(24), "instead of 36"),
        (0, 512, 0, bytes(12), "instead of 0"),
        (1024, 256, 0, bytes(48), "power of two"),
        (1024, 0, 0, b"", "power of two"),
        (1024, -512, 0, b"", "power of two"),
        (1024, 768, 0, bytes(24), "power of two"),
        (0, 2 * BLOCK_FREE, 0, b"", "too large"),
        (-1, 512, 0, b"", "-1 bytes"),
        (1 << 60, 512, 0, b"", "too many"),
        (1 << 40, 512, 0, b"", "instead of"),
        (512, 512, -1, bytes(12), "64 bits"),
        (512, 512, 1 << 64, bytes(12), "64 bits"),
        (6 * GIB, 512, 0, bytes(SIGNATURE_MAX + 8), "is over"),
    ],
)
def test_a_signature_that_cannot_be_is_refused_with_words(
    basis_size: int, block_size: int, seed: int, entries: bytes, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Signature(basis_size, block_size, seed, entries)
