"""Messages and their bytes: every class both ways, and every way in which bytes can be wrong."""

from __future__ import annotations

import hashlib
import json
import struct

import msgspec
import pytest
import zstandard

from netsync.errors import ProtocolError
from netsync.model import Entry, Kind
from netsync.wire import committing, fine, mirroring, reuse, watching
from netsync.wire import messages as m
from netsync.wire.codec import LIMITS, MESSAGES, compress, decode, encode, plain_tail
from netsync.wire.frames import COMPRESSED, TAIL_MAX, Frame, FrameDecoder
from netsync.wire.messages import Message
from tests.support.messages import SAMPLES, VECTORS, frame_bytes, missing_classes, vectors

EVERY = pytest.mark.parametrize(("message", "tail"), SAMPLES.values(), ids=SAMPLES)


def received(data: bytes) -> Frame:
    (frame,) = FrameDecoder(LIMITS).feed(data)
    return frame


def with_body(cls: type[Message], value: object) -> Frame:
    return Frame(cls.type, 0, memoryview(msgspec.msgpack.encode(value)), memoryview(b""))


def test_there_is_a_sample_of_every_message() -> None:
    assert missing_classes() == set()


def test_message_types_are_unique_and_fit_a_byte() -> None:
    classes = {
        value
        for module in (m, reuse, fine, watching, mirroring, committing)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message)
    }
    classes.remove(Message)
    assert len(MESSAGES) == len(classes)
    assert all(0 < number < 256 for number in MESSAGES)


@EVERY
def test_a_message_arrives_as_it_was_sent(message: Message, tail: bytes) -> None:
    frame = received(frame_bytes(message, tail))
    arrived = decode(frame)
    assert type(arrived) is type(message)
    assert arrived == message
    assert bytes(plain_tail(frame)) == tail


@pytest.mark.parametrize("name", SAMPLES)
def test_the_golden_bytes_are_written(name: str) -> None:
    assert frame_bytes(*SAMPLES[name]).hex() == json.loads(VECTORS.read_text())[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_golden_bytes_are_read(name: str) -> None:
    frame = received(bytes.fromhex(json.loads(VECTORS.read_text())[name]))
    assert (decode(frame), bytes(frame.tail)) == SAMPLES[name]


def test_the_vectors_hold_exactly_the_samples() -> None:
    assert json.loads(VECTORS.read_text()).keys() == vectors().keys()


@EVERY
def test_a_field_that_a_later_version_adds_is_ignored(message: Message, tail: bytes) -> None:
    del tail
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(message)) | {"added later": [1, {}]}
    assert decode(with_body(type(message), fields)) == message


