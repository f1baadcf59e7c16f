"""Digests of files with holes."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128

from netsync.delta.digest import CHUNK, ContentDigest, OpDigest

Part = bytes | int
"""Data, or the length of a hole."""
parts = st.lists(st.binary(min_size=1, max_size=40) | st.integers(1, 40), max_size=8)


def op_digest(told: list[Part]) -> bytes:
    digest = OpDigest(blake3)
    for part in told:
        if isinstance(part, int):
            digest.skip(part)
        else:
            digest.update(part)
    return digest.digest()


def layout(told: list[Part]) -> list[Part]:
    """Join neighbours of a kind, so that equal files are told alike."""
    joined: list[Part] = []
    for part in told:
        match joined[-1:], part:
            case [int(last)], int():
                joined[-1] = last + part
            case [bytes(last)], bytes():
                joined[-1] = last + part
            case _:
                joined.append(part)
    return joined


def test_without_holes_it_is_the_hash_of_the_bytes() -> None:
    assert op_digest([b"ab", b"c"]) == blake3(b"abc").digest()
    digest = OpDigest(xxh3_128)
    digest.update(b"abc")
    assert digest.digest() == xxh3_128(b"abc").digest()


@given(parts, parts)
def test_digests_are_equal_exactly_if_data_and_holes_are(
    one: list[Part], other: list[Part]
) -> None:
    assert (op_digest(one) == op_digest(other)) == (layout(one) == layout(other))


@given(parts)
def test_how_a_file_is_cut_does_not_matter(told: list[Part]) -> None:
    cut: list[Part] = []
    for part in told:
        halves = [part // 2, part - part // 2] if isinstance(part, int) else [part[:1], part[1:]]
        cut += [half for half in halves if half]
    assert op_digest(cut) == op_digest(told)


def test_zeros_that_take_room_count_like_a_hole_in_a_digest_of_content() -> None:
    read, skipped = ContentDigest(), ContentDigest()
    read.update(b"a" * CHUNK + bytes(2 * CHUNK) + b"tail")
    skipped.update(b"a" * CHUNK)
    skipped.skip(1)
    skipped.update(bytes(CHUNK))
    skipped.update(b"tail")
    assert read.digest() == skipped.digest()
    assert read.digest() != blake3(b"a" * CHUNK + bytes(2 * CHUNK) + b"tail").digest()


def test_content_without_zero_chunks_has_its_plain_hash() -> None:
    digest = ContentDigest()
    data = b"\1" * CHUNK + bytes(CHUNK - 1) + b"\1" + bytes(100)
    digest.update(data)
    assert digest.digest() == blake3(data).digest()


def test_the_place_of_a_hole_counts() -> None:
    one, other = ContentDigest(), ContentDigest()
    one.update(bytes(CHUNK) + b"a" * CHUNK)
    other.update(b"a" * CHUNK + bytes(CHUNK))
    assert one.digest() != other.digest()
