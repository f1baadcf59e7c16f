"""A client's session with a server: connect, be welcomed, ask, part.

Connected means that ``Welcome`` has arrived: with TLS 1.3 a client whose certificate was refused
learns it only at its first read.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import trio
from msgspec import Struct

from netsync.errors import (
    ConnectTimeoutError,
    InterruptedBySignal,
    NetsyncError,
    ProtocolError,
    unwrapped,
)
from netsync.identity.contexts import client_context
from netsync.identity.directory import load_identity
from netsync.identity.peer import peer_identity
from netsync.modes.address import Remote
from netsync.net.channel import FEATURES, SOFTWARE, StreamChannel, kept_alive
from netsync.net.dial import Address, connect
from netsync.wire.messages import PROTOCOL, Bye, Hello, Welcome
from netsync.wire.order import State


class Connection(Struct, frozen=True):
    """How to reach servers: our identity, and how long to wait (seconds)."""

    identity: Path
    connect_timeout: float = 10.0
    timeout: float = 30.0


@contextlib.asynccontextmanager
async def session(remote: Remote, connection: Connection) -> AsyncGenerator[StreamChannel]:
    """Hold a welcomed channel to ``remote``; what ends it early is raised as one error."""
    identity = load_identity(connection.identity)
    context = client_context(identity)
    with trio.CancelScope() as scope:
        scope.deadline = trio.current_time() + connection.connect_timeout
        stream = await connect(
            Address(remote.host, remote.port),
            context,
            connect_timeout=connection.connect_timeout,
        )
        channel = StreamChannel(
            stream,
            peer=remote.shown,
            expects=State.SERVER_GREETS,
            timeout=connection.timeout,
        )
        try:
            peer_identity(stream.tls, identity)
            await _greet(channel, connection)
            scope.deadline = float("inf")
            with unwrapped():
                async with kept_alive(channel):
                    yield channel
                    with contextlib.suppress(NetsyncError):  # the work is done all the same
                        await channel.send(Bye())
        except NetsyncError as error:
            await channel.fail(error)
            raise
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await channel.fail(InterruptedBySignal("the client was interrupted"))
            raise
        finally:
            await channel.aclose()
    if scope.cancelled_caught:
        raise ConnectTimeoutError(
            f"no answer within {connection.connect_timeout:g} seconds",
            op="connect to",
            where=remote.shown,
            hint="is it a netsync server? --connect-timeout allows more",
        )


async def _greet(channel: StreamChannel, connection: Connection) -> None:
    timeout = max(1, round(connection.timeout))
    await channel.send(Hello(PROTOCOL, SOFTWARE, FEATURES, timeout))
    welcome = (await channel.receive()).message
    assert isinstance(welcome, Welcome)
    if welcome.protocol != PROTOCOL:
        raise ProtocolError(
            f"{welcome.software} speaks protocol {welcome.protocol}, we speak {PROTOCOL}",
            op="talk to",
            where=channel.peer,
            hint="install the same version on both hosts",
        )
    channel.heed(welcome.timeout, welcome.features)
