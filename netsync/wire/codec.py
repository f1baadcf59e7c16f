"""Messages to frames and back; the one place where a peer's bytes become values.

``decode`` yields a valid message or raises ``ProtocolError``, nothing else. Tails may be
compressed with zstd; the plain length is announced, checked against the limit before memory is
taken and enforced while unpacking, so that a decompression bomb is an error of a few kilobytes.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from netsync.errors import ProtocolError
from netsync.wire import committing, fine, messages, mirroring, reuse, watching
from netsync.wire.frames import COMPRESSED, Frame, Limits, encode_header
from netsync.wire.messages import Message

Buffer: TypeAlias = bytes | bytearray | memoryview

MESSAGES: Final[dict[int, type[Message]]] = {
    cls.type: cls
    for module in (messages, reuse, fine, watching, mirroring, committing)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Message) and cls is not Message
}
LIMITS: Final[dict[int, Limits]] = {number: cls.limits for number, cls in MESSAGES.items()}

_encoder = msgspec.msgpack.Encoder()
_PLAIN_LENGTH: Final = struct.Struct(">I")
_WORTH_COMPRESSING: Final = 512
"""Bytes: below this a tail hardly shrinks."""


@functools.cache
def _decoder(number: int) -> msgspec.msgpack.Decoder[Message]:
    """Return the decoder of one type: made when the first comes, since most never do."""
    return msgspec.msgpack.Decoder(MESSAGES[number])


def encode(message: Message, tail: Sequence[Buffer] = (), *, flags: int = 0) -> list[Buffer]:
    """Return the buffers of the frame that carries ``message`` and ``tail``.

    A message over its own limits is a defect of this side and raises ``ValueError``.
    """
    body = _encoder.encode(message)
    length = sum(len(part) for part in tail)
    if len(body) > message.limits.body or length > message.limits.tail:
        raise ValueError(f"{type(message).__name__} of {len(body)}+{length} bytes is too long")
    return [encode_header(message.type, flags, len(body), length) + body, *tail]


def decode(frame: Frame) -> Message:
    """Return the message in ``frame``."""
    try:
        return _decoder(frame.type).decode(frame.body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        name = MESSAGES[frame.type].__name__
        raise ProtocolError(f"a {name} message is malformed: {error}", op="receive") from error


def compress(tail: Sequence[Buffer], level: int) -> tuple[list[Buffer], int]:
    """Return ``tail`` compressed and the frame flag for it, or as it is where that is smaller."""
    plain = b"".join(tail)
    if len(plain) < _WORTH_COMPRESSING:
        return list(tail), 0
    import zstandard  # noqa: PLC0415 - only what is compressed pays for it

    packed = zstandard.ZstdCompressor(level=level).compress(plain)
    if len(packed) + _PLAIN_LENGTH.size >= len(plain):
        return [plain], 0
    return [_PLAIN_LENGTH.pack(len(plain)), packed], COMPRESSED


def plain_tail(frame: Frame) -> memoryview:
    """Return the frame's tail, decompressed if it was compressed."""
    if not frame.flags & COMPRESSED:
        return frame.tail
    if len(frame.tail) < _PLAIN_LENGTH.size:
        raise ProtocolError("a compressed tail without its length", op="receive")
    (length,) = _PLAIN_LENGTH.unpack_from(frame.tail)
    if length > LIMITS[frame.type].tail:
        raise ProtocolError(f"a tail of {length} bytes is over its limit", op="receive")
    import zstandard  # noqa: PLC0415 - as above

    buffer = bytearray(length + 1)
    unpacker = zstandard.ZstdDecompressor(max_window_size=2 * LIMITS[frame.type].tail)
    try:
        with unpacker.stream_reader(frame.tail[_PLAIN_LENGTH.size :]) as reader:
            count = reader.readinto(buffer)
            while 0 < count <= length and (more := reader.readinto(memoryview(buffer)[count:])):
                count += more
    except zstandard.ZstdError as error:
        raise ProtocolError("a compressed tail is damaged", op="receive") from error
    if count != length:
        raise ProtocolError("a compressed tail has not its announced length", op="receive")
    return memoryview(buffer)[:length]
