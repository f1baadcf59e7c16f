"""Connecting and accepting: what goes right, and the name and number of all that goes wrong.

Every failure is checked for its class, its exit code and the words an administrator needs. The
loopback and port 0 only; deadlines run on trio's clock, which jumps when everybody sleeps.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from netsync.errors import (
    ConnectTimeoutError,
    NetsyncError,
    NetworkError,
    ProtocolError,
    RefusedError,
    StalledError,
    UsageError,
)
from netsync.identity.contexts import Credentials, client_context, server_context
from netsync.identity.directory import load_identity
from netsync.identity.peer import peer_identity
from netsync.net.dial import (
    Address,
    accept_tls,
    connect,
    listening_address,
    map_stream_error,
    open_listeners,
)
from netsync.net.tls import TlsStream
from tests.support.certificates import certificates, issue, make_authority

LIMIT = 10.0


@dataclass
class Door:
    """A server that accepts one client after the other, and how each attempt ended."""

    address: Address
    refused: trio.MemoryReceiveChannel[NetsyncError]
    accepted: list[TlsStream] = field(default_factory=list)

    async def refusal(self) -> NetsyncError:
        """Return the next line for the server's log."""
        return await self.refused.receive()


@asynccontextmanager
async def door(
    credentials: Credentials | None = None, listen: str = "127.0.0.1:0"
) -> AsyncIterator[Door]:
    """Serve with ``credentials``; what is accepted says ``welcome`` and waits for the end."""
    context = server_context(credentials or certificates().server)
    (listener,) = await open_listeners([listen])
    log, refused = trio.open_memory_channel[NetsyncError](10)
    opened = Door(listening_address(listener), refused)

    async def welcome(tcp: trio.SocketStream) -> None:
        try:
            stream = await accept_tls(tcp, context, handshake_timeout=LIMIT)
        except NetsyncError as error:
            log.send_nowait(error)
            return
        opened.accepted.append(stream)
        async with stream:
            await stream.send_all(b"welcome")
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, welcome, [listener])
        yield opened
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def plain_door(
    answer: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[Address]:
    """Serve something that is no netsync: ``answer`` gets each connection."""
    (listener,) = await open_listeners(["127.0.0.1:0"])

    async def serve(tcp: trio.SocketStream) -> None:
        async with tcp:
            await answer(tcp)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listening_address(listener)
        nursery.cancel_scope.cancel()


async def dial(address: Address, credentials: Credentials | None = None) -> TlsStream:
    context = client_context(credentials or certificates().client)
    return await connect(address, context, connect_timeout=LIMIT)


def says(error: NetsyncError, cls: type[NetsyncError], exit_code: int, *words: str) -> None:
    assert type(error) is cls
    assert error.exit_code == exit_code
    for word in words:
        assert word in str(error)


async def refusal(address: Address, credentials: Credentials | None = None) -> NetsyncError:
    """Return why ``dial`` failed."""
    with pytest.raises(NetsyncError) as caught:
        await dial(address, credentials)
    return caught.value


async def late_refusal(opened: Door, context: ssl.SSLContext) -> NetsyncError:
    """Return what the client reads instead of a welcome, once the server has rejected it."""
    stream = await connect(opened.address, context, connect_timeout=LIMIT)
    async with stream:
        # What a client says before it is welcome must not turn the alert into a reset.
        await stream.send_all(b"hello" * 10_000)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
    return map_stream_error(caught.value, opened.address, welcomed=False)


async def test_both_ends_know_each_other_after_connecting() -> None:
    made = certificates()
    async with door() as opened, await dial(opened.address) as stream:
        assert await stream.receive_some() == b"welcome"
        assert peer_identity(stream.tls, made.client).name == "standby1"
        assert peer_identity(opened.accepted[0].tls, made.server).name == "primary1"
        assert stream.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        # A peer whose disk is slow closes its window; that must not count as being gone.
        assert not stream.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


async def test_ipv6_works_the_same() -> None:
    async with door(listen="[::1]:0") as opened, await dial(opened.address) as stream:
        assert str(opened.address).startswith("[::1]:")
        assert await stream.receive_some() == b"welcome"


async def test_a_server_of_another_ca_is_refused_and_learns_it() -> None:
    async with door(certificates().stranger) as opened:
        error = await refusal(opened.address)
        says(error, RefusedError, 5, str(opened.address), "unknown CA", "ca.pem")
        says(await opened.refusal(), RefusedError, 5, "the peer rejects us", "CA it does not know")


@pytest.mark.parametrize(
    ("starts", "days", "words"),
    [(-20, 10, ("expired", "cert renew")), (1, 10, ("not valid yet", "clocks"))],
)
async def test_a_server_certificate_out_of_its_time_is_refused(
    tmp_path: Path, starts: int, days: int, words: tuple[str, ...]
) -> None:
    server = issue(tmp_path / "id", hosts=("127.0.0.1",), starts_in_days=starts, days=days)
    async with door(server) as opened:
        says(await refusal(opened.address), RefusedError, 5, str(opened.address), *words)


async def test_a_server_certificate_for_other_hosts_is_refused(tmp_path: Path) -> None:
    server = issue(tmp_path / "a", "a", hosts=("standby1.example", "192.0.2.1"))
    async with door(server) as opened:
        error = await refusal(opened.address)
        says(error, RefusedError, 5, "another address", "--host")
        error = await refusal(Address("localhost", opened.address.port))
        says(error, RefusedError, 5, "localhost", "another host name", "--host")


async def test_a_certificate_without_hosts_cannot_serve() -> None:
    async with door(certificates().client) as opened:
        error = await refusal(opened.address)
        says(error, RefusedError, 5, "not issued for this purpose", "--host")


async def test_a_client_of_another_ca_is_refused_and_told(tmp_path: Path) -> None:
    made = certificates()
    context = client_context(made.client)
    context.load_cert_chain(
        made.stranger.certificate_path, made.stranger.key_path
    )  # trusts the server's CA, but has a certificate of another one
    async with door() as opened:
        error = await late_refusal(opened, context)
        says(error, RefusedError, 5, str(opened.address), "CA it does not know")
        says(await opened.refusal(), RefusedError, 5, "127.0.0.1:", "unknown CA")


@pytest.mark.parametrize(
    ("starts", "days", "told", "logged"),
    [
        (-20, 10, "has expired", "it has expired"),
        (1, 10, "not valid there", "it is not valid yet"),
    ],
)
async def test_a_client_certificate_out_of_its_time_is_refused_and_told(
    tmp_path: Path, starts: int, days: int, told: str, logged: str
) -> None:
    client = issue(tmp_path / "id", starts_in_days=starts, days=days)
    async with door() as opened:
        says(await late_refusal(opened, client_context(client)), RefusedError, 5, told)
        says(await opened.refusal(), RefusedError, 5, "127.0.0.1:", logged)


async def test_a_client_without_a_certificate_is_refused_and_told() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates().client.ca_path)
    async with door() as opened:
        error = await late_refusal(opened, context)
        says(error, RefusedError, 5, "wants a certificate and got none")
        says(await opened.refusal(), RefusedError, 5, "127.0.0.1:", "showed no certificate")


