"""Any one field of any message, overridden: M08, M13, M29, M37, M40 to M42 and all like them.

A session that is right in everything but one field: each field of each message in its turn,
containers included, with each of a list of values that no honest encoder writes. Whatever the
value means, the session ends within its time, well or with one error, the log says so in one line,
there is no traceback, the server serves on, and nothing outside is touched.

The default run takes a few values for each field; ``slow`` takes all.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio
from xxhash import xxh3_128_digest

from netsync.errors import NetsyncError
from netsync.model import (
    DeleteLimit,
    Entry,
    IdRule,
    Kind,
    ModeRule,
    Name,
    Options,
    Origin,
    Problem,
    Report,
    Rule,
)
from netsync.modes.address import Remote, parse_address
from netsync.modes.copy import Run, pull, push
from netsync.modes.session import Connection
from netsync.transfer.tally import Unobserved
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.hostile.conftest import MODULE, Victim
from tests.support.certificates import certificates
from tests.support.liars import (
    HELLO,
    WELCOME,
    Ended,
    Liar,
    NoAnswer,
    Where,
    facts,
    fields,
    lying_client,
    lying_server,
    plain,
)
from tests.support.trees import make_tree

FEW: Final[Sequence[Any]] = (2**63, "\x1b[2J\n")
ALL: Final[Sequence[Any]] = (
    *FEW, None, -1, b"..", 0, 1,
    2**31, 2**32, 2**64 - 1, -(2**63), True, 1.5, float("nan"), "", "x" * 5000, b"",
    b"a\0b", b"/etc/passwd", b"a/../../x", b"\xff" * 300, [], {}, [[[[]]]], [0] * 3000, [None],
    [b""] * 100, {"x": 1}, msgspec.msgpack.Ext(5, b"x"),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
)  # fmt: skip

AT_ONCE: Final = 24
"""Sessions side by side: many lies leave both ends waiting, and nobody wants to wait for each."""

SMALL = b"small"
LARGE = bytes(range(256)) * 1200
DELTA_NEW = LARGE[:4096] + b"new" + LARGE[4096:]
ENTRIES = (
    Entry(b"dir", Kind.DIRECTORY, 0o755, 5, 5, 0, 5),
    Entry(b"large", Kind.FILE, 0o644, 5, 5, len(LARGE), 7, xattrs=1),
    Entry(b"link", Kind.SYMLINK, 0o777, 0, 0, 0, 5, b"dir/x"),
    Entry(b"small", Kind.FILE, 0o644, 0, 0, len(SMALL), 5, link=4),
    Entry(b"small2", Kind.FILE, 0o644, 0, 0, len(SMALL), 5, link=4),
)
XATTRS = ((b"user.note", b"1"),)
OPTIONS = Options(
    rules=(Rule(True, b"*.tmp", 1),), delete=True, max_delete=DeleteLimit(3), fsync=False,
    usermap=(IdRule(b"x", b"1", 1, 2),), groupmap=(IdRule(b"x", b"1"),), whole_file=True,
    chmod=(ModeRule(True, False, 0o7777, 0, False),), backup_dir=b"old", min_size=1, max_size=2**40,
)  # fmt: skip
OFFER = m.Offer(
    False, Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0, 5), ["user"], (), [Name(5, b"anna")],
    [Name(5, b"users")], [Origin(b"", 2, 3, b"4")],
)  # fmt: skip
LIST = m.List(
    [
        m.Listing(0, list(ENTRIES), True, False, [b"kept"], [Rule(True, b"/x", 1)]),
        m.Listing(1, [], True),
    ],
    [Name(5, b"anna")], [Name(5, b"users")], [Problem(b"gone", "read", "gone", True)], [XATTRS],
)  # fmt: skip
SOURCE_SAYS: Final[Sequence[tuple[Message, bytes]]] = (
    (OFFER, b""),
    (LIST, b""),
    (m.Piece(2, [-1, 8]), LARGE[:8]),
    (m.Piece(2, [-1, len(LARGE) - 8]), LARGE[8:]),
    (m.FileEnd(2, len(LARGE), 7, xxh3_128_digest(LARGE)), b""),
    (m.Files([m.FileHead(4, len(SMALL), 5, xxh3_128_digest(SMALL))]), SMALL),
    (m.ListEnd(True), b""),
    (m.End(), b""),
)  # fmt: skip
"""What a source says that has ``ENTRIES``, once it was asked."""

REPORT: Final = Report(kernel="pure", notices=("x",), problems=(Problem(b"a", "b", "c"),))
"""What a target claims that has done nothing."""

Say = Callable[[Message, bytes], None]


def saying(liar: Liar, index: int, where: Where, value: Any) -> Say:
    """Return what says messages, the one numbered ``index`` with one field overridden."""
    said = iter(range(10_000))

    def say(message: Message, tail: bytes = b"") -> None:
        if next(said) == index:
            liar.lie(message, where, value, tail)
        else:
            liar.say(message, tail)

    return say


def be_source(liar: Liar, say: Say) -> None:
    """Send ``SOURCE_SAYS``, each when it may come; end when the other side does."""
    for message, tail in SOURCE_SAYS:
        if isinstance(message, m.List):
            liar.hear(m.Start)
        elif message == SOURCE_SAYS[2][0]:
            wanted: set[int] = set()
            while not wanted >= {2, 4}:
                heard = liar.hear(m.Wants)
                assert isinstance(heard, m.Wants)
                wanted |= {*heard.whole, *heard.deltas}
                if not (wanted or heard.decided < 6):
                    return  # the lie was of a kind that leaves nothing to be wanted
                if heard.decided >= 6:
                    break
        elif isinstance(message, m.End):
            liar.hear(m.WantsEnd)
        say(message, tail)
    liar.hear(m.Committed)


def be_target(liar: Liar, say: Say) -> None:
    """Want both files of a source, one whole, one as a delta, and commit."""
    liar.hear(m.Offer)
    say(m.Start(16384, b"", m.Terms(5, 0o7777, 0, True, True, False, False)), b"")
    liar.hear(m.ListEnd)
    say(m.Wants([2], [1], 3), b"")
    say(m.WantDelta(1, 8192, 4096, 7), b"")
    say(m.Signature(1), bytes(24))
    liar.hear(m.FileEnd, m.Files)
    liar.hear(m.FileEnd, m.Files)
    say(m.Credit(5), b"")
    say(m.Applied([1, 2], [], 5), b"")
    say(m.WantsEnd(), b"")
    liar.hear(m.End)
    say(m.Committed(REPORT), b"")


def lies(messages: Sequence[Message], values: Sequence[Any]) -> Iterator[tuple[int, Where, Any]]:
    """Yield each message's number with each of its fields and values."""
    for index, message in enumerate(messages):
        for where in fields(plain(message)):
            for value in values:
                yield index, where, value


