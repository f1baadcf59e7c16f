"""Addresses as users type them."""

from __future__ import annotations

import pytest

from netsync.errors import UsageError
from netsync.modes.address import Remote, parse_address
from netsync.net.address import DEFAULT_PORT
from netsync.wire.messages import Place


def remote(host: str, port: int, module: str, path: bytes = b"") -> Remote:
    return Remote(host, port, Place(module, path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("standby1::web", remote("standby1", DEFAULT_PORT, "web")),
        ("standby1::web/", remote("standby1", DEFAULT_PORT, "web", b"/")),
        ("standby1::web/a/b", remote("standby1", DEFAULT_PORT, "web", b"a/b")),
        ("standby1::web/a/", remote("standby1", DEFAULT_PORT, "web", b"a/")),
        ("standby1::web/a::b", remote("standby1", DEFAULT_PORT, "web", b"a::b")),
        ("standby1::", remote("standby1", DEFAULT_PORT, "")),
        ("192.0.2.1::web", remote("192.0.2.1", DEFAULT_PORT, "web")),
        ("[::1]::web/a", remote("::1", DEFAULT_PORT, "web", b"a")),
        ("[2001:db8::1]::web", remote("2001:db8::1", DEFAULT_PORT, "web")),
        ("netsync://standby1/web", remote("standby1", DEFAULT_PORT, "web")),
        ("netsync://standby1/", remote("standby1", DEFAULT_PORT, "")),
        ("netsync://standby1", remote("standby1", DEFAULT_PORT, "")),
        ("netsync://standby1:1234/web/a/", remote("standby1", 1234, "web", b"a/")),
        ("netsync://[::1]:1234/web/a", remote("::1", 1234, "web", b"a")),
        ("netsync://[::1]/web", remote("::1", DEFAULT_PORT, "web")),
        ("netsync://h/web/50%25 off?#x", remote("h", DEFAULT_PORT, "web", b"50%25 off?#x")),
        ("standby1::web/\udcff", remote("standby1", DEFAULT_PORT, "web", b"\xff")),
    ],
)  # fmt: skip
def test_remote_addresses(text: str, expected: Remote) -> None:
    """Host, port, module and path come out as they were typed; nothing is unquoted."""
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["a", "/srv/web/", "./a::b", "dir/a::b", "./a:b", "\udcff", "~", "-"]
)
def test_local_paths(text: str) -> None:
    """What is no remote form is a path, byte for byte."""
    assert parse_address(text) == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "text",
    ["", "::web", "netsync:///web", "netsync://host:notaport/m", "netsync://host:70000/m",
     "netsync://[::1/m", "[]::m"],
)  # fmt: skip
def test_impossible_addresses_are_refused(text: str) -> None:
    """A host that is missing or a port that cannot be is a usage error, not a traceback."""
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["standby1:7901::m", "127.0.0.1:7901::m", "2001:db8::1::m", "[fe80::x]::m"]
)
def test_a_port_before_the_module_is_told_where_it_goes(text: str) -> None:
    """Also where the host could be taken for digits of an IPv6 address."""
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "netsync://HOST:PORT/MODULE/PATH, an IPv6 host in brackets" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "shown"),
    [("standby1::web", f"standby1:{DEFAULT_PORT}"), ("netsync://[::1]:99/m", "[::1]:99")],
)
def test_a_server_is_shown_with_its_port(text: str, shown: str) -> None:
    """Messages name the server so that it can be dialled again."""
    address = parse_address(text)
    assert isinstance(address, Remote)
    assert address.shown == shown
