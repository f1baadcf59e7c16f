"""A transfer whose connection ends after any chosen message: both roles live on and must notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from netsync.errors import NetsyncError, NetworkError, unwrapped
from netsync.model import Options, Report
from netsync.net.channel import memory_channels
from netsync.transfer.source import send_tree
from netsync.transfer.target import receive_tree
from netsync.wire.messages import Message
from netsync.wire.order import State
from tests.support.transfers import (
    PATIENCE,
    Meddle,
    Meddled,
    Sent,
    Watch,
    policy,
    source_roots,
    target_opener,
)

Outcome = Report | NetsyncError


async def severed(
    source: Path, target: Path, options: Options, *, sender: str, after: int
) -> tuple[bool, dict[str, Outcome]]:
    """Copy until the ``sender`` ("source" or "target") has sent ``after`` messages.

    The next one and all that follow are lost, both ways. Returns if it came to that, and what
    each role returned or raised.
    """
    near, far = memory_channels(State.CLIENT_ASKS, State.SERVER_ANSWERS)
    sent = 0
    was_cut = False

    def counted(message: Message, tail: bytes) -> Sequence[Sent]:
        nonlocal sent, was_cut
        sent += 1
        if sent <= after:
            return [(message, tail)]
        was_cut = True
        for channel in (near, far):
            channel._sender.close()
            channel._receiver.close()
        raise NetworkError("the link is cut")

    meddle: dict[str, Meddle | None] = {"source": None, "target": None, sender: counted}
    ours, theirs = Meddled(near, meddle["source"]), Meddled(far, meddle["target"])
    outcomes: dict[str, Outcome] = {}

    async def send() -> Report:
        with source_roots([source]) as roots:
            return await send_tree(ours, roots, options, Watch())

    async def receive() -> Report:
        return await receive_tree(theirs, target_opener(target), policy(options), Watch())

    async def noted(name: str, role: Callable[[], Awaitable[Report]]) -> None:
        try:
            with unwrapped():
                outcomes[name] = await role()
        except NetsyncError as error:
            outcomes[name] = error

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(noted, "source", send)
            nursery.start_soon(noted, "target", receive)
    return was_cut, outcomes
