"""Making connections, from either end: a deadline for the whole, and errors with a reason.

``connect`` and ``accept_tls`` return a stream whose handshake is done, or raise one of our errors
and leave no socket behind. A stream that ``connect`` returned is not yet a session: with TLS 1.3
the server's verdict on our certificate comes with the first read (see ``map_stream_error``).
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterable
from typing import Final

import trio

from netsync.errors import ConnectTimeoutError, UsageError
from netsync.net.address import DEFAULT_PORT, Address, parse_address
from netsync.net.failures import (
    connect_error,
    handshake_error,
    listen_error,
    map_stream_error,
)
from netsync.net.tls import TlsStream

__all__ = [
    "DEFAULT_PORT",
    "Address",
    "accept_tls",
    "connect",
    "listening_address",
    "map_stream_error",
    "open_listeners",
    "parse_address",
]

ALERT_LINGER: Final = 1.0
"""Seconds a rejected client has to take note of the reason: some round trips of a slow line."""

PORT_ATTEMPTS: Final = 5
"""Times a free port is tried that is taken on the next address of the same name."""


async def connect(
    address: Address, context: ssl.SSLContext, *, connect_timeout: float
) -> TlsStream:
    """Connect to ``address`` within ``connect_timeout`` seconds, handshake included.

    Raises ``NetworkError``, ``ConnectTimeoutError``, ``RefusedError`` (we reject the server's
    certificate) or ``ProtocolError`` (no TLS 1.3 there).
    """
    if not address.host:
        raise UsageError("the host is missing", op="connect to", where=str(address))
    phase = "no answer"
    with trio.move_on_after(connect_timeout):
        try:
            tcp = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise connect_error(error, address) from error
        phase = "it answered, but did not finish the TLS handshake"
        try:
            sock = _taken_over(tcp)
            stream = TlsStream(sock, context, hostname=_certified(address.host))
            await _shake_hands(stream)
        except OSError as error:
            raise handshake_error(error, address, accepting=False) from error
        return stream
    raise ConnectTimeoutError(
        f"{phase} within {connect_timeout:g} s",
        op="connect to",
        where=str(address),
        hint="check that host and network are up, or raise --connect-timeout",
    )


async def accept_tls(
    tcp: trio.SocketStream, context: ssl.SSLContext, *, handshake_timeout: float
) -> TlsStream:
    """Shake hands with the client that connected through ``tcp``, which is taken over.

    Raises ``RefusedError``, ``ProtocolError``, ``NetworkError`` or ``ConnectTimeoutError``, each
    fit for one line in the log. A client that is rejected gets its alert before we hang up.
    """
    where = _peer_of(tcp)
    try:
        stream = TlsStream(_taken_over(tcp), context, server_side=True)
        with trio.fail_after(handshake_timeout):
            await _shake_hands(stream, linger=ALERT_LINGER)
    except trio.TooSlowError:
        raise ConnectTimeoutError(
            f"no complete TLS handshake within {handshake_timeout:g} s", op="accept", where=where
        ) from None
    except OSError as error:
        raise handshake_error(error, where, accepting=True) from error
    return stream


async def open_listeners(addresses: Iterable[str]) -> list[trio.SocketListener]:
    """Listen on every ``HOST:PORT``; a name that has several addresses listens on all of them.

    Port 0 picks a free one, the same for all addresses of a name. An empty host or ``*`` is every
    interface, IPv4 and IPv6. Raises ``UsageError`` or ``NetworkError``, and then listens nowhere.
    """
    listeners: list[trio.SocketListener] = []
    try:
        for text in addresses:
            listeners += await _listen(parse_address(text))
    except BaseException:
        await _close_all(listeners)
        raise
    return listeners


def listening_address(listener: trio.SocketListener) -> Address:
    """Return where ``listener`` really listens, with the port the system picked."""
    host, port = listener.socket.getsockname()[:2]
    return Address(host, port)


async def _shake_hands(stream: TlsStream, linger: float = 0.0) -> None:
    """Shake hands or close; after a failure wait ``linger`` seconds for the alert to be read."""
    try:
        await stream.handshake()
    except OSError:
        # The time limit is for the peer's good will, not for our saying no to it.
        with trio.CancelScope(shield=True):
            await stream.linger(linger)
        raise
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _listen(address: Address) -> list[trio.SocketListener]:
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return await _listen_once(address)
        except OSError as error:
            if address.port != 0 or error.errno != errno.EADDRINUSE:
                raise listen_error(error, address) from error
    try:
        return await _listen_once(address)
    except OSError as error:
        raise listen_error(error, address) from error


async def _listen_once(address: Address) -> list[trio.SocketListener]:
    """Listen on all addresses of the host, on one port; skip IPv6 where this host has none."""
    found = await trio.socket.getaddrinfo(
        address.host or None,
        address.port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    listeners: list[trio.SocketListener] = []
    missing: OSError | None = None
    port = address.port
    try:
        for host in dict.fromkeys(str(entry[4][0]) for entry in found):
            try:
                listeners += await trio.open_tcp_listeners(port, host=host)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                port = listening_address(listeners[-1]).port
    except BaseException:
        await _close_all(listeners)
        raise
    if not listeners:
        raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    return listeners


async def _close_all(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        await trio.aclose_forcefully(listener)


def _taken_over(tcp: trio.SocketStream) -> socket.socket:
    """Return the plain socket of ``tcp``, set up for a session.

    Nagle's delay is off, for frames are already as large as they should be. The buffers are left
    to the kernel, which sizes them by the path: fixed ones were not faster on loopback (measured
    from 256 KiB to 4 MiB) and would cap a long fast line. TCP_USER_TIMEOUT is left alone: Linux
    counts a peer's closed window too, and would cut a healthy session whose disk takes its time;
    the channel's pings tell silence from slowness.
    """
    sock = socket.socket(fileno=tcp.socket.detach())
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _certified(host: str) -> str:
    """Return the name to look for in the certificate: ``host`` without an IPv6 zone."""
    return host.partition("%")[0]


def _peer_of(tcp: trio.SocketStream) -> str:
    try:
        peer = tcp.socket.getpeername()
    except OSError:
        return "a client that has gone"
    return str(Address(*peer[:2])) if isinstance(peer, tuple) else "local socket"
