"""The kernel in plain Python: the meaning of each function, and the twin that always runs.

Some jobs touch every byte of a file and are too slow in Python to be used by choice: summing
the blocks of a basis, comparing them with those of a new file, rolling a checksum over that to
find them at any offset, and the keyed sums below a digest. ``netsync.delta._kernel`` does them in
C; this module has the same names and gives the same results, so that installing never fails and
the tests have a reference.

The rolling checksum of a window of n bytes is the pair ``a`` (the sum of the bytes) and ``b``
(the sum of all prefix sums), each modulo 2**32, as in rsync but not cut to 16 bits each. The
pair, ``a | b << 32``, is the window's *state*. The *weak checksum* is the upper 40 bits of the
state times an odd constant: in blocks of 4 KiB and more ``a`` and ``b`` together carry about
40 bits, where rsync's two halves carry 30. A window then meets a wrong block by accident once
in 2**40 / blocks: a basis must reach 1 TiB before false hits cost as much hashing as there
is data, where 32 bits would reach that at 4 GiB.

The *strong checksum* of a block is the beginning of its xxh3_128 under a seed.

The *tag* of a unit of 4 KiB is NH, of UMAC and of Adiantum, four times over: the unit's 32-bit
words are added to as many words of the key, each even sum is multiplied with the odd one behind
it, and the products are added up modulo 2**64; for each further time the key begins 64 bytes
later. If the key is random, two units that differ have the same tag once in 2**128 keys, whatever
they are (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, 1999, section 5.2).

It knows nothing of files, of who draws a seed or of what a match is good for.
"""

from __future__ import annotations

import operator
import sys
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from xxhash import xxh3_128_digest

if TYPE_CHECKING:
    from netsync.delta.kernel import Buffer

NAME: Final = "pure"

WEAK_SIZE: Final = 5
"""Bytes of a weak checksum, little-endian: 40 bits, see above."""

STRONG_SIZE: Final = 7
"""Bytes of xxh3_128 kept: 96 bits an entry with the weak checksum, room for 2**62 comparisons."""

BLOCK_OVER: Final = 240
"""Bytes up to which xxh3_128 is another function, which the compiled twin lacks."""

CANDIDATES_MAX: Final = 16
"""Blocks offered for one weak checksum. Equal blocks need one; sixteen bound the comparisons
that a signature crafted to repeat one weak checksum can force for each hit."""

BLOCKS_MAX: Final = 1 << 24
"""Blocks in one table: a number and a weak checksum share one 64-bit key in the compiled twin."""

UNIT: Final = 4096
"""Bytes that make one tag; all of them and the key stay in a processor's first-level cache."""

TAG_SIZE: Final = 32
"""Bytes of a tag: four sums of 64 bits."""

_KEY_STEP: Final = 64
"""Bytes by which the key moves on from one of the four sums to the next."""

KEY_SIZE: Final = UNIT + 3 * _KEY_STEP
"""Bytes of key that four sums of a unit look at."""

