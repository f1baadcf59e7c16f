"""What a delta says: copy these basis bytes, then take these new ones, then leave a hole.

Applied in order, the operations spell the new file from its first byte to its last. On the
wire they are a flat list of integers, ``offset, length, offset, length, …``, beside the raw
bytes of a frame: an offset of -1 stands for a literal, whose bytes are the next ``length`` of
those raw bytes, an offset of -2 for a hole. ``unpack`` is where a peer's numbers are checked,
once and all of them; what it returns needs no second look.

It knows no files and no frames, only numbers and bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netsync.delta.kernel import Buffer

LITERAL: Final = -1
"""The offset that marks a literal: no basis has a byte there."""
HOLE: Final = -2
"""The offset that marks a hole."""


class Copy(NamedTuple):
    """Take ``length`` bytes of the basis from ``offset`` on."""

    offset: int
    length: int


class Literal(NamedTuple):
    """Take these bytes."""

    data: Buffer


class Hole(NamedTuple):
    """Leave ``length`` bytes out: they read as zeros and take no room."""

    length: int


Op = Copy | Literal | Hole


def pack(ops: Iterable[Op]) -> tuple[list[int], list[Buffer]]:
    """Return the numbers of ``ops`` and the literals' buffers, uncopied, both in order."""
    numbers: list[int] = []
    buffers: list[Buffer] = []
    for op in ops:
        if isinstance(op, Copy):
            numbers += op
        elif isinstance(op, Hole):
            numbers += (HOLE, op.length)
        else:
            numbers += (LITERAL, len(op.data))
            buffers.append(op.data)
    return numbers, buffers


def unpack(
    numbers: Sequence[int], tail_length: int, *, basis_size: int, room: int
) -> list[tuple[int, int]]:
    """Return ``(offset, length)`` pairs, as on the wire, known to be possible.

    ``tail_length`` is the number of raw bytes that came with the numbers, ``room`` the bytes
    the new file may still grow by. Raises ValueError when a length is not positive, a copy
    leaves the basis, the literals are not exactly the raw bytes, or the sum exceeds ``room``.
    """
    if len(numbers) % 2:
        raise ValueError("delta ends in the middle of an operation")
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    total = literal = 0
    for offset, length in pairs:
        if length <= 0:
            raise ValueError(f"delta operation of {length} bytes")
        if offset == LITERAL:
            literal += length
        elif offset != HOLE and (offset < 0 or offset + length > basis_size):
            raise ValueError(f"copy of {length} bytes at {offset} leaves the basis")
        total += length
    if literal != tail_length:
        raise ValueError(f"literals of {literal} bytes came with {tail_length} bytes")
    if total > room:
        raise ValueError(f"delta of {total} bytes exceeds the {room} that remain")
    return pairs


def patch(basis: bytes, ops: Iterable[Op]) -> bytes:
    """Return the new bytes that ``ops`` spell: the meaning of a delta, for tests and readers."""
    new = bytearray()
    for op in ops:
        match op:
            case Copy(offset, length):
                new += basis[offset : offset + length]
            case Literal(data):
                new += data
            case Hole(length):
                new += bytes(length)
    return bytes(new)
