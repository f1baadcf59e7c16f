"""What is fuzzed: functions of arbitrary bytes that return, or raise what they promise.

Each target takes any bytes and fails (an ``AssertionError``, or any error but the promised one)
if the code under it does. ``scripts/fuzz`` drives them with a coverage-guided fuzzer; the corpus
in ``tests/corpus`` is what it found worth keeping, and is replayed by an ordinary test.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Final, cast

from netsync.delta import pure
from netsync.delta.kernel import Kernel, load
from netsync.delta.levels import Layout, check_layout, fine_entries
from netsync.delta.match import Matcher
from netsync.delta.ops import Op, pack, patch, unpack
from netsync.delta.signature import ENTRY_SIZE, Signature, entries_size, sign
from netsync.errors import ProtocolError, UsageError
from netsync.model import Rule
from netsync.names import is_component, is_inside, one_line, shown
from netsync.plan import acl, stored
from netsync.plan.filters import Filter
from netsync.plan.restriction import Restriction
from netsync.plan.xattrs import check, localised
from netsync.wire.codec import LIMITS, MESSAGES, compress, decode, encode, plain_tail
from netsync.wire.frames import COMPRESSED, FrameDecoder
from netsync.wire.order import Order, State

BLOCK: Final = 512
_KERNELS: Final = (load(), cast("Kernel", pure))


class Bytes:
    """A fuzzer's input, taken apart."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self) -> int:
        """Take one byte, 0 at the end."""
        first, self._data = self._data[:1], self._data[1:]
        return first[0] if first else 0

    def number(self) -> int:
        """Take a signed number of eight bytes."""
        taken = self.take(8)
        return int(struct.unpack("<q", taken.ljust(8, b"\0"))[0])

    def take(self, count: int) -> bytes:
        """Take up to ``count`` bytes."""
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def rest(self) -> bytes:
        """Take what is left."""
        return self.take(len(self._data))

    def __bool__(self) -> bool:
        return bool(self._data)


def conversation(data: bytes) -> None:
    """Frames, messages, tails and their order: messages, or one ``ProtocolError``."""
    given = Bytes(data)
    order = Order(list(State)[given.byte() % len(State)])
    step = 1 + given.byte()
    decoder = FrameDecoder(LIMITS)
    try:
        while given:
            for frame in decoder.feed(given.take(step)):
                message = decode(frame)
                order.check(message)
                assert type(message) is MESSAGES[frame.type]
                tail = plain_tail(frame)
                assert len(tail) <= LIMITS[frame.type].tail
                again = b"".join(encode(message, [tail] if tail else []))
                (same,) = FrameDecoder(LIMITS).feed(again)
                assert decode(same) == message, "a message means the same after another trip"
    except ProtocolError:
        return


def tail(data: bytes) -> None:
    """Compressed tails: plain bytes within the limit, or one ``ProtocolError``."""
    given = Bytes(data)
    kind = sorted(kind for kind, limits in LIMITS.items() if limits.tail)[given.byte() % 4]
    packed = given.rest()
    body = b"\x80"
    header = struct.pack(">BBHII", kind, COMPRESSED, 0, len(body), len(packed))
    try:
        for frame in FrameDecoder(LIMITS).feed(header + body + packed):
            assert len(plain_tail(frame)) <= LIMITS[kind].tail
    except ProtocolError:
        pass
    parts, flags = compress([packed], 1)
    assert flags or b"".join(map(bytes, parts)) == packed


def delta(data: bytes) -> None:
    """``patch`` undoes ``match``, with either kernel, for any basis, new file and chunks."""
    given = Bytes(data)
    forward, step = given.byte() & 1, 1 + given.byte() * 7
    repeat = 1 + given.byte() % 16
    basis = given.take(given.byte() * 8) * repeat
    new = given.rest()
    new = basis[: len(new) * 3] + new + basis[len(new) :]
    results = [_matched(basis, new, step, kernel, bool(forward)) for kernel in _KERNELS]
    assert results[0] == results[1], "both kernels say the same"
    for numbers, literals in results:
        sizes = unpack(numbers, len(literals), basis_size=len(basis), room=len(new))
        assert sum(length for _, length in sizes) == len(new)


