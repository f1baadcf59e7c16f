"""Addresses as a user writes them: a local path, ``HOST::MODULE/PATH`` or a netsync URL."""

from __future__ import annotations

import os
import socket
import urllib.parse
from typing import Final

from msgspec import Struct

from netsync.errors import UsageError
from netsync.net.address import DEFAULT_PORT
from netsync.wire.messages import Place

_SCHEME: Final = "netsync://"


class Remote(Struct, frozen=True):
    """A path in a module of a server. ``path`` keeps a trailing slash."""

    host: str
    port: int
    place: Place

    @property
    def shown(self) -> str:
        """The server, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Remote | bytes:
    """Return a ``Remote``, or the bytes of a local path. Raises ``UsageError``."""
    if not text:
        raise UsageError("an address is empty", hint="give a path or HOST::MODULE/PATH")
    if text.startswith(_SCHEME):
        return _parse_url(text)
    if text.startswith("["):
        host, separator, rest = text[1:].partition("]::")
    else:
        host, separator, rest = text.partition("::")
    if separator and "/" not in host:
        return _remote(host, DEFAULT_PORT, rest, text)
    if ":" in text.partition("/")[0]:
        raise UsageError(
            "neither a path nor an address",
            op="read address",
            where=text,
            hint="write HOST::MODULE/PATH or netsync://HOST:PORT/MODULE/PATH, or ./NAME for a file",
        )
    return os.fsencode(text)


def _parse_url(text: str) -> Remote:
    authority, _, rest = text[len(_SCHEME) :].partition("/")
    try:
        parts = urllib.parse.urlsplit(f"//{authority}")
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError as error:
        raise UsageError(
            "host or port is wrong",
            op="read address",
            where=text,
            hint="the port is a number from 1 to 65535, IPv6 goes in brackets",
        ) from error
    return _remote(host, port, rest, text)


def _remote(host: str, port: int, rest: str, text: str) -> Remote:
    if not host:
        raise UsageError("the host is missing", op="read address", where=text)
    if ":" in host and not _is_ipv6(host):
        raise UsageError(
            "a port does not go there",
            op="read address",
            where=text,
            hint="write netsync://HOST:PORT/MODULE/PATH, an IPv6 host in brackets",
        )
    module, _, path = rest.partition("/")
    if not module.isprintable():
        raise UsageError("no module can have this name", op="read address", where=text)
    if "/" in rest and not path:
        path = "/"
    return Remote(host, port, Place(module, os.fsencode(path)))


def _is_ipv6(host: str) -> bool:
    """Tell whether ``host`` is an address with colons in it, with or without its zone."""
    try:
        socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True