_LOW_HALVES: Final = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * (UNIT // 8), "little")
"""The even words of a unit."""

_MIX: Final = 0x9E3779B97F4A7C15
_MASK32: Final = (1 << 32) - 1
_MASK64: Final = (1 << 64) - 1
_WEAK_SHIFT: Final = 24


def weak_sums(data: Buffer, block_size: int) -> bytes:
    """Return the weak checksum of each block of ``data``, WEAK_SIZE bytes each, in order.

    The last block may be short. Raises ValueError for a block size below 1.
    """
    if block_size < 1:
        raise ValueError("block size must be at least 1 byte")
    view = memoryview(data).cast("B")
    return b"".join(
        _weak(_window_state(view[at : at + block_size])).to_bytes(WEAK_SIZE, "little")
        for at in range(0, len(view), block_size)
    )


def _window_state(window: memoryview) -> int:
    a = b = 0
    for byte in window:
        a += byte
        b += a
    return (a & _MASK32) | (b & _MASK32) << 32


def _rolled(state: int, block_size: int, old: int, new: int) -> int:
    a = (state + new - old) & _MASK32
    b = ((state >> 32) + a - block_size * old) & _MASK32
    return a | b << 32


def _weak(state: int) -> int:
    return (state * _MIX & _MASK64) >> _WEAK_SHIFT


def strong_sums(data: Buffer, block_size: int, seed: int) -> bytes:
    """Return the strong checksum of each block of ``data``, STRONG_SIZE bytes each, in order.

    The last block may be short. Raises ValueError for a block size up to BLOCK_OVER.
    """
    _check_block(block_size)
    view = memoryview(data).cast("B")
    return b"".join(
        xxh3_128_digest(view[at : at + block_size], seed)[:STRONG_SIZE]
        for at in range(0, len(view), block_size)
    )


def count_repeated(
    data: Buffer, block_size: int, seed: int, entries: Buffer, place: int, stride: int
) -> int:
    """Return how many whole blocks of ``data``, from its first on, have the checksums expected.

    The strong checksum of the first is expected at ``place`` of ``entries``, that of each further
    one ``stride`` bytes on. Raises ValueError for a block size up to BLOCK_OVER, and where
    fewer checksums than blocks are there.
    """
    _check_block(block_size)
    view, sums = memoryview(data).cast("B"), memoryview(entries).cast("B")
    blocks = len(view) // block_size
    if place < 0 or stride < STRONG_SIZE:
        raise ValueError("checksums lie before the entries or in each other")
    if blocks and len(sums) < place + (blocks - 1) * stride + STRONG_SIZE:
        raise ValueError("there are fewer entries than blocks")
    for block in range(blocks):
        strong = xxh3_128_digest(view[block * block_size : (block + 1) * block_size], seed)
        if sums[place : place + STRONG_SIZE] != strong[:STRONG_SIZE]:
            return block
        place += stride
    return blocks


def _check_block(block_size: int) -> None:
    if block_size <= BLOCK_OVER:
        raise ValueError(f"blocks must be longer than {BLOCK_OVER} bytes")


def unit_tags(data: Buffer, key: Buffer) -> bytes:
    """Return the tag of each unit of ``data``, in order, under a key of KEY_SIZE bytes.

    A last unit that is short counts as if zeros followed. Raises ValueError for another key size.
    """
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes")
    view = memoryview(data).cast("B")
    keys = [_words(key[at : at + UNIT]) for at in range(0, 4 * _KEY_STEP, _KEY_STEP)]
    sums: list[int] = []
    for at in range(0, len(view), UNIT):
        even, odd = _words(view[at : at + UNIT])
        for even_key, odd_key in keys:
            products = map(operator.mul, _added(even, even_key), _added(odd, odd_key))
            sums.append(sum(products) & _MASK64)
    return b"".join(each.to_bytes(8, "little") for each in sums)


def _words(unit: Buffer) -> tuple[int, int]:
    """Return the even and the odd words of a unit as two numbers, each word in 64 bits."""
    number = int.from_bytes(unit, "little")
    return number & _LOW_HALVES, number >> 32 & _LOW_HALVES


def _added(words: int, key: int) -> memoryview:
    """Add word by word, modulo 2**32; return the sums, in the same order for all words."""
    return memoryview((words + key & _LOW_HALVES).to_bytes(UNIT, sys.byteorder)).cast("Q")


class WeakTable:
    """The block numbers of a basis, looked up by weak checksum."""

    def __init__(self, entries: Buffer, stride: int) -> None:
        """Index ``entries``: one block each ``stride`` bytes, the weak checksum first.

        Raises ValueError when they do not divide evenly or are more than BLOCKS_MAX.
        """
        if stride < WEAK_SIZE:
            raise ValueError("entry too short for its weak checksum")
        view = memoryview(entries).cast("B")
        if len(view) % stride:
            raise ValueError("entries end in the middle of one")
        self._count = len(view) // stride
        if self._count > BLOCKS_MAX:
            raise ValueError("too many blocks for one table")
        self._numbers: dict[int, list[int]] = {}
        for number in range(self._count):
            at = number * stride
            weak = int.from_bytes(view[at : at + WEAK_SIZE], "little")
            self._numbers.setdefault(weak, []).append(number)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return self._count

    def candidates(self, state: int, first: int = 0) -> list[int]:
        """Return the blocks, from number ``first`` on, with the weak checksum of ``state``.

        Rising, and no more than CANDIDATES_MAX of them.
        """
        numbers = self._numbers.get(_weak(state & _MASK64), [])
        begin = bisect_left(numbers, first)
        return numbers[begin : begin + CANDIDATES_MAX]

    def find(
        self, data: Buffer, start: int, stop: int, block_size: int, state: int | None = None
    ) -> tuple[int, int | None]:
        """Find the first window whose weak checksum is in the table.

        Looks at the windows of ``block_size`` bytes that begin at ``start`` to ``stop``, both
        included, as far as they fit in ``data``. Returns where the window begins and its state,
        or -1 and the state of the last window looked at (as given, when none was).

        ``state``, when given, is that of the window at ``start - 1``, and spares reading the
        first window as a whole. Raises ValueError for a block size or a start out of range.
        """
        if block_size < 1:
            raise ValueError("block size must be at least 1 byte")
        if start < (0 if state is None else 1):
            raise ValueError("search starts before the data")
        view = memoryview(data).cast("B")
        stop = min(stop, len(view) - block_size)
        if start > stop or not self._count:
            return -1, state
        if state is None:
            state = _window_state(view[start : start + block_size])
        else:
            state = _rolled(
                state & _MASK64, block_size, view[start - 1], view[start + block_size - 1]
            )
        for at in range(start, stop):
            if _weak(state) in self._numbers:
                return at, state
            state = _rolled(state, block_size, view[at], view[at + block_size])
        return (stop if _weak(state) in self._numbers else -1), state
