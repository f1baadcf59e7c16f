"""Asking the primary's server whether it is worth fetching, for as long as it answers.

The standby asks; the server answers when something changed, or when the asked seconds are over.
Only the standby's clock is read: an answer "nothing" to a question of ``seconds`` that was asked at
t says that nothing changed until t + seconds, however long it was on its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from netsync.errors import ProtocolError, StalledError, UsageError
from netsync.modes.address import Remote
from netsync.modes.session import Connection, session
from netsync.wire.watching import Changed, Watch

ASK_SECONDS: Final = 5
"""How long an answer may be held back. The smaller, the sooner a standby knows what it knows."""

_REST_SECONDS: Final = 0.1
"""From hearing of a change to the next question: a server that cries wolf keeps nobody busy."""

Hear = Callable[[Changed, float], Awaitable[None]]
"""Takes an answer, and up to when it tells whether anything changed."""


async def follow(
    sources: Sequence[Remote], connection: Connection, now: Callable[[], float], hear: Hear
) -> None:
    """Ask until the connection fails, which is raised, or nobody watches: then return."""
    if len({(source.host, source.port) for source in sources}) > 1:
        raise UsageError("all sources must be on one server", op="watch")
    places = [source.place for source in sources]
    async with session(sources[0], connection) as channel:
        while True:
            asked = now()
            await channel.send(Watch(places, ASK_SECONDS))
            with trio.move_on_after(ASK_SECONDS + connection.timeout) as scope:
                answer = (await channel.receive()).message
            if scope.cancelled_caught:
                raise StalledError(
                    "the server is there but does not answer", op="watch", where=channel.peer,
                    hint="its disk may hang; see its log",
                )  # fmt: skip
            if not isinstance(answer, Changed):
                raise ProtocolError("the server answered something else", op="watch")
            known_until = asked if answer.changed else min(asked + ASK_SECONDS, now())
            await hear(answer, known_until)
            if not answer.watched:
                return
            if answer.changed:
                await trio.sleep(_REST_SECONDS)
