"""One contract, two kernels: each must do this, and the compiled one must be there.

A compiled kernel that is missing is a failure and not a skip, or the suite would go on testing
the pure one twice; who means to test without it says NETSYNC_KERNEL=pure.
"""

from __future__ import annotations

import importlib
import random
from typing import cast

import pytest
from xxhash import xxh3_128_digest

from netsync.delta import kernel as selector
from netsync.delta import pure
from netsync.delta.kernel import Kernel
from netsync.errors import ConfigError
from tests.support.twins import WISHED

MODULES = {"pure": "netsync.delta.pure", "compiled": "netsync.delta._kernel"}


@pytest.fixture(params=WISHED)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return cast("Kernel", importlib.import_module(MODULES[request.param]))


def weak_of(data: bytes) -> bytes:
    """State the checksum in the plainest words there are."""
    n = len(data)
    a = sum(data) % 2**32
    b = sum((n - i) * byte for i, byte in enumerate(data)) % 2**32
    mixed = (a + b * 2**32) * 0x9E3779B97F4A7C15 % 2**64
    return (mixed >> 24).to_bytes(5, "little")


def test_it_says_which_one_it_is(kernel: Kernel) -> None:
    assert MODULES[kernel.NAME] == getattr(kernel, "__name__", None)


def test_both_agree_on_their_limits(kernel: Kernel) -> None:
    assert kernel.WEAK_SIZE == pure.WEAK_SIZE
    assert kernel.CANDIDATES_MAX == pure.CANDIDATES_MAX
    assert kernel.STRONG_SIZE == pure.STRONG_SIZE
    assert kernel.BLOCKS_MAX == pure.BLOCKS_MAX
    assert (kernel.UNIT, kernel.TAG_SIZE, kernel.KEY_SIZE) == (4096, 32, 4288)


@pytest.mark.parametrize("block_size", [1, 15, 16, 17, 512, 4096])
@pytest.mark.parametrize("length", [0, 1, 16, 511, 512, 513, 5000])
def test_weak_sums_follow_the_definition(kernel: Kernel, length: int, block_size: int) -> None:
    data = random.Random(length).randbytes(length)
    blocks = [data[at : at + block_size] for at in range(0, length, block_size)]
    assert kernel.weak_sums(data, block_size) == b"".join(map(weak_of, blocks))


def test_sums_of_the_largest_bytes_wrap_instead_of_overflowing(kernel: Kernel) -> None:
    data = b"\xff" * 10_000  # b passes 2**32
    assert kernel.weak_sums(data, len(data)) == weak_of(data)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_contiguous_buffer_is_taken(kernel: Kernel, make: type) -> None:
    assert kernel.weak_sums(make(b"abcdef"), 4) == weak_of(b"abcd") + weak_of(b"ef")


def strong_of(data: bytes, block_size: int, seed: int) -> bytes:
    blocks = [data[at : at + block_size] for at in range(0, len(data), block_size)]
    return b"".join(xxh3_128_digest(block, seed)[:7] for block in blocks)


LENGTHS = [0, 1, 240, 241, 512, 1000, 1024, 1025, 2048, 2049, 4096, 5000, 131_073]


@pytest.mark.parametrize("block_size", [241, 512, 1024, 4096, 131_072])
@pytest.mark.parametrize("length", LENGTHS)
def test_strong_sums_are_those_of_the_library(kernel: Kernel, length: int, block_size: int) -> None:
    data = memoryview(random.Random(length).randbytes(length + 3))
    for seed in (0, 1, 2**63 - 25, 2**64 - 1):
        for start in (0, 3):
            part = data[start : start + length]
            wanted = strong_of(bytes(part), block_size, seed)
            assert kernel.strong_sums(part, block_size, seed) == wanted


@pytest.mark.parametrize("stride", [7, 12])
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_blocks_are_counted_up_to_the_first_that_is_another(
    kernel: Kernel, make: type, stride: int
) -> None:
    data = random.Random(3).randbytes(10 * 512)
    sums = kernel.strong_sums(data, 512, 9)
    entries = b"before" + b"".join(
        sums[at : at + 7].ljust(stride, b"-") for at in range(0, len(sums), 7)
    )
    for differs in range(10):
        other = bytearray(data)
        other[differs * 512 + 511] ^= 1
        assert kernel.count_repeated(make(other), 512, 9, make(entries), 6, stride) == differs
    assert kernel.count_repeated(make(data), 512, 9, make(entries), 6, stride) == 10
    assert kernel.count_repeated(make(data), 512, 8, make(entries), 6, stride) == 0
    part = make(data[2 * 512 : 5 * 512 - 1])
    assert kernel.count_repeated(part, 512, 9, make(entries), 6 + 2 * stride, stride) == 2
    assert kernel.count_repeated(b"", 512, 9, b"", 0, stride) == 0


