"""TLS contexts from an identity: TLS 1.3 only, certificates both ways, one private CA.

A context is built whole from the bytes an identity holds and never changed afterwards. On
reload a new identity is loaded and new contexts are made: changing a live one is full of surprises
(a second revocation list of the same date is ignored, for one). Because the bytes come from
the identity and not from the files again, key and certificate always fit and were checked.

OpenSSL reads a chain from a file name only, so the bytes pass through an anonymous file in
memory that no name leads to.

Which cipher is used is OpenSSL's choice, usually AES-256-GCM. AES-128-GCM would be some
percent cheaper, but Python before 3.15 offers no way to order the suites of TLS 1.3
(``set_ciphers`` covers TLS 1.2 only).
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from netsync.errors import ConfigError
from netsync.identity import files


@dataclass(frozen=True)
class Credentials:
    """What TLS needs of an identity directory, as bytes read once."""

    directory: Path
    ca_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)

    @property
    def ca_path(self) -> Path:
        """Where the trusted CA certificates are: one, or two during a change of CA."""
        return self.directory / files.CA

    @property
    def certificate_path(self) -> Path:
        """Where this host's certificate is."""
        return self.directory / files.CERTIFICATE

    @property
    def key_path(self) -> Path:
        """Where this host's private key is."""
        return self.directory / files.KEY


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context to accept with: every client must show a certificate of our CA."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    # A ticket would let a client come back after its certificate was revoked.
    context.num_tickets = 0
    return context


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context to connect with: the server's certificate must name the host dialled."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    context.check_hostname = True
    return context


def probe_contexts(credentials: Credentials) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return (server, client) contexts for showing an identity to itself.

    The server judges the certificate as any peer would. The client judges nothing, because a
    certificate without hosts could not pass as a server's.
    """
    client = _context(ssl.PROTOCOL_TLS_CLIENT, credentials)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server_context(credentials), client


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=credentials.ca_pem.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise ConfigError(
            "no PEM certificates in it",
            op="read",
            where=str(credentials.ca_path),
            hint="copy ca.pem from the issuing host",
        ) from None
    _load_chain(context, credentials)
    return context


def _load_chain(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Load certificate and key; ``ssl.SSLError`` if they do not fit each other."""
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(credentials.certificate_pem + b"\n" + credentials.key_pem)
        file.flush()
        # Without a password OpenSSL would ask for one on the terminal if the key is encrypted.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