async def test_a_tls_1_2_client_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates().client.ca_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with door() as opened:
        with pytest.raises(ProtocolError) as caught:
            await connect(opened.address, context, connect_timeout=LIMIT)
        says(caught.value, ProtocolError, 12, "does not speak TLS 1.3")
        says(await opened.refusal(), ProtocolError, 12, "127.0.0.1:", "does not speak TLS 1.3")


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"SSH-2.0-x\r\n"])
async def test_a_client_in_the_clear_is_refused(garbage: bytes) -> None:
    async with door() as opened:
        tcp = await trio.open_tcp_stream("127.0.0.1", opened.address.port)
        async with tcp:
            await tcp.send_all(garbage)
            while await tcp.receive_some():
                pass
        says(
            await opened.refusal(), ProtocolError, 12, "not a netsync client", "does not speak TLS"
        )


async def test_a_client_that_hangs_up_in_the_handshake_is_logged() -> None:
    async with door() as opened:
        await (await trio.open_tcp_stream("127.0.0.1", opened.address.port)).aclose()
        says(await opened.refusal(), ProtocolError, 12, "hung up")


async def test_a_client_that_never_finishes_the_handshake_is_dropped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with door() as opened:
        tcp = await trio.open_tcp_stream("127.0.0.1", opened.address.port)
        async with tcp:
            await tcp.send_all(b"\x16\x03\x01")
            assert await tcp.receive_some() == b""
        says(await opened.refusal(), ConnectTimeoutError, 35, "127.0.0.1:", "handshake within 10 s")
    assert trio.current_time() < LIMIT + 1


async def test_a_server_in_the_clear_is_no_netsync_server() -> None:
    async def banner(tcp: trio.SocketStream) -> None:
        await tcp.send_all(b"SSH-2.0-OpenSSH_9.9\r\n")
        await tcp.receive_some()

    async with plain_door(banner) as address:
        error = await refusal(address)
        says(error, ProtocolError, 12, str(address), "not a netsync server", "check host and port")


async def test_a_server_that_hangs_up_is_no_netsync_server() -> None:
    async def hang_up(tcp: trio.SocketStream) -> None:
        await tcp.receive_some()

    async with plain_door(hang_up) as address:
        error = await refusal(address)
        says(error, ProtocolError, 12, str(address), "not a netsync server", "hung up")


