"""Packed operations: how a mirror's log lies in a frame and in a journal, and what it adds up to.

Each operation is four bytes of length and one msgpack array. The *chain* is a running digest:
that of an operation is made of the chain before it and a digest of its packed bytes, so two logs
with equal chains at one number are equal up to there. What must hold: only bytes that decode to an
operation whose paths lead down are ever handed on, and no number a peer sends is believed before
its operations were counted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import blake3
import msgspec
from xxhash import xxh3_128

from netsync.errors import ProtocolError
from netsync.names import shown
from netsync.operation import DATA_MAX, AnyOperation, Operation, Write, is_confined, names_of
from netsync.wire.codec import Buffer

CHAIN_BYTES: Final = 16
NO_CHAIN: Final = bytes(CHAIN_BYTES)
"""The chain before the first operation."""
PACKED_MAX: Final = DATA_MAX + 256 * 1024
"""Bytes of one packed operation: its data, two paths and a value."""

_LENGTH: Final = struct.Struct(">I")
_BULK: Final = 64 * 1024
"""Bytes of data that are worth three buffers instead of a copy."""
_BYTES_FOLLOW: Final = struct.Struct(">BI")
_BYTES: Final = 0xC6
"""What msgpack says of so many bytes, before their number."""
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[AnyOperation]] = msgspec.msgpack.Decoder(AnyOperation)


class Unpacked(NamedTuple):
    """An operation and the bytes it was, without their length."""

    operation: Operation
    packed: memoryview


def pack(operation: Operation) -> bytes:
    """Return ``operation`` as bytes, with their length before them."""
    return b"".join(packed_parts(operation))


def packed_parts(operation: Operation) -> tuple[Buffer, ...]:
    """Return the same as buffers one behind the other: much data is not copied, but one of them."""
    if isinstance(operation, Write) and len(operation.data) >= _BULK:
        return _bulk_parts(operation)
    body = _encoder.encode(operation)
    return (_LENGTH.pack(len(body)) + body,)


def _bulk_parts(operation: Write) -> tuple[Buffer, ...]:
    """Data is the last field but one, and without any it is two bytes."""
    data = operation.data
    plain = _encoder.encode(Write(operation.path, operation.offset, b"", operation.mtime))
    behind = _encoder.encode(operation.mtime)
    before = plain[: -len(behind) - 2]
    length = len(before) + _BYTES_FOLLOW.size + len(data) + len(behind)
    return (
        _LENGTH.pack(length) + before + _BYTES_FOLLOW.pack(_BYTES, len(data)),
        data,
        behind,
    )


def chained(chain: bytes, *packed: Buffer) -> bytes:
    """Return the chain after an operation, from the one before it.

    ``packed`` is the operation with its length, in one buffer or several.
    """
    digest = xxh3_128()
    for part in packed:
        digest.update(part)
    return blake3.blake3(chain + digest.digest()).digest(CHAIN_BYTES)


def chained_all(chain: bytes, tail: memoryview) -> bytes:
    """Return the chain after all operations in ``tail``, which were unpacked before."""
    position = 0
    while position < len(tail):
        end = position + _LENGTH.size + _LENGTH.unpack_from(tail, position)[0]
        chain = chained(chain, tail[position:end])
        position = end
    return chain


def unpack(tail: memoryview) -> Iterator[Unpacked]:
    """Yield the operations in ``tail``. Raises ``ProtocolError``."""
    position = 0
    while position < len(tail):
        if len(tail) - position < _LENGTH.size:
            raise ProtocolError("an operation is torn", op="receive")
        (length,) = _LENGTH.unpack_from(tail, position)
        end = position + _LENGTH.size + length
        if length > PACKED_MAX or end > len(tail):
            raise ProtocolError("an operation is torn or too long", op="receive")
        packed = tail[position:end]
        yield Unpacked(_decoded(packed[_LENGTH.size :]), packed)
        position = end


def _decoded(body: memoryview) -> Operation:
    try:
        operation = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ProtocolError(f"an operation is malformed: {error}", op="receive") from error
    if not is_confined(operation):
        names = " and ".join(shown(name)[:200] for name in names_of(operation))
        raise ProtocolError(f"an operation leads out of the mirror: {names}", op="receive")
    return operation
