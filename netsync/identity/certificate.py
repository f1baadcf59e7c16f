"""Certificates as values: what ``netsync cert show`` prints, and what issuing looks up.

Reads expired and foreign certificates as well: it describes, and judges nothing. Costs the import
of ``cryptography``, so only the certificate commands use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from netsync.errors import ConfigError
from netsync.identity import files
from netsync.identity.name import name_in


@dataclass(frozen=True)
class Certificate:
    """A host's certificate. ``hosts`` are the DNS names and addresses it may serve under."""

    path: Path
    name: str
    hosts: tuple[str, ...]
    serial: int
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 of the DER form, in pairs of hexadecimal digits."""
    x509: x509.Certificate

    def days_left(self, now: datetime | None = None) -> int:
        """Return whole days until it ends; negative once it has."""
        return (self.not_after - (now or datetime.now(UTC))).days


def read_certificate(path: Path) -> Certificate:
    """Return the certificate in ``path``; ``ConfigError`` if it is not one of netsync's."""
    found = read_x509(path)[0]
    alternatives = _alternatives(found)
    name = name_in(alternatives.get_values_for_type(x509.UniformResourceIdentifier))
    if name is None:
        raise ConfigError(
            "the certificate does not carry exactly one netsync:// name",
            op="read",
            where=str(path),
        )
    addresses = alternatives.get_values_for_type(x509.IPAddress)
    hosts = (*alternatives.get_values_for_type(x509.DNSName), *map(str, addresses))
    digest = found.fingerprint(hashes.SHA256())
    return Certificate(
        path=path,
        name=name,
        hosts=hosts,
        serial=found.serial_number,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        fingerprint=digest.hex(":"),
        x509=found,
    )


def read_x509(path: Path) -> list[x509.Certificate]:
    """Return the certificates in the PEM file ``path``, at least one."""
    try:
        return x509.load_pem_x509_certificates(files.read_checked(path))
    except ValueError:
        raise ConfigError("no PEM certificate", op="read", where=str(path)) from None


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return x509.SubjectAlternativeName([])
    return extension.value