PUSHING = [HELLO, m.Open(m.Direction.PUSH, [m.Place(MODULE, b"x/0")], OPTIONS, 0, b"run")]
"""Said before ``SOURCE_SAYS``."""
PUSHED: Final = [*PUSHING, *(message for message, _ in SOURCE_SAYS)]


def push_with(liar: Liar, index: int, where: Where, value: Any, number: int) -> None:
    say = saying(liar, index, where, value)
    say(HELLO, b"")
    liar.hear(m.Welcome)
    place = [m.Place(MODULE, b"x/%d" % number)]
    say(msgspec.structs.replace(PUSHED[1], places=place), b"")
    liar.hear(m.Opened)
    be_source(liar, say)
    liar.say(m.Bye())
    liar.end()


PULLED: Final[Sequence[Message]] = (
    HELLO,
    m.Open(m.Direction.PULL, [m.Place(MODULE, b"pulled/")], OPTIONS),
    m.Start(16384, b"", m.Terms(5, 0o7777, 0, True, True, False, False)),
    m.Wants([2], [1], 3), m.WantDelta(1, 8192, 4096, 7), m.Signature(1), m.Credit(5),
    m.Applied([1, 2], [], 5), m.WantsEnd(), m.Committed(REPORT),
)  # fmt: skip


def pull_with(liar: Liar, index: int, where: Where, value: Any, _: int) -> None:
    say = saying(liar, index, where, value)
    say(HELLO, b"")
    liar.hear(m.Welcome)
    say(PULLED[1], b"")
    liar.hear(m.Opened)
    be_target(liar, say)
    liar.say(m.Bye())
    liar.end()