def test_checksums_that_are_not_there_are_refused(kernel: Kernel) -> None:
    data, sums = bytes(1024), bytes(14)
    assert kernel.count_repeated(data, 512, 9, sums, 0, 7) == 0
    for place, stride in ((1, 7), (0, 8), (14, 7), (9, 7), (2**63 - 1, 7), (0, 2**63 - 1)):
        with pytest.raises(ValueError, match="fewer entries"):
            kernel.count_repeated(data, 512, 9, sums, place, stride)
    with pytest.raises(ValueError, match="fewer entries"):
        kernel.count_repeated(data[:512], 512, 9, sums[:6], 0, 12)
    for place, stride in ((-1, 7), (0, 6), (0, -7)):
        with pytest.raises(ValueError, match="lie before"):
            kernel.count_repeated(data, 512, 9, sums, place, stride)
    for block_size in (-1, 0, 240):
        with pytest.raises(ValueError, match="longer than"):
            kernel.count_repeated(data, block_size, 9, sums, 0, 7)
        with pytest.raises(ValueError, match="longer than"):
            kernel.strong_sums(data, block_size, 9)


def tags_of(data: bytes, key: bytes) -> bytes:
    """State the tags in the plainest words there are."""
    k = [int.from_bytes(key[at : at + 4], "little") for at in range(0, len(key), 4)]
    tags: list[int] = []
    for start in range(0, len(data), 4096):
        unit = data[start : start + 4096].ljust(4096, b"\0")
        m = [int.from_bytes(unit[at : at + 4], "little") for at in range(0, 4096, 4)]
        for step in (0, 16, 32, 48):
            sums = [(m[i] + k[i + step]) % 2**32 for i in range(1024)]
            tags.append(sum(a * b for a, b in zip(sums[::2], sums[1::2], strict=True)) % 2**64)
    return b"".join(tag.to_bytes(8, "little") for tag in tags)


@pytest.mark.parametrize("length", [0, 1, 4, 4095, 4096, 4097, 9000])
def test_tags_follow_the_definition(kernel: Kernel, length: int) -> None:
    data, key = random.Random(length).randbytes(length), random.Random(0).randbytes(4288)
    assert kernel.unit_tags(data, key) == tags_of(data, key)


@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"\x80"])
def test_tags_wrap_instead_of_overflowing(kernel: Kernel, byte: bytes) -> None:
    assert kernel.unit_tags(byte * 4096, byte * 4288) == tags_of(byte * 4096, byte * 4288)


def test_tags_are_taken_of_any_contiguous_buffer_at_any_place(kernel: Kernel) -> None:
    data, key = random.Random(1).randbytes(5000), random.Random(2).randbytes(4288)
    view = memoryview(bytearray(data))
    for start in (0, 1, 17):
        assert kernel.unit_tags(view[start:], key) == tags_of(data[start:], key)


@pytest.mark.parametrize("size", [0, 4096, 4287, 4289])
def test_a_key_of_another_size_is_refused(kernel: Kernel, size: int) -> None:
    with pytest.raises(ValueError, match="key"):
        kernel.unit_tags(b"abc", bytes(size))


def test_candidates_are_the_blocks_with_that_checksum_rising(kernel: Kernel) -> None:
    table = kernel.WeakTable(kernel.weak_sums(b"aaaabbbbaaaacccc", 4), 5)
    assert len(table) == 4
    _, state = table.find(b"aaaa", 0, 0, 4)
    assert state is not None
    assert table.candidates(state) == [0, 2]
    assert table.candidates(state, 1) == [2]
    assert table.candidates(state, 3) == []
    assert table.candidates(state, 1 << 40) == []


def test_candidates_are_capped_but_reachable_from_any_number(kernel: Kernel) -> None:
    table = kernel.WeakTable(kernel.weak_sums(b"aaaa" * 50, 4), 5)
    _, state = table.find(b"aaaa", 0, 0, 4)
    assert state is not None
    assert table.candidates(state) == list(range(16))
    assert table.candidates(state, 40) == list(range(40, 50))


def test_entries_may_be_wider_than_the_checksum(kernel: Kernel) -> None:
    table = kernel.WeakTable(weak_of(b"aaaa") + b"strong!" + weak_of(b"bbbb") + b"strong!", 12)
    position, state = table.find(b"xbbbb", 0, 9, 4)
    assert position == 1
    assert state is not None
    assert table.candidates(state) == [1]


