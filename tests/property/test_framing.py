"""Any list of messages, any chunking, any damage: the same messages or a ProtocolError."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.errors import ProtocolError
from netsync.wire import messages as m
from netsync.wire.codec import LIMITS, MESSAGES, compress, decode, encode, plain_tail
from netsync.wire.frames import HEADER, FrameDecoder
from netsync.wire.messages import Message
from netsync.wire.order import Order, State
from tests.support.messages import SAMPLES, stream_of

unhurried = settings(deadline=None, derandomize=True)
"""The same examples in every run, and no clock: a busy machine is no failure."""

Sent = tuple[Message, bytes]


def with_tail(kind: st.SearchStrategy[Message]) -> st.SearchStrategy[Sent]:
    return st.tuples(kind, st.binary(max_size=3000) | st.just(bytes(70_000)))


numbers = st.integers(0, 2**63 - 1)
drawn: st.SearchStrategy[Sent] = st.one_of(
    st.sampled_from(list(SAMPLES.values())),
    with_tail(st.builds(m.Signature, numbers)),
    with_tail(st.builds(m.Piece, numbers, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40))),
    st.tuples(st.builds(m.Start, numbers, st.binary(max_size=255)), st.just(b"")),
    st.tuples(
        st.builds(m.Fault, st.integers(1, 255), st.text(max_size=99), hint=st.text(max_size=9)),
        st.just(b""),
    ),
)


def take(decoder: FrameDecoder, data: bytes) -> list[Sent]:
    """Feed ``data`` and decode all that it completes."""
    return [(decode(frame), bytes(plain_tail(frame))) for frame in decoder.feed(data)]


@unhurried
@given(st.lists(drawn, max_size=8), st.lists(st.integers(1, 5000), max_size=40))
def test_any_chunking_gives_the_same_messages(sent: list[Sent], sizes: list[int]) -> None:
    data = stream_of(sent)
    decoder = FrameDecoder(LIMITS)
    arrived: list[Sent] = []
    for size in sizes:
        arrived += take(decoder, data[:size])
        data = data[size:]
    arrived += take(decoder, data)
    assert arrived == sent
    assert decoder.next_frame() is None


@unhurried
@given(st.lists(st.sampled_from(list(SAMPLES.values())), min_size=1, max_size=4))
def test_one_byte_at_a_time_gives_the_same_messages(sent: list[Sent]) -> None:
    decoder = FrameDecoder(LIMITS)
    arrived: list[Sent] = []
    for byte in stream_of(sent):
        arrived += take(decoder, bytes([byte]))
    assert arrived == sent


@unhurried
@given(st.lists(st.binary(max_size=400), max_size=3).map(b"".join))
def test_random_bytes_give_messages_or_a_protocol_error(data: bytes) -> None:
    try:
        arrived = take(FrameDecoder(LIMITS), data)
    except ProtocolError:
        return
    assert all(isinstance(message, Message) for message, _ in arrived)


@unhurried
@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=300), st.integers(0, 1), st.data())
def test_any_body_under_a_valid_header_gives_a_message_or_a_protocol_error(
    kind: int, body: bytes, flags: int, data: st.DataObject
) -> None:
    tail = data.draw(st.binary(max_size=64)) if LIMITS[kind].tail else b""
    header = HEADER.pack(kind, flags, 0, len(body), len(tail))
    try:
        ((message, _),) = take(FrameDecoder(LIMITS), header + body + tail)
    except ProtocolError:
        return
    assert type(message) is MESSAGES[kind]


@unhurried
@given(
    st.lists(st.sampled_from(list(SAMPLES.values())), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4),
    st.sampled_from(list(State)),
)
def test_damaged_frames_give_valid_messages_in_order_or_a_protocol_error(
    sent: list[Sent], damage: list[tuple[int, int]], state: State
) -> None:
    data = bytearray(stream_of(sent))
    for position, mask in damage:
        data[position % len(data)] ^= mask
    order = Order(state)
    try:
        for message, _ in take(FrameDecoder(LIMITS), bytes(data)):
            assert type(message) in MESSAGES.values()
            order.check(message)
    except ProtocolError as error:
        assert error.exit_code == 12  # noqa: PT017 - either outcome is right


@unhurried
@given(st.binary(max_size=200).map(lambda part: part * 30), st.integers(1, 5))
def test_compression_changes_nothing_but_the_length(data: bytes, level: int) -> None:
    tail, flags = compress([data], level)
    frame = b"".join(encode(m.Signature(1), tail, flags=flags))
    assert take(FrameDecoder(LIMITS), frame) == [(m.Signature(1), data)]
    assert sum(map(len, tail)) <= len(data)