def attack_server(
    victim: Victim, messages: Sequence[Message], values: Sequence[Any], session: Callable[..., None]
) -> int:
    """Play the session once for each lie."""
    make_tree(victim.root / "pulled", {"large": LARGE, "small": SMALL})

    def attack(number: int, index: int, where: Where, value: Any) -> None:
        with lying_client(victim.server.port) as liar, contextlib.suppress(Ended, NoAnswer):
            liar.tls.settimeout(0.3)  # after some lies it is our turn, for all the server knows
            session(liar, index, where, value, number)

    told = [(number, *lie) for number, lie in enumerate(lies(messages, values))]
    assert len(told) > 100, "the session has fields"
    with ThreadPoolExecutor(AT_ONCE) as attackers:
        for first in range(0, len(told), 10 * AT_ONCE):
            some = told[first : first + 10 * AT_ONCE]
            for done in [attackers.submit(attack, *lie) for lie in some]:
                done.result()
            victim.unharmed()
    return len(told)


def test_any_field_of_a_push_overridden(victim: Victim) -> None:
    """A lying client that is the source."""
    attack_server(victim, PUSHED, FEW, push_with)


def test_any_field_of_a_pull_overridden(victim: Victim) -> None:
    """A lying client that is the target."""
    attack_server(victim, PULLED, FEW, pull_with)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("direction", list(m.Direction))
def test_any_field_overridden_with_any_value(
    victim: Victim, direction: m.Direction, record_property: Callable[[str, object], None]
) -> None:
    if direction is m.Direction.PUSH:
        record_property("cases", attack_server(victim, PUSHED, ALL, push_with))
    else:
        record_property("cases", attack_server(victim, PULLED, ALL, pull_with))


# --- a lying server against the client in this process ------------------------------------------

ANSWERS: Final[Sequence[Message]] = (WELCOME, m.Opened())


class Attack:
    """A server that tells each of its clients another lie, and the clients' way to it."""

    def __init__(self, direction: m.Direction, base: Path, values: Sequence[Any]) -> None:
        self.direction = direction
        self.base = base
        says = [message for message, _ in SOURCE_SAYS]
        if direction is m.Direction.PUSH:
            says = list(PULLED[2:])
        self.lies = list(lies([*ANSWERS, *says], values))
        self._next = iter(self.lies)
        self.numbers = iter(range(len(self.lies)))

    def script(self, liar: Liar) -> None:
        """Be the server."""
        say = saying(liar, *next(self._next))
        liar.hear(m.Hello)
        say(WELCOME, b"")
        liar.hear(m.Open)
        say(m.Opened(), b"")
        if self.direction is m.Direction.PULL:
            be_source(liar, say)
        else:
            be_target(liar, say)
        liar.hear(m.Bye)

    async def run(self, remote: Remote) -> None:
        """Be one client after the other; an error of netsync's own is a good end."""
        who = certificates().client.directory
        options = Options(fsync=False, delete=True)
        work = Run(options, Connection(who, 10, 1), Unobserved(), self.base / "state")
        for number in self.numbers:
            said = ""
            try:
                if self.direction is m.Direction.PULL:
                    await pull([remote], bytes(self.base / f"target/{number}"), work)
                else:
                    await push([b"%s/" % bytes(self.base / "source")], remote, work)
            except NetsyncError as error:
                said = str(error)
            assert not said or said.isprintable(), said


async def attack_client(direction: m.Direction, base: Path, values: Sequence[Any]) -> int:
    make_tree(base, {"source": {"large": LARGE, "small": SMALL}, "target": {}})
    outside = make_tree(base / "outside", {"secret": b"secret"})
    before = facts(outside)
    attack = Attack(direction, base, values)
    with lying_server(attack.script) as server:
        remote = parse_address(server.url())
        assert isinstance(remote, Remote)
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(attack.run, remote)
    assert facts(outside) == before
    beside = {path.name for path in base.iterdir()}
    assert beside - {"state"} == {"outside", "source", "target"}
    return len(attack.lies)


@pytest.mark.parametrize("direction", list(m.Direction))
async def test_any_field_of_a_server_overridden(direction: m.Direction, tmp_path: Path) -> None:
    """A client ends with an error of its own, one line, whatever field a server lies in."""
    await attack_client(direction, tmp_path, FEW[:1])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("direction", list(m.Direction))
async def test_any_field_of_a_server_overridden_with_any_value(
    direction: m.Direction, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", await attack_client(direction, tmp_path, ALL))


def test_the_sessions_are_right_where_nothing_is_overridden(victim: Victim) -> None:
    """Else each lie would be refused for what is wrong without it."""
    with victim.attacked() as liar:
        push_with(liar, 99, (), None, 10**6)
    make_tree(victim.root / "pulled", {"large": LARGE, "small": SMALL})
    with victim.attacked() as liar, contextlib.suppress(Ended):
        pull_with(liar, 99, (), None, 0)
    assert "2 created" not in victim.server.log
