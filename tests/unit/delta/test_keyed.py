"""The keyed digest: what it depends on, and that it is what the protocol says."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3

from netsync.delta.kernel import KEY_SIZE, UNIT
from netsync.delta.keyed import KeyedDigest

DATA = random.Random(5).randbytes(3 * UNIT + 100)


def keyed(data: bytes, seed: int = 1, step: int = 1 << 20) -> bytes:
    digest = KeyedDigest(seed)
    for at in range(0, len(data), step):
        digest.update(data[at : at + step])
    return digest.digest()


def spelled_out(data: bytes, seed: int) -> bytes:
    """State the digest in the words of PROTOCOL.md."""
    context = "netsync 2026-11 digest of a delta's result"
    key = blake3(seed.to_bytes(8, "little"), derive_key_context=context).digest(length=4288)
    k = [int.from_bytes(key[at : at + 4], "little") for at in range(0, len(key), 4)]
    tags = b""
    for start in range(0, len(data), 4096):
        unit = data[start : start + 4096].ljust(4096, b"\0")
        m = [int.from_bytes(unit[at : at + 4], "little") for at in range(0, 4096, 4)]
        for r in range(4):
            total = 0
            for i in range(512):
                even = (m[2 * i] + k[2 * i + 16 * r]) % 2**32
                odd = (m[2 * i + 1] + k[2 * i + 1 + 16 * r]) % 2**32
                total += even * odd
            tags += (total % 2**64).to_bytes(8, "little")
    return blake3(tags + len(data).to_bytes(8, "little")).digest()


@pytest.mark.parametrize("length", [0, 1, UNIT - 1, UNIT, UNIT + 1, len(DATA)])
def test_it_is_what_the_protocol_says(length: int) -> None:
    assert keyed(DATA[:length], 2**63 - 25) == spelled_out(DATA[:length], 2**63 - 25)


@pytest.mark.parametrize("step", [1, 7, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT])
def test_it_does_not_depend_on_how_the_bytes_come(step: int) -> None:
    assert keyed(DATA, step=step) == keyed(DATA)


def test_any_byte_the_length_and_the_seed_count() -> None:
    whole = keyed(DATA)
    for at in (0, 1, UNIT - 1, UNIT, len(DATA) - 1):
        changed = bytearray(DATA)
        changed[at] ^= 128
        assert keyed(bytes(changed)) != whole
    assert keyed(DATA + b"\0") != whole
    assert keyed(DATA[UNIT:] + DATA[:UNIT]) != whole
    assert keyed(DATA, seed=2) != whole


def test_units_that_changed_places_count() -> None:
    swapped = DATA[UNIT : 2 * UNIT] + DATA[:UNIT] + DATA[2 * UNIT :]
    assert keyed(swapped) != keyed(DATA)


def test_asking_for_it_does_not_end_it() -> None:
    digest = KeyedDigest(1)
    digest.update(DATA[:100])
    assert digest.digest() == keyed(DATA[:100])
    digest.update(DATA[100:])
    assert digest.digest() == keyed(DATA)


def test_the_key_has_the_size_that_tags_look_at() -> None:
    assert KEY_SIZE == UNIT + 3 * 64
