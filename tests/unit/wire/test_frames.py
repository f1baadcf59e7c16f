"""Cutting bytes into frames: limits before memory, every malformed header, any chunking."""

from __future__ import annotations

import pytest

from netsync.errors import ProtocolError
from netsync.wire.frames import (
    BULK_MAX,
    COMPRESSED,
    CONTROL_MAX,
    HEADER,
    TAIL_MAX,
    Frame,
    FrameDecoder,
    Limits,
    encode_header,
)

SMALL, BULK, BARE = 1, 2, 3
LIMITS = {SMALL: Limits(), BULK: Limits(BULK_MAX, TAIL_MAX), BARE: Limits(0, 0)}


def frame(kind: int, body: bytes = b"", tail: bytes = b"", flags: int = 0) -> bytes:
    return encode_header(kind, flags, len(body), len(tail)) + body + tail


def plain(frames: list[Frame]) -> list[tuple[int, int, bytes, bytes]]:
    return [(f.type, f.flags, bytes(f.body), bytes(f.tail)) for f in frames]


STREAM = (
    frame(SMALL, b"body")
    + frame(BARE)
    + frame(BULK, b"x" * 300, b"t" * 70_000, COMPRESSED)
    + frame(BULK, b"", b"tail only")
    + frame(SMALL, b"last")
)
FRAMES = [
    (SMALL, 0, b"body", b""),
    (BARE, 0, b"", b""),
    (BULK, COMPRESSED, b"x" * 300, b"t" * 70_000),
    (BULK, 0, b"", b"tail only"),
    (SMALL, 0, b"last", b""),
]


def test_the_header_is_twelve_big_endian_bytes() -> None:
    assert encode_header(35, 1, 0x010203, 0x0A0B) == bytes.fromhex("23010000000102030000 0a0b")


@pytest.mark.parametrize("size", [1, 2, 11, 12, 13, 4096, len(STREAM)])
def test_frames_are_the_same_however_the_stream_is_cut(size: int) -> None:
    decoder = FrameDecoder(LIMITS)
    frames: list[Frame] = []
    for start in range(0, len(STREAM), size):
        frames += decoder.feed(STREAM[start : start + size])
    assert plain(frames) == FRAMES
    assert decoder.next_frame() is None


def test_the_largest_frame_allowed_arrives_whole() -> None:
    body, tail = b"b" * BULK_MAX, b"t" * TAIL_MAX
    (only,) = FrameDecoder(LIMITS).feed(frame(BULK, body, tail))
    assert plain([only]) == [(BULK, 0, body, tail)]


def test_a_frame_keeps_its_bytes_when_later_ones_arrive() -> None:
    decoder = FrameDecoder(LIMITS)
    kept = [decoder.feed(frame(SMALL, bytes([value]) * 1000))[0] for value in range(256)]
    assert [bytes(f.body) for f in kept] == [bytes([value]) * 1000 for value in range(256)]


HEADERS = {
    "unknown type": HEADER.pack(99, 0, 0, 0, 0),
    "type 0": HEADER.pack(0, 0, 0, 0, 0),
    "unknown flag": HEADER.pack(SMALL, 2, 0, 0, 0),
    "all flags": HEADER.pack(SMALL, 0xFF, 0, 0, 0),
    "reserved bytes": HEADER.pack(SMALL, 0, 1, 0, 0),
    "body one over": HEADER.pack(SMALL, 0, 0, CONTROL_MAX + 1, 0),
    "body 4 GiB": HEADER.pack(SMALL, 0, 0, 2**32 - 1, 0),
    "tail where none may be": HEADER.pack(SMALL, 0, 0, 0, 1),
    "tail one over": HEADER.pack(BULK, 0, 0, 0, TAIL_MAX + 1),
    "tail 4 GiB": HEADER.pack(BULK, 0, 0, 0, 2**32 - 1),
    "body where none may be": HEADER.pack(BARE, 0, 0, 1, 0),
    "another protocol": b"GET / HTTP/1.1\r\n",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_malformed_header_is_refused_for_ever(header: bytes) -> None:
    decoder = FrameDecoder(LIMITS)
    assert plain(decoder.feed(frame(SMALL, b"fine"))) == [(SMALL, 0, b"fine", b"")]
    with pytest.raises(ProtocolError):
        decoder.feed(header)
    with pytest.raises(ProtocolError):
        decoder.feed(frame(SMALL, b"fine"))


@pytest.mark.parametrize("name", ["body 4 GiB", "tail 4 GiB", "body one over", "tail one over"])
def test_a_length_over_the_limit_costs_no_memory(name: str) -> None:
    decoder = FrameDecoder(LIMITS)
    before = len(decoder.writable())
    with pytest.raises(ProtocolError, match="over its limit"):
        decoder.feed(HEADERS[name])
    assert len(decoder.writable()) <= before


def test_memory_is_taken_for_one_announced_frame_and_no_more() -> None:
    decoder = FrameDecoder(LIMITS)
    decoder.feed(encode_header(BULK, 0, BULK_MAX, TAIL_MAX))
    assert len(decoder.writable()) == BULK_MAX + TAIL_MAX


def test_there_is_always_room_to_receive_into() -> None:
    decoder = FrameDecoder(LIMITS)
    for value in STREAM:
        room = decoder.writable()
        assert len(room) > 0
        room[0] = value
        decoder.wrote(1)
        while decoder.next_frame() is not None:
            pass


def test_a_buffer_filled_by_frames_exactly_still_gives_room() -> None:
    decoder = FrameDecoder(LIMITS)
    room = decoder.writable()
    body = len(room) // 4 - HEADER.size
    frames = decoder.feed(frame(SMALL, b"q" * body) * 4)
    assert len(frames) == 4
    assert len(decoder.writable()) > 0
    assert plain(decoder.feed(frame(SMALL, b"next"))) == [(SMALL, 0, b"next", b"")]


def large(number: int) -> bytes:
    """Return a large frame that no other is like."""
    return frame(BULK, b"{}", bytes([number]) * (TAIL_MAX - number))


def test_large_buffers_are_used_again_when_nobody_looks_into_them() -> None:
    decoder = FrameDecoder(LIMITS)
    buffers: set[int] = set()
    for number in range(40):
        (only,) = decoder.feed(large(number))
        buffers.add(id(only.tail.obj))
        del only
    assert len(buffers) <= 3


def test_a_buffer_that_is_looked_into_is_never_used_again() -> None:
    """However many are held, and in whatever order they are let go."""
    decoder = FrameDecoder(LIMITS)
    held: dict[int, Frame] = {}
    for number in range(60):
        (held[number],) = decoder.feed(large(number))
        if number % 3:
            del held[sorted(held)[number * 31 % len(held)]]
        for key, each in held.items():
            assert each.tail[0] == each.tail[-1] == key
