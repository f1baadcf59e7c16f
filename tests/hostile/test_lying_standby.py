"""A standby that lies about what it has, against a real primary (M52).

Which side is newer is never decided by who has the larger number: a standby that tells of more than
the log has, or of another past, makes the primary stop and say so, and changes nothing there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from netsync.errors import NetsyncError
from netsync.net.channel import FEATURES
from netsync.wire import messages as m
from netsync.wire.mirroring import Mirror, Mirrored
from netsync.wire.operations import NO_CHAIN
from tests.support.liars import Ended, Liar, lying_server
from tests.support.mirrors import Pair
from tests.support.trees import make_tree, read_tree

Told = Callable[[Mirror], Mirrored]
CLAIMS: dict[str, Told] = {
    "a head far ahead": lambda asked: Mirrored(
        asked.generation, asked.epoch, 2**40, b"x" * 16, True
    ),
    "another past": lambda asked: Mirrored(asked.generation, asked.epoch, 0, b"x" * 16, True),
    "more than the log has": lambda asked: Mirrored(
        asked.generation, asked.epoch, asked.head + 1, NO_CHAIN, True
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
async def test_m52_a_standby_that_claims_more_is_no_source(tmp_path: Path, claim: str) -> None:
    pair = Pair(tmp_path)
    make_tree(pair.source, {"f": b"ours", "d": {"g": b"ours too"}})
    heard: list[type[m.Message]] = []

    def standby(liar: Liar) -> None:
        liar.hear(m.Hello)
        liar.say(m.Welcome(m.PROTOCOL, "liar", FEATURES, "primary1"))
        asked = liar.hear(Mirror)
        assert isinstance(asked, Mirror)
        liar.say(CLAIMS[claim](asked))
        with contextlib.suppress(Ended):
            heard.append(type(liar.hear(m.Message)))

    with lying_server(standby) as server:
        pair.port = server.port
        with trio.fail_after(50), pytest.raises(NetsyncError, match="the logs have diverged"):
            await pair.start()
    assert heard == [], "nothing was asked for, and nothing sent"
    assert read_tree(pair.source) == {"f": b"ours", "d": {"g": b"ours too"}}