def _matched(
    basis: bytes, new: bytes, step: int, kernel: Kernel, forward: bool
) -> tuple[list[int], bytes]:
    signature = Signature(len(basis), BLOCK, 7, sign(basis, BLOCK, 7))
    table = kernel.WeakTable(signature.entries[: signature.full_blocks * ENTRY_SIZE], ENTRY_SIZE)
    matcher = Matcher(signature, forward_only=forward, table=table)
    ops: list[Op] = []
    for start in range(0, len(new), step):
        ops += matcher.feed(new[start : start + step])
    ops += matcher.finish()
    assert patch(basis, ops) == new
    numbers, buffers = pack(ops)
    return numbers, b"".join(map(bytes, buffers))


def signature(data: bytes) -> None:
    """A forged signature, and forged operations: words, or operations inside the basis."""
    given = Bytes(data)
    basis_size, block = given.number(), given.number()
    fine, first, count = given.number(), given.number(), given.number()
    operations = [given.number() for _ in range(given.byte() % 8)]
    with contextlib.suppress(ValueError):
        unpack(operations, given.byte(), basis_size=max(0, basis_size), room=1 << 40)
    try:
        check_layout(basis_size, Layout(block, fine))
        fine_entries(basis_size, Layout(block, fine), first, count)
    except ValueError:
        pass
    entries = given.take(ENTRY_SIZE * 16)
    basis_size = len(entries) // ENTRY_SIZE * BLOCK - basis_size % BLOCK
    try:
        assert entries_size(basis_size, BLOCK) >= 0
        forged = Signature(basis_size, BLOCK, 7, entries)
    except ValueError:
        return
    matcher = Matcher(forged)
    new = given.rest()
    numbers, buffers = pack([*matcher.feed(new), *matcher.finish()])
    literal = sum(map(len, buffers))
    for _, length in unpack(numbers, literal, basis_size=basis_size, room=len(new)):
        assert length > 0


def values(data: bytes) -> None:
    """Patterns, paths, names, ACLs, attributes and records of a peer."""
    given = Bytes(data)
    kind, first, rest = given.byte() % 5, given.take(given.byte()), given.rest()
    if kind == 0:
        try:
            rules = Filter([Rule(True, first, 1), Rule(False, first + b"/x", 1)])
        except UsageError:
            return
        rules.excludes(rest[:300] or b"x", directory=bool(len(rest) & 1))
    elif kind == 1:
        restriction = Restriction([first, *rest.split(b"\0")])
        for name in restriction.names_in(first):
            assert is_component(name)
        assert all(is_inside(path.rstrip(b"/")) for path in restriction.named_below(b"") if path)
    elif kind == 2:
        _acl(rest)
    elif kind == 3:
        items = tuple((name, first) for name in rest.split(b"\0"))
        try:
            check(items)
            localised(items, {}, {})
        except ValueError:
            return
        assert all(b"\0" not in name for name, _ in items)
    else:
        with contextlib.suppress(ValueError):
            assert stored.parse(stored.pack(stored.parse(rest))) == stored.parse(rest)
        assert shown(rest).isprintable()
        assert one_line(rest.decode("utf-8", "surrogateescape"), 99).isprintable()


def _acl(value: bytes) -> None:
    try:
        parsed = acl.parse(value)
    except ValueError:
        return
    assert acl.parse(acl.pack(acl.canonical(parsed))) == acl.canonical(parsed)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "conversation": conversation,
    "tail": tail,
    "delta": delta,
    "signature": signature,
    "values": values,
}


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield inputs to begin with: a target's name and bytes for it."""
    from tests.support.messages import SAMPLES, frame_bytes  # noqa: PLC0415 - only to begin

    states = list(State)
    for index, (message, data) in enumerate(SAMPLES.values()):
        yield "conversation", bytes([index % len(states), 63]) + frame_bytes(message, data)
    yield "tail", b"\0" + b"".join(map(bytes, compress([bytes(2000)], 3)[0]))
    yield "delta", b"\1\4\3\x20" + bytes(range(256)) + b"new" + bytes(99)
    yield "signature", struct.pack("<5q", 4096, 512, 512, 0, 2) + b"\2" + bytes(200)
    for kind, data in enumerate((b"*.o\0a/b.o", b"a/b\0c/", b"\2\0\0\0", b"user.a", b"[1]")):
        yield "values", bytes([kind, 3]) + data
