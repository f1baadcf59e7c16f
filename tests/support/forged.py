"""Certificates that the project's own code would not issue, signed by the tests' real CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netsync.identity import files
from netsync.identity.builder import certificate_pem, key_pem, new_key
from netsync.identity.contexts import Credentials
from tests.support.certificates import certificates

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Forgery:
    """What to put into a certificate. ``self_signed`` ones are their own issuer."""

    uris: Sequence[str] = ("netsync://primary1",)
    hosts: Sequence[str] = ()
    common_name: str = "primary1"
    purposes: Sequence[x509.ObjectIdentifier] = (CLIENT,)
    self_signed: bool = False

    def made(self, issuing: Path | None = None) -> Credentials:
        """Return the certificate with its key, and the CA that the tests trust."""
        base = issuing or certificates().issuing
        ca = x509.load_pem_x509_certificate((base / files.CA).read_bytes())
        loaded = serialization.load_pem_private_key((base / files.CA_KEY).read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        key = new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier._init_without_validation(uri) for uri in self.uris
        ]
        names += [x509.DNSName(host) for host in self.hosts]
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self.self_signed else ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(self.purposes)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if not self.self_signed:
            identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
            builder = builder.add_extension(issuer, critical=False)
        certificate = builder.sign(key if self.self_signed else loaded, hashes.SHA256())
        shown = certificate_pem(certificate)
        return Credentials(base, (base / files.CA).read_bytes(), shown, key_pem(key))


def trusting(who: Credentials, ca: Credentials) -> Credentials:
    """Return ``who`` as somebody who trusts another CA: it gets past its own checks."""
    return replace(who, ca_pem=ca.ca_pem)
