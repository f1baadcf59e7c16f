"""Who is at the other end: the name in a certificate that TLS has already found valid.

TLS proves that the peer holds a certificate of our CA; here it gets a name, and the owner's last
word: a serial in the ``revoked`` file ends the matter, on whichever side the file is. Everything
is taken from the standard library's decoded form, and only from the SAN.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from netsync.errors import RefusedError
from netsync.identity.directory import Identity
from netsync.identity.name import name_in
from netsync.identity.revocation import serial_text


class PeerName(NamedTuple):
    """The identity rights are granted to, and the certificate that proved it."""

    name: str
    serial: int


def peer_identity(tls: ssl.SSLSocket | ssl.SSLObject, identity: Identity) -> PeerName:
    """Return who the peer of the finished handshake ``tls`` is, judged by ``identity``.

    Raises ``RefusedError`` if its certificate is revoked here or does not carry exactly one name.
    """
    details = tls.getpeercert() or {}
    alternatives = details.get("subjectAltName", ())
    name = name_in(value for kind, value in _pairs(alternatives) if kind == "URI")
    serial = int(str(details.get("serialNumber", "0")), 16)
    if name is None:
        raise RefusedError(
            "the peer's certificate does not carry exactly one netsync:// name",
            hint="issue it with netsync cert issue",
        )
    if serial in identity.revoked:
        raise RefusedError(
            f"the certificate of {name} (serial {serial_text(serial)}) is revoked",
            hint=f"issue a new one, or see {identity.directory / 'revoked'}",
        )
    return PeerName(name, serial)


def _pairs(alternatives: object) -> list[tuple[str, str]]:
    if not isinstance(alternatives, tuple):
        return []
    return [pair for pair in alternatives if isinstance(pair, tuple) and len(pair) == 2]
