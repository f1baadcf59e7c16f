"""Keys and certificates in memory: what goes into them, and why. No file is touched here.

Keys are on the curve P-256. Ed25519 would do as well in TLS 1.3, but OpenSSL signs and verifies
nearly twice as fast with P-256 (32,000 and 12,000 against 17,000 and 6,600 a second),
and FIPS builds and hardware keys know it everywhere.

The profile satisfies OpenSSL's strict checks: key identifiers both ways, critical constraints, key
usage. A host certificate carries its name as SAN URI and its hosts as SAN names and addresses;
only with hosts may it act as a server.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netsync.errors import RefusedError, UsageError
from netsync.identity.name import NAME_RULE, is_name, uri_of

CA_LIFETIME: Final = timedelta(days=3652)
"""Ten years: a CA outlives the machines; rolling it over means visiting all of them."""

HOST_LIFETIME: Final = timedelta(days=365)
"""One year: long enough to renew by hand, short enough that a forgotten copy dies."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""Certificates start this much in the past, for peers whose clock is behind (Kerberos' figure)."""

_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)


@dataclass(frozen=True)
class Authority:
    """A CA that can sign: certificate and private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Subject:
    """What a certificate is issued for."""

    name: str
    hosts: tuple[str, ...] = ()
    lifetime: timedelta = HOST_LIFETIME

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise UsageError(f"{self.name!r} is no certificate name", hint=f"use {NAME_RULE}")
        if self.lifetime <= timedelta():
            raise UsageError("a certificate must last at least a day")
        for host in self.hosts:
            _general_name(host)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return ``key`` as it is stored: PKCS #8, not encrypted, for a daemon has nobody to ask."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return ``certificate`` as it is stored."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def make_authority(now: datetime | None = None) -> Authority:
    """Return a new CA that starts at ``now`` (default: the clock)."""
    key = new_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # Two CAs stand side by side during a rollover, so the name says which one it is.
    name = _common_name(f"netsync CA {identifier.digest[:4].hex()}")
    builder = (
        _builder(key.public_key(), name, now, CA_LIFETIME)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def make_certificate(
    authority: Authority,
    subject: Subject,
    key: ec.EllipticCurvePublicKey,
    now: datetime | None = None,
) -> x509.Certificate:
    """Return a certificate for ``key``, ending with the CA at the latest."""
    issuer = authority.certificate
    remaining = issuer.not_valid_after_utc - (now or datetime.now(UTC))
    if remaining <= timedelta():
        raise RefusedError("the CA has expired", hint="make a new one, see certs/README.md")
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if subject.hosts:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    names = [
        x509.UniformResourceIdentifier(uri_of(subject.name)),
        *map(_general_name, subject.hosts),
    ]
    builder = (
        _builder(key, _common_name(subject.name), now, min(subject.lifetime, remaining))
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    key: ec.EllipticCurvePublicKey, subject: x509.Name, now: datetime | None, lifetime: timedelta
) -> x509.CertificateBuilder:
    start = (now or datetime.now(UTC)).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    """Return ``host`` as an address if it is one, else as a DNS name; ``UsageError`` if neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    name = host.lower().rstrip(".")
    if not _HOST_NAME.fullmatch(name):
        raise UsageError(
            f"{host!r} is no host name or address",
            hint="give the name or address clients will dial, without a port",
        )
    return x509.DNSName(name)