GOOD_ENTRY = [b"n", 1, 0o644, 0, 0, 0, 0]
MALFORMED: dict[str, tuple[type[Message], object]] = {
    "not a map": (m.Hello, [1, "x", []]),
    "missing field": (m.Hello, {"protocol": 1}),
    "wrong type": (m.Hello, {"protocol": "1", "software": "x", "features": []}),
    "negative protocol": (m.Hello, {"protocol": -1, "software": "x", "features": []}),
    "protocol over 32 bits": (m.Hello, {"protocol": 2**32, "software": "x", "features": []}),
    "timeout 0": (m.Hello, {"protocol": 1, "software": "x", "features": [], "timeout": 0}),
    "timeout over a day": (
        m.Hello,
        {"protocol": 1, "software": "x", "features": [], "timeout": 86401},
    ),
    "too many features": (m.Hello, {"protocol": 1, "software": "x", "features": ["f"] * 65}),
    "text too long": (m.Hello, {"protocol": 1, "software": "x" * 4097, "features": []}),
    "fault code 0": (m.Fault, {"code": 0, "why": "x"}),
    "fault code 256": (m.Fault, {"code": 256, "why": "x"}),
    "unknown direction": (m.Open, {"direction": "sideways", "places": [["a", b""]], "options": {}}),
    "no place": (m.Open, {"direction": "push", "places": [], "options": {}}),
    "too many places": (
        m.Open,
        {"direction": "pull", "places": [["a", b""]] * 257, "options": {}},
    ),
    "ultra compression": (
        m.Open,
        {"direction": "push", "places": [["a", b""]], "options": {"compress": 20}},
    ),
    "negative rate": (
        m.Open,
        {"direction": "push", "places": [["a", b""]], "options": {"rate": -1}},
    ),
    "entry with a text name": (m.List, {"listings": [[0, [["n", *GOOD_ENTRY[1:]]], True]]}),
    "entry of no kind": (m.List, {"listings": [[0, [[b"n", 9, 0, 0, 0, 0, 0]], True]]}),
    "entry of kind 0": (m.List, {"listings": [[0, [[b"n", 0, 0, 0, 0, 0, 0]], True]]}),
    "entry mode over 12 bits": (
        m.List,
        {"listings": [[0, [[b"n", 1, 0o10000, 0, 0, 0, 0]], True]]},
    ),
    "entry with negative uid": (m.List, {"listings": [[0, [[b"n", 1, 0, -1, 0, 0, 0]], True]]}),
    "entry with negative size": (m.List, {"listings": [[0, [[b"n", 1, 0, 0, 0, -1, 0]], True]]}),
    "entry of 2**63 bytes": (m.List, {"listings": [[0, [[b"n", 1, 0, 0, 0, 2**63, 0]], True]]}),
    "entry cut short": (m.List, {"listings": [[0, [GOOD_ENTRY[:-1]], True]]}),
    "link text too long": (m.List, {"listings": [[0, [[*GOOD_ENTRY, b"x" * 4097]], True]]}),
    "negative directory": (m.List, {"listings": [[-1, [], True]]}),
    "digest too short": (m.FileEnd, {"number": 1, "size": 0, "mtime_ns": 0, "digest": b"x" * 15}),
    "digest too long": (m.FileEnd, {"number": 1, "size": 0, "mtime_ns": 0, "digest": b"x" * 33}),
    "no files": (m.Files, {"files": []}),
    "ops that are no numbers": (m.Piece, {"number": 1, "ops": ["-1", 3]}),
    "fractional op": (m.Piece, {"number": 1, "ops": [0.5, 3]}),
    "nothing unsent": (m.Unsent, {"numbers": [], "problems": []}),
    "credit 0": (m.Credit, {"entries": 0}),
    "credit over its bound": (m.Credit, {"entries": (1 << 20) + 1}),
    "negative want": (m.Wants, {"whole": [-1], "deltas": [], "decided": 0}),
    "renamed too long": (m.Start, {"credit": 1, "name": b"x" * 256}),
    "negative seed": (m.WantDelta, {"number": 1, "basis_size": 0, "block_size": 1, "seed": -1}),
    "unknown kernel": (m.Committed, {"report": {"kernel": "quantum"}}),
    "unknown change": (m.Applied, {"items": [["?", b"x"]]}),
}


