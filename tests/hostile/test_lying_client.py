"""A client that lies, against a real server: M01 to M13, M20, M25 to M28, M56, M57 and M59.

Each attack is over the wire, against a server process. It ends the attacker's session with exit
code 12 or a cut, writes one line of the log, and leaves memory, other clients and the tree
outside the module as they were: ``Victim.attacked`` checks that after each.
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest
import zstandard
from xxhash import xxh3_128_digest

from netsync.model import Entry, Kind, Options, Problem, Rule
from netsync.wire import messages as m
from netsync.wire.frames import BULK_MAX, COMPRESSED, CONTROL_MAX, TAIL_MAX
from netsync.wire.messages import Message
from tests.hostile.conftest import MODULE, OUTSIDE_WORDS, Victim
from tests.support.liars import HELLO, Liar, frame, resident_peak
from tests.support.trees import make_tree, read_tree

MIB = 1 << 20
OFFER = m.Offer(False)


def nested(depth: int) -> bytes:
    """Return arrays inside each other."""
    return b"\x91" * depth + b"\xc0"


def hello_with(value: bytes) -> bytes:
    """Return a Hello whose features are ``value``, already packed."""
    fields = msgspec.msgpack.encode({"protocol": 1, "software": "liar"})
    return b"\x83" + fields[1:] + b"\xa8features" + value


def bomb(plain: int, announced: int) -> bytes:
    """Return a compressed tail that unpacks to ``plain`` zeros and announces something else."""
    packer = zstandard.ZstdCompressor(level=19)
    return struct.pack(">I", announced) + packer.compress(bytes(plain))


HELLO_BODY = msgspec.msgpack.encode(HELLO)
FRAMES: dict[str, bytes] = {
    "M01 a body of 2**31 bytes": frame(8, lengths=(2**31, 0)),
    "M01 a body of 4 GiB": frame(8, lengths=(2**32 - 1, 0)),
    "M01 a tail of 4 GiB": frame(35, lengths=(10, 2**32 - 1)),
    "M01 a body one byte too long": frame(8, lengths=(CONTROL_MAX + 1, 0)),
    "M01 a bulk body one byte too long": frame(12, lengths=(BULK_MAX + 1, 0)),
    "M01 a tail one byte too long": frame(36, lengths=(1, TAIL_MAX + 1)),
    "M01 a tail where there is none": frame(8, HELLO_BODY, b"x"),
    "M01 an empty body": frame(8),
    "M04 an array of 4 G elements": frame(8, hello_with(b"\xdd\xff\xff\xff\xff")),
    "M04 a map of 4 G elements": frame(8, b"\xdf\xff\xff\xff\xff"),
    "M04 a string of 4 GiB": frame(8, hello_with(b"\xdb\xff\xff\xff\xff")),
    "M04 bytes of 4 GiB": frame(8, hello_with(b"\xc6\xff\xff\xff\xff")),
    "M05 arrays 500 deep": frame(8, hello_with(nested(500))),
    "M05 arrays 60,000 deep": frame(8, hello_with(nested(60_000))),
    "M05 arrays 1,000 deep in an unknown field": frame(
        8, b"\x84" + HELLO_BODY[1:] + b"\xa7unknown" + nested(1000)
    ),
    "M05 maps 1,000 deep in an unknown field": frame(
        8, b"\x84" + HELLO_BODY[1:] + b"\xa7unknown" + b"\x81\xa1a" * 1000 + b"\xc0"
    ),
    "M06 64 KiB of empty arrays": frame(
        8, hello_with(b"\xdc" + struct.pack(">H", 60_000) + b"\x90" * 60_000)
    ),
    "M09 a byte that is no msgpack": frame(8, b"\xc1"),
    "M09 bytes behind the message": frame(8, HELLO_BODY + b"\xc0"),
    "M09 text that is not UTF-8": frame(8, hello_with(b"\x91\xa2\xff\xfe")),
    "M09 half a message": frame(8, HELLO_BODY[:-5]),
    "M08 an extension type": frame(8, hello_with(b"\xd4\x01\x00")),
    "M08 a timestamp": frame(8, hello_with(b"\xd6\xff\x00\x00\x00\x00")),
    "M11 an unknown type": frame(200, HELLO_BODY),
    "M11 type 0": frame(0, HELLO_BODY),
    "M11 a flag nobody knows": frame(8, HELLO_BODY, flags=2),
    "M11 all flags": frame(8, HELLO_BODY, flags=255),
    "M11 a field that must be zero": frame(8, HELLO_BODY, zero=1),
    "M12 a compressed tail where there is none": frame(8, HELLO_BODY, b"xx", flags=COMPRESSED),
    "M12 the flag without a tail": frame(8, HELLO_BODY, flags=COMPRESSED),
    "not netsync": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
def test_m01_to_m12_a_broken_frame_ends_the_session(victim: Victim, data: bytes) -> None:
    """In place of the Hello, before a right is known: rejected before anything is allocated."""
    before = resident_peak(victim.server.process.pid, reset=True)
    with victim.attacked() as liar:
        liar.raw(data)
        fault = liar.end()
    assert fault is None or fault.code == 12, fault
    assert resident_peak(victim.server.process.pid) - before < 5 * MIB


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
def test_m01_to_m12_a_broken_frame_in_a_transfer_ends_it(victim: Victim, data: bytes) -> None:
    """The same where file data is awaited, from a client that may push."""
    before = resident_peak(victim.server.process.pid, reset=True)
    with victim.attacked() as liar:
        begin(liar)
        liar.raw(data)
        fault = liar.end()
    assert fault is None or fault.code == 12, fault
    assert resident_peak(victim.server.process.pid) - before < 8 * MIB
    assert read_tree(victim.root / "push") == {}


def begin(liar: Liar, path: bytes = b"push", options: Options | None = None) -> None:
    """Open a push and be told to start."""
    liar.open(m.Direction.PUSH, MODULE, path, options)
    liar.say(OFFER)
    liar.hear(m.Start)


def file(name: bytes, size: int = 3) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 0, 0, size, 5)


def listing(*entries: Entry, final: bool = True) -> m.List:
    return m.List([m.Listing(0, list(entries), final)])


@pytest.mark.parametrize("cut", [0, 1, 11, 12, 20])
def test_m02_a_frame_that_is_not_finished_is_a_cut(victim: Victim, cut: int) -> None:
    """A frame shorter than it said, then the end of the connection."""
    with victim.attacked() as liar:
        liar.greet()
        liar.raw(frame(11, msgspec.msgpack.encode(m.Browse(MODULE)))[:cut])


BOMBS: dict[str, bytes] = {
    "M12 2 GiB announced": bomb(1000, 2**31),
    "M12 one byte over the limit announced": bomb(1000, TAIL_MAX + 1),
    "M12 a GiB that announces a kilobyte": bomb(1 << 26, 1024),
    "M12 a kilobyte that announces 2 MiB": bomb(1024, TAIL_MAX),
    "M12 the announced length alone": struct.pack(">I", 1024),
    "M12 three bytes": b"abc",
    "M12 noise": struct.pack(">I", 1024) + bytes(range(256)),
    "M12 a window of 128 MiB": struct.pack(">I", 64)
    + bytes.fromhex("28b52ffd00885100001061010000"),
}


@pytest.mark.parametrize("tail", BOMBS.values(), ids=BOMBS)
def test_m12_a_decompression_bomb_costs_its_limit_and_no_more(victim: Victim, tail: bytes) -> None:
    with victim.attacked() as liar:
        begin(liar)
        before = resident_peak(victim.server.process.pid, reset=True)
        piece = msgspec.msgpack.encode(m.Piece(1, [-1, 1024]))
        liar.raw(frame(36, piece, tail, flags=COMPRESSED))
        fault = liar.end()
        grown = resident_peak(victim.server.process.pid) - before
    assert fault is not None
    assert fault.code == 12, fault
    assert "tail" in fault.why, "it is refused before anybody looks what is in it"
    assert grown < 8 * MIB, f"{grown >> 20} MiB"


def test_m07_a_field_that_comes_twice_counts_once(victim: Victim) -> None:
    """The last one wins, in the decoder and nowhere else, so no check can see the other."""
    with victim.attacked() as liar:
        twice = b"\x84" + HELLO_BODY[1:] + b"\xa8protocol\x63"
        liar.raw(frame(8, twice.replace(b"\x84", bytes([HELLO_BODY[0] + 1]), 1)))
        fault = liar.end()
    assert fault is not None
    assert "99" in fault.why


def test_m10_a_flood_of_tiny_frames_disturbs_nobody(victim: Victim) -> None:
    """200,000 pings in one go: no recursion, no memory, and others are answered meanwhile."""
    flood = frame(1, b"\x80") * 10_000
    before = resident_peak(victim.server.process.pid, reset=True)
    with victim.attacked() as liar:
        liar.greet()
        for _ in range(20):
            liar.raw(flood)
            victim.others_are_served()
        liar.say(m.Browse(MODULE, b"there"))
        liar.hear(m.Browsed)
        liar.say(m.Selection())
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12
    assert resident_peak(victim.server.process.pid) - before < 5 * MIB


ENTRY = file(b"a")
OUT_OF_ORDER: dict[str, Message] = {
    type(message).__name__: message
    for message in (
        HELLO,
        m.Welcome(1, "x", [], "y"),
        m.Browsed(final=True),
        m.Opened(),
        OFFER,
        listing(ENTRY),
        m.ListEnd(True),
        m.End(),
        m.Start(1),
        m.Credit(1),
        m.Wants([1], [], 0),
        m.WantsEnd(),
        m.Applied([1]),
        m.Relist([0]),
        m.Unsent([1], [Problem(b"f", "read", "why")]),
        m.FileEnd(1, 1, 1, bytes(16)),
        m.Selection(),
    )
}


@pytest.mark.parametrize("message", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_m11_a_message_that_may_not_come_now_ends_the_session(
    victim: Victim, message: Message
) -> None:
    with victim.attacked() as liar:
        liar.greet()
        liar.say(message)
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12, fault
    # A selection may come behind a request that told of it, and that is the session's to know.
    words = "options of no request" if isinstance(message, m.Selection) else "may not come now"
    assert words in fault.why


@pytest.mark.parametrize("kind", [m.Browse, m.Open, m.Bye, m.Selection, m.Ping])
def test_m11_nothing_comes_before_the_hello(victim: Victim, kind: type[Message]) -> None:
    with victim.attacked() as liar:
        if kind is m.Open:
            liar.say(m.Open(m.Direction.PULL, [m.Place(MODULE, b"")], Options()))
        else:
            liar.say(kind())
        if kind is m.Ping:
            liar.say(m.Bye())
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12, fault


@pytest.mark.parametrize("timeout", [0, -1, 86_401, 2**31, 2**63])
def test_m13_a_timeout_that_cannot_be_is_refused(victim: Victim, timeout: int) -> None:
    with victim.attacked() as liar:
        liar.lie(HELLO, ("timeout",), timeout)
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12, fault


@pytest.mark.parametrize("protocol", [0, 2, 2**32 - 1])
def test_m13_another_protocol_is_refused_with_words(victim: Victim, protocol: int) -> None:
    with victim.attacked() as liar:
        liar.say(msgspec.structs.replace(HELLO, protocol=protocol))
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12, fault
    assert f"protocol {protocol}" in fault.why


WORK: dict[str, Options] = {
    "a block of 3 bytes": Options(block_size=3),
    "a block of 2 GiB": Options(block_size=2**31),
    "a backup directory outside": Options(delete=True, backup_dir=b"../outside"),
    "an absolute backup directory": Options(delete=True, backup_dir=b"/tmp"),
    "a backup directory of netsync's own": Options(delete=True, backup_dir=b".netsync"),
    "a pattern that never ends": Options(rules=(Rule(True, b"**/a/" * 400),)),
    "a pattern that is none": Options(rules=(Rule(True, b"[z-a]"),)),
}


@pytest.mark.parametrize("options", WORK.values(), ids=WORK)
def test_m13_options_that_cannot_be_are_refused(victim: Victim, options: Options) -> None:
    with victim.attacked() as liar:
        liar.greet()
        liar.say(m.Open(m.Direction.PUSH, [m.Place(MODULE, b"push")], options))
        liar.say(OFFER)
        fault = liar.end()
    assert fault is not None


CLIMBING: dict[str, bytes] = {
    "M27 ..": b"..",
    "M27 ../outside": b"../outside",
    "M27 a/../../outside": b"there/../../outside",
    "M27 an absolute path": b"/../../../etc",
    "M30 through a link": b"way-out/sub",
    "M38 netsync's own": b".netsync",
    "M38 below netsync's own": b".netsync/x",
    "M27 a name with a NUL": b"a\0b",
    "M27 a name of 256 bytes": b"x" * 256,
    "M27 10,000 components": b"a/" * 10_000,
    "M27 60,000 bytes": b"x/" * 30_000,
}


@pytest.mark.parametrize("direction", list(m.Direction))
@pytest.mark.parametrize("path", CLIMBING.values(), ids=CLIMBING)
def test_m27_a_place_that_leads_out_is_refused(
    victim: Victim, path: bytes, direction: m.Direction
) -> None:
    with victim.attacked() as liar:
        liar.greet()
        liar.say(m.Open(direction, [m.Place(MODULE, path)], Options()))
        if direction is m.Direction.PUSH:
            liar.say(OFFER)
        fault = liar.end()
    assert fault is not None
    assert fault.code in (5, 11, 12), fault
    assert not (victim.root / "a").exists()


@pytest.mark.parametrize("path", CLIMBING.values(), ids=CLIMBING)
def test_m45_nothing_outside_is_listed(victim: Victim, path: bytes) -> None:
    with victim.attacked() as liar:
        liar.greet()
        liar.say(m.Browse(MODULE, path))
        fault = liar.end()
    assert fault is not None
    assert fault.code in (5, 11, 12), fault


@pytest.mark.parametrize("path", [b"../outside/secret", b"way-out/secret", b"/etc/passwd", b"a\0"])
def test_m45_a_path_to_restrict_the_listing_to_leads_nowhere_out(
    victim: Victim, path: bytes
) -> None:
    """What ``--files-from`` names is walked like anything else: it is listed as a problem."""
    with victim.attacked() as liar:
        liar.open(m.Direction.PULL, MODULE, b"/", Options(paths=(path,)))
        liar.hear(m.Offer)
        liar.say(m.Start(16384))
        entries, problems = [], 0
        while isinstance(heard := liar.hear(m.List, m.ListEnd), m.List):
            entries += [entry.name for each in heard.listings for entry in each.entries]
            problems += len(heard.problems)
    assert entries == []
    assert problems == 1


@pytest.mark.parametrize("lie", [99, 0, -1, 2**63 - 1, 2**63, 2**64 - 1, True, None, b"a"])
def test_m45_a_want_for_what_was_not_offered_is_refused(victim: Victim, lie: object) -> None:
    with victim.attacked() as liar:
        liar.open(m.Direction.PULL, MODULE, b"there/")
        liar.hear(m.Offer)
        liar.say(m.Start(16384))
        liar.hear(m.ListEnd)
        liar.lie(m.Wants([7], [], 0), ("whole", 0), lie)
        fault = liar.end()
    assert fault is not None
    assert fault.code == 12, fault


def test_m20_m54_a_module_that_is_not_there_is_refused(victim: Victim) -> None:
    with victim.attacked() as liar:
        liar.greet()
        liar.say(m.Open(m.Direction.PULL, [m.Place("\x1b]0;x\x07\n../etc", b"")], Options()))
        fault = liar.end()
    assert fault is not None
    assert fault.code == 5, fault


CONTROL = "\x1b]0;owned\x07\r\n2026-01-01 netsync: all is well\u009b\u202e"


def test_m56_the_log_holds_no_control_characters_of_a_peer(victim: Victim) -> None:
    """In its software's name, a module's, a path's, and in the words of its Fault."""
    words = CONTROL.encode()
    greetings: tuple[Message, ...] = (
        msgspec.structs.replace(HELLO, protocol=7, software=CONTROL),
        m.Fault(12, CONTROL, CONTROL, CONTROL, CONTROL),
    )
    for message in greetings:
        with victim.attacked() as liar:
            liar.say(message)
            liar.end()
    rules = (Rule(True, b"[" + words),)
    requests: tuple[Message, ...] = (
        m.Browse(CONTROL, words),
        m.Browse(MODULE, words),
        m.Open(m.Direction.PULL, [m.Place(MODULE, words)], Options()),
        m.Open(m.Direction.PULL, [m.Place(MODULE, b"")], Options(rules=rules)),
    )
    for message in requests:
        with victim.attacked() as liar:
            liar.greet()
            liar.say(message)
            liar.say(m.Start(1))
            liar.say(m.Wants([99], [], 0))
            liar.end()