async def test_a_server_that_says_nothing_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def silence(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with plain_door(silence) as address:
        error = await refusal(address)
        says(error, ConnectTimeoutError, 35, str(address), "TLS handshake within 10 s")
        assert trio.current_time() < LIMIT + 1


async def test_nobody_listening_is_a_network_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = await refusal(Address("127.0.0.1", port))
    says(error, NetworkError, 10, f"127.0.0.1:{port}", "connection refused", "netsync serve")
    assert error.retryable


class NoNames(trio.abc.HostnameResolver):
    """A name service that knows nobody."""

    async def getaddrinfo(self, *_: object) -> list[object]:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_name_nobody_knows_is_a_network_error() -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    error = await refusal(Address("nobody.invalid", 7873))
    says(error, NetworkError, 10, "nobody.invalid:7873", "name not found", "DNS")


async def test_a_name_that_cannot_be_one_is_a_network_error() -> None:
    says(await refusal(Address("x" * 70 + ".example", 1)), NetworkError, 10, "name not found")


async def test_a_missing_host_is_a_usage_error() -> None:
    says(await refusal(Address("", 7873)), UsageError, 1, "host is missing")


async def test_a_cancelled_connect_leaves_no_socket_behind() -> None:
    async def silence(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with plain_door(silence) as address, trio.open_nursery() as nursery:
        nursery.start_soon(dial, address)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("cause", "cls", "exit_code", "words"),
    [
        (ConnectionResetError(errno.ECONNRESET, "x"), NetworkError, 10, "connection reset"),
        (OSError(errno.ETIMEDOUT, "x"), StalledError, 30, "stopped answering"),
        (ssl.SSLEOFError(8, "EOF occurred"), NetworkError, 10, "was cut"),
        (ssl.SSLError(1, "[SSL] bad record mac"), NetworkError, 10, "TLS failed"),
        (ssl.SSLError(1, "[SSL] tlsv1 alert unknown ca (_ssl.c:1)"), RefusedError, 5, "CA"),
        (ssl.SSLError(1, "ssl/tls alert certificate revoked"), RefusedError, 5, "revoked"),
        (None, NetworkError, 10, "was cut"),
    ],
)
def test_a_failed_stream_is_put_into_words(
    cause: OSError | None, cls: type[NetsyncError], exit_code: int, words: str
) -> None:
    error = trio.BrokenResourceError()
    error.__cause__ = cause
    says(map_stream_error(error, "standby1:7873"), cls, exit_code, "standby1:7873", words)


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = RefusedError("no")
    assert map_stream_error(error, "a:1") is error


def test_before_the_welcome_a_cut_points_to_the_servers_log() -> None:
    error = trio.BrokenResourceError()
    assert "log" in str(map_stream_error(error, "a:1", welcomed=False))
    assert "log" not in str(map_stream_error(error, "a:1"))


async def test_a_name_listens_on_all_its_addresses_with_one_port() -> None:
    listeners = await open_listeners(["localhost:0", "*:0"])
    addresses = [listening_address(listener) for listener in listeners]
    for listener in listeners:
        await listener.aclose()
    by_host = {address.host: address.port for address in addresses}
    assert by_host["127.0.0.1"] == by_host.get("::1", by_host["127.0.0.1"])
    assert by_host["0.0.0.0"] == by_host.get("::", by_host["0.0.0.0"])


async def test_a_port_in_use_is_named_and_nothing_stays_open() -> None:
    (taken,) = await open_listeners(["127.0.0.1:0"])
    text = str(listening_address(taken))
    with pytest.raises(NetworkError) as caught:
        await open_listeners(["127.0.0.1:0", text])
    says(caught.value, NetworkError, 10, text, "in use", "another port")
    await taken.aclose()


async def test_an_address_of_another_host_is_named() -> None:
    with pytest.raises(NetworkError) as caught:
        await open_listeners(["192.0.2.1:0"])
    says(caught.value, NetworkError, 10, "192.0.2.1:0", "does not have that address")


async def test_a_port_for_root_only_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(*_: object, **__: object) -> list[trio.SocketListener]:
        await trio.lowlevel.checkpoint()
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(trio, "open_tcp_listeners", denied)
    with pytest.raises(NetworkError) as caught:
        await open_listeners(["127.0.0.1:80"])
    says(caught.value, NetworkError, 10, "127.0.0.1:80", "permission denied", "1024")


async def test_hosts_of_two_cas_meet_while_both_are_trusted(tmp_path: Path) -> None:
    old, new = make_authority(tmp_path / "old"), make_authority(tmp_path / "new")
    issue(tmp_path / "client", issuing=old)
    both = (old / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes()
    for directory in (new, tmp_path / "client"):
        (directory / "ca.pem").write_bytes(both)
    client = load_identity(tmp_path / "client")
    async with door(load_identity(new)) as opened, await dial(opened.address, client) as stream:
        assert await stream.receive_some() == b"welcome"