@pytest.mark.parametrize(("cls", "value"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_a_protocol_error_with_the_messages_name(
    cls: type[Message], value: object
) -> None:
    with pytest.raises(ProtocolError, match=f"a {cls.__name__} message is malformed") as caught:
        decode(with_body(cls, value))
    assert caught.value.exit_code == 12


RAW = {
    "empty": b"",
    "never used byte": b"\xc1",
    "trailing bytes": msgspec.msgpack.encode({}) + b"\0",
    "cut map": b"\x82\xa1a",
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "text of 4 billion": b"\x81\xdb\xff\xff\xff\xff",
    "broken utf-8 key": b"\x81\xa1\xff\xc0",
    "broken utf-8 text": b"\x81\xa3why\xa1\xff",
    "nested too deep": b"\x81\xa1x" + b"\x91" * 60_000 + b"\xc0",
}


@pytest.mark.parametrize("body", RAW.values(), ids=RAW)
@pytest.mark.parametrize("cls", [m.Fault, m.List, m.Committed], ids=lambda cls: cls.__name__)
def test_bytes_that_are_no_message_are_a_protocol_error(cls: type[Message], body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(Frame(cls.type, 0, memoryview(body), memoryview(b"")))


@EVERY
def test_a_body_cut_anywhere_is_a_protocol_error(message: Message, tail: bytes) -> None:
    del tail
    body = msgspec.msgpack.encode(message)
    for end in range(len(body)):
        with pytest.raises(ProtocolError):
            decode(Frame(message.type, 0, memoryview(body)[:end], memoryview(b"")))


def test_a_body_over_its_limit_is_a_defect_of_this_side() -> None:
    entry = Entry(b"n" * 255, Kind.FILE, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match=r"List of .* bytes is too long"):
        encode(m.List([m.Listing(0, [entry] * 1000, final=True)]))


def test_a_tail_over_its_limit_is_a_defect_of_this_side() -> None:
    encode(m.Signature(1), [bytes(TAIL_MAX)])
    with pytest.raises(ValueError, match="Signature"):
        encode(m.Signature(1), [bytes(TAIL_MAX), b"x"])
    with pytest.raises(ValueError, match="Ping"):
        encode(m.Ping(), [b"x"])


# --- compressed tails ---------------------------------------------------------------------------


def piece(tail: bytes, flags: int = COMPRESSED) -> Frame:
    return Frame(m.Piece.type, flags, memoryview(b""), memoryview(tail))


def announced(length: int, packed: bytes) -> Frame:
    return piece(struct.pack(">I", length) + packed)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


TEXT = b"the same words again and again, " * 1000


@pytest.mark.parametrize("level", [1, 3, 19])
def test_a_compressed_tail_arrives_as_it_was_sent(level: int) -> None:
    packed, flags = compress([TEXT, b"end"], level)
    assert flags == COMPRESSED
    data = b"".join(packed)
    assert len(data) < len(TEXT) / 10
    assert bytes(plain_tail(piece(data))) == TEXT + b"end"


def test_the_largest_tail_can_be_compressed() -> None:
    packed, flags = compress([bytes(TAIL_MAX)], 1)
    assert plain_tail(piece(b"".join(packed), flags)) == bytes(TAIL_MAX)


@pytest.mark.parametrize("tail", [[], [b"short"], [b"0" * 400, b"1" * 100]])
def test_a_short_tail_stays_plain(tail: list[bytes]) -> None:
    assert compress(tail, 3) == (tail, 0)


def test_a_tail_of_noise_stays_plain() -> None:
    noise = hashlib.shake_128(b"noise").digest(5000)
    assert compress([noise[:99], noise[99:]], 3) == ([noise], 0)


def test_a_bomb_is_refused_by_its_announced_length() -> None:
    with pytest.raises(ProtocolError, match="over its limit"):
        plain_tail(announced(TAIL_MAX + 1, zstd(bytes(64 * TAIL_MAX))))


def test_a_bomb_that_lies_about_its_length_is_refused_after_one_byte_too_many() -> None:
    bomb = zstd(bytes(64 * TAIL_MAX))
    assert len(bomb) < 10_000
    for length in (0, 1, 1000, TAIL_MAX):
        with pytest.raises(ProtocolError, match="announced length"):
            plain_tail(announced(length, bomb))


def test_a_window_larger_than_any_tail_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=0)
    huge = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(ProtocolError, match="damaged"):
        plain_tail(announced(1000, huge.compress(bytes(1000)) + huge.flush()))


def test_a_compressed_tail_of_nothing_is_nothing() -> None:
    assert bytes(plain_tail(announced(0, zstd(b"")))) == b""


@pytest.mark.parametrize(
    "frame",
    [
        piece(b""),
        piece(b"\0\0\0"),
        announced(5, b""),
        announced(5, b"no zstd at all"),
        announced(len(TEXT), zstd(TEXT)[:-3]),
        announced(len(TEXT), zstd(TEXT)[:5]),
        announced(len(TEXT) - 1, zstd(TEXT)),
        announced(len(TEXT) + 1, zstd(TEXT)),
        announced(0, zstd(TEXT)),
        announced(len(TEXT), b"\0" + zstd(TEXT)),
    ],
    ids=["no length", "half a length", "no data", "no zstd", "cut", "cut early", "longer",
         "shorter", "said empty", "shifted"],
)  # fmt: skip
def test_a_damaged_compressed_tail_is_a_protocol_error(frame: Frame) -> None:
    with pytest.raises(ProtocolError):
        plain_tail(frame)


def test_every_flipped_byte_of_a_compressed_tail_gives_bytes_or_a_protocol_error() -> None:
    whole = struct.pack(">I", 3200) + zstd(TEXT[:3200])
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        try:
            tail = plain_tail(piece(bytes(damaged)))
        except ProtocolError:
            continue
        assert len(tail) == 3200