def test_m57_a_fault_tells_no_local_path(victim: Victim) -> None:
    """Neither where the module lies nor where the server keeps its keys."""
    said = ""
    for place in (b"gone", b"there/a/b", b"way-out", b"x" * 300, b"there/a"):
        for direction in m.Direction:
            with victim.attacked(lines=None) as liar:
                liar.greet()
                liar.say(m.Open(direction, [m.Place(MODULE, place)], Options()))
                if direction is m.Direction.PUSH:
                    liar.say(OFFER)
                    liar.say(listing(file(b"..")))
                else:
                    liar.say(m.Start(1))
                    liar.say(m.Wants([99], [], 0))
                said += str(liar.end())
    assert str(victim.root) not in said
    assert str(victim.root.parent) not in said
    assert OUTSIDE_WORDS.decode() not in said


def test_m59_a_client_that_reads_nothing_costs_a_bounded_amount(
    victim: Victim, tmp_path: Path
) -> None:
    """A GiB is asked for and not taken: the server holds some frames, and serves the others."""
    large = make_tree(victim.root / "large", {})
    with (large / "holes").open("wb") as out:
        out.truncate(1 << 30)
    before = resident_peak(victim.server.process.pid, reset=True)
    with victim.attacked() as liar:
        liar.open(m.Direction.PULL, MODULE, b"large/")
        liar.hear(m.Offer)
        liar.say(m.Start(16384))
        liar.hear(m.ListEnd)
        liar.say(m.Wants([1], [], 0))
        for _ in range(50):
            victim.others_are_served()
        grown = resident_peak(victim.server.process.pid) - before
    assert grown < 32 * MIB, f"{grown >> 20} MiB"


def test_m42_m47_a_file_that_is_not_what_was_said_is_not_published(victim: Victim) -> None:
    """A wrong digest three times over: asked for again, given up, the old content stays."""
    make_tree(victim.root / "digest", {"old": b"old"})
    with victim.attacked() as liar:
        begin(liar, b"digest")
        liar.say(listing(file(b"old", 6)))
        for _ in range(3):
            liar.hear(m.Wants)
            liar.say(m.Files([m.FileHead(1, 6, 5, xxh3_128_digest(b"other"))]), b"forged")
        liar.say(m.ListEnd(True))
        liar.hear(m.WantsEnd)
        liar.say(m.End())
        committed = liar.hear(m.Committed)
        liar.say(m.Bye())
        liar.end()
    assert isinstance(committed, m.Committed)
    assert committed.report.files.failed == 1
    assert read_tree(victim.root / "digest") == {"old": b"old"}
