"""Where a server listens: a host and a TCP port, as people write them."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from netsync.errors import UsageError

DEFAULT_PORT: Final = 7873
"""Beside rsync's 873, above the ports only root may open."""

PORT_MAX: Final = 65535

_FORM: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?")


class Address(Struct, frozen=True):
    """A host name or literal address, and a port. Shown with brackets around IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str, default_port: int | None = DEFAULT_PORT) -> Address:
    """Return the address in ``HOST[:PORT]`` or ``[V6][:PORT]``.

    An empty host means every interface, for listening. Raises ``UsageError`` for anything else,
    and for a missing port if ``default_port`` is None.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        hint = "write HOST:PORT, and IPv6 addresses in brackets: [::1]:7873"
        raise UsageError("not an address", op="read", where=text, hint=hint)
    host = match["v6"] if match["v6"] is not None else match["host"]
    if match["port"] is None and default_port is None:
        raise UsageError("the port is missing", op="read", where=text, hint="write HOST:PORT")
    port = int(match["port"]) if match["port"] is not None else default_port
    assert port is not None
    if port > PORT_MAX:
        raise UsageError(f"ports end at {PORT_MAX}", op="read", where=text)
    return Address("" if host == "*" else host, port)
