"""Asking a server what it has."""

from __future__ import annotations

from netsync.errors import ProtocolError
from netsync.model import Entry
from netsync.modes.address import Remote
from netsync.modes.session import Connection, session
from netsync.wire.messages import Browse, Browsed, ModuleInfo


async def list_remote(remote: Remote, connection: Connection) -> list[Entry | ModuleInfo]:
    """Return the modules of a server, or the entries at a path in one."""
    found: list[Entry | ModuleInfo] = []
    async with session(remote, connection) as channel:
        await channel.send(Browse(remote.place.module, remote.place.path))
        while True:
            answer = (await channel.receive()).message
            if not isinstance(answer, Browsed):
                raise ProtocolError("the server answered something else", op="list")
            found += [*answer.modules, *answer.entries]
            if answer.final:
                return found
