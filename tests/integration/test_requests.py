"""A client that asks in odd ways: the server says what is wrong, and serves the next one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from netsync.errors import NetsyncError, ProtocolError, RefusedError
from netsync.model import Options, Rule
from netsync.modes.address import Remote, parse_address
from netsync.modes.session import Connection, session
from netsync.wire import messages as m
from netsync.wire.messages import Direction, Message, Open, Place, Selection
from tests.support.certificates import certificates
from tests.support.places import MODULE, Standby

HERE = Place(MODULE, b"")


async def answer(standby: Standby, requests: Sequence[Message]) -> Message:
    """Say ``requests`` one after the other; return the first answer, or raise the fault."""
    remote = parse_address(standby.server.url(MODULE))
    assert isinstance(remote, Remote)
    connection = Connection(certificates().client.directory)
    with trio.fail_after(20):
        async with session(remote, connection) as channel:
            for request in requests:
                await channel.send(request)
            return (await channel.receive()).message


def pull(options: Options, *places: Place, selections: int = 0) -> Open:
    return Open(Direction.PULL, list(places) or [HERE], options, selections)


LISTED = Options(paths=())
ODD: dict[str, tuple[Sequence[Message], type[NetsyncError], str]] = {
    "parts of no request": ([Selection()], ProtocolError, "no request"),
    "a part too many": ([pull(LISTED, Place("none", b"")), Selection()], RefusedError, "no such"),
    "something else instead of a part": (
        [pull(LISTED, selections=1), m.Browse()], ProtocolError, "rest of the options",
    ),
    "paths for everything": (
        [pull(Options(), selections=1), Selection(paths=[b"x"])], ProtocolError, "not restricted",
    ),
    "paths of two sources": ([pull(LISTED, HERE, HERE)], ProtocolError, "one source"),
    "too many patterns": (
        [pull(Options(), selections=2), *[Selection(rules=[Rule(True, b"x")] * 8193)] * 2],
        ProtocolError, "too many patterns",
    ),
    "all or nothing, and half of a file": (
        [Open(Direction.PUSH, [HERE], Options(atomic=True, inplace=True))], ProtocolError,
        "--inplace writes half",
    ),
    "all or nothing, and deletes before": (
        [Open(Direction.PUSH, [HERE], Options(atomic=True, delete=True, delete_before=True))],
        ProtocolError, "room for old and new",
    ),
    "a module that is not there, before the list is read": (
        [pull(LISTED, Place("none", b""), selections=4000)], RefusedError, "no such module",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("requests", "kind", "words"), ODD.values(), ids=ODD.keys())
async def test_an_odd_request_is_answered_with_what_is_wrong(
    standby: Standby, requests: Sequence[Message], kind: type[NetsyncError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await answer(standby, requests)


async def test_the_parts_of_a_request_are_put_together(standby: Standby) -> None:
    """A request in parts is served like one in a piece."""
    parts = [Selection(paths=[b"a", b"b/"]), Selection(rules=[Rule(True, b"*")])]
    assert isinstance(await answer(standby, [pull(LISTED, selections=2), *parts]), m.Opened)