def test_find_names_the_first_window_whose_checksum_is_known(kernel: Kernel) -> None:
    data = random.Random(5).randbytes(3000)
    for wanted in (0, 1, 63, 64, 65, 127, 128, 1000, 2984):
        table = kernel.WeakTable(weak_of(data[wanted : wanted + 16]), 5)
        assert table.find(data, 0, len(data), 16)[0] == wanted
        assert table.find(data, wanted, wanted, 16)[0] == wanted
        assert table.find(data, wanted + 1, len(data), 16)[0] == -1
        assert table.find(data, 0, wanted - 1, 16)[0] == -1


def test_find_resumes_from_the_state_it_returned(kernel: Kernel) -> None:
    data = b"abcabc" * 40
    table = kernel.WeakTable(weak_of(b"abcabcab") + weak_of(b"cabcabca"), 5)
    hits, at = [], 0
    state: int | None = None
    while at >= 0:
        at, state = table.find(data, at, len(data), 8, state)
        if at >= 0:
            hits.append(at)
            at += 1
    assert hits == [p for p in range(len(data) - 7) if p % 3 != 1]


def test_a_search_cut_anywhere_ends_in_the_same_state(kernel: Kernel) -> None:
    data = random.Random(6).randbytes(400)
    table = kernel.WeakTable(bytes(5), 5)
    whole = table.find(data, 0, 300, 32)
    for cut in (0, 1, 63, 64, 299):
        _, state = table.find(data, 0, cut, 32)
        assert table.find(data, cut + 1, 300, 32, state) == whole


def test_nothing_to_look_at_returns_what_was_given(kernel: Kernel) -> None:
    table = kernel.WeakTable(bytes(5), 5)
    assert table.find(b"abc", 0, 10, 4) == (-1, None)
    assert table.find(b"abcdef", 5, 4, 2, 77) == (-1, 77)
    assert table.find(b"", 0, 0, 1) == (-1, None)
    assert kernel.WeakTable(b"", 5).find(b"abcdef", 0, 9, 2) == (-1, None)
    assert kernel.WeakTable(b"", 5).candidates(0) == []


def test_impossible_sizes_are_refused_with_words(kernel: Kernel) -> None:
    table = kernel.WeakTable(bytes(5), 5)
    with pytest.raises(ValueError, match="block size"):
        kernel.weak_sums(b"abc", 0)
    with pytest.raises(ValueError, match="block size"):
        table.find(b"abc", 0, 1, 0)
    with pytest.raises(ValueError, match="before the data"):
        table.find(b"abc", -1, 1, 1)
    with pytest.raises(ValueError, match="before the data"):
        table.find(b"abc", 0, 1, 1, 5)
    with pytest.raises(ValueError, match="too short"):
        kernel.WeakTable(b"", 4)
    with pytest.raises(ValueError, match="middle"):
        kernel.WeakTable(bytes(6), 5)


@pytest.mark.parametrize(
    "entries",
    [
        bytes(5 * 3000),
        b"\xff" * (5 * 3000),
        # One bucket: equal top bits, all different below.
        b"".join((n | 0xABCDE << 20).to_bytes(5, "little") for n in range(3000)),
        random.Random(7).randbytes(5 * 3000),
    ],
    ids=["zeros", "ones", "one bucket", "random"],
)
def test_table_contents_can_be_anything(kernel: Kernel, entries: bytes) -> None:
    table = kernel.WeakTable(entries, 5)
    reference = pure.WeakTable(entries, 5)
    data = bytes(200) + random.Random(8).randbytes(300)
    assert table.find(data, 0, 400, 32) == reference.find(data, 0, 400, 32)
    for state in (0, 1, 2**64 - 1, -1, 0xABCDE << 44):
        assert table.candidates(state) == reference.candidates(state)


def test_the_selector_gives_the_kernel_it_is_asked_for(kernel: Kernel) -> None:
    assert selector.load(kernel.NAME) is kernel


def test_the_selector_prefers_the_compiled_kernel() -> None:
    assert selector.load("").NAME in WISHED[-1:] or "compiled" not in WISHED


def test_a_forced_kernel_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        if name.endswith("_kernel"):
            raise ModuleNotFoundError(name)
        return pure

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="NETSYNC_KERNEL=compiled"):
        selector.load("compiled")
    assert selector.load("") is cast("Kernel", pure)


def test_a_broken_compiled_kernel_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise SystemError(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(SystemError):
        selector.load("")


def test_an_unknown_kernel_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="NETSYNC_KERNEL"):
        selector.load("fast")
