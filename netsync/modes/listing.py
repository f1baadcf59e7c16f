"""Asking a server what it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netsync.errors import ProtocolError
from netsync.model import Entry
from netsync.modes.address import Remote
from netsync.modes.session import Connection, session
from netsync.wire.messages import Browse, Browsed, ModuleInfo

Show = Callable[[Sequence[Entry | ModuleInfo]], None]


async def list_remote(remote: Remote, connection: Connection, show: Show) -> None:
    """Call ``show`` with the modules of a server, or with the entries at a path in one.

    One message's worth at a time: a server that never comes to an end costs no memory.
    """
    async with session(remote, connection) as channel:
        await channel.send(Browse(remote.place.module, remote.place.path))
        while True:
            answer = (await channel.receive()).message
            if not isinstance(answer, Browsed):
                raise ProtocolError("the server answered something else", op="list")
            show([*answer.modules, *answer.entries])
            if answer.final:
                return
