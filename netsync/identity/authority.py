"""The private CA: making identity directories, and taking trust away again.

The directory with ``ca-key.pem`` is the issuing host's. Besides its own identity it holds
``issued``, one line a certificate (serial, name, end), written before the certificate is handed
out, so that whatever exists can be revoked by name. Nothing that exists is overwritten, except by
``renew``, whose order of writing ``directory`` describes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netsync.errors import ConfigError, UsageError
from netsync.identity import builder, files
from netsync.identity.builder import Authority, Subject
from netsync.identity.certificate import Certificate, read_certificate, read_x509
from netsync.identity.revocation import add_revoked, parse_serial, serial_text

SERIAL_DIGITS_MIN: Final = 16
"""Hexadecimal digits below which a word is taken for a name: ``cafe`` is no serial."""


def create(directory: Path, subject: Subject, now: datetime | None = None) -> Certificate:
    """Make a CA in ``directory``, and the identity of this host beside it."""
    _refuse_existing(directory, (files.CA, files.CA_KEY, files.CERTIFICATE, files.KEY))
    files.make_directory(directory)
    authority = builder.make_authority(now)
    files.write_new(directory / files.CA_KEY, builder.key_pem(authority.key), files.SECRET)
    ca_pem = builder.certificate_pem(authority.certificate)
    files.write_new(directory / files.CA, ca_pem, files.PUBLIC)
    return _deliver(authority, directory, subject, directory, now)


def issue(directory: Path, subject: Subject, out: Path, now: datetime | None = None) -> Certificate:
    """Make the identity directory ``out`` of another host, signed by the CA in ``directory``."""
    authority = load_authority(directory)
    _refuse_existing(out, (files.CA, files.CERTIFICATE, files.KEY))
    files.make_directory(out)
    files.write_new(out / files.CA, files.read_checked(directory / files.CA), files.PUBLIC)
    return _deliver(authority, directory, subject, out, now)


def renew(
    directory: Path,
    out: Path,
    lifetime: timedelta = builder.HOST_LIFETIME,
    now: datetime | None = None,
) -> Certificate:
    """Replace key and certificate in ``out`` by new ones for the same name and hosts.

    ``out`` may be ``directory`` itself or a copy of another host's directory, of which
    ``cert.pem`` is enough. The old certificate stays valid until it ends or is revoked.
    """
    authority = load_authority(directory)
    old = read_certificate(out / files.CERTIFICATE)
    _check_issued_here(directory, old)
    subject = Subject(old.name, old.hosts, lifetime)
    key = builder.new_key()
    certificate = builder.make_certificate(authority, subject, key.public_key(), now)
    _record(directory, certificate)
    with files.locked(out):
        if out != directory:
            files.replace(out / files.CA, files.read_checked(directory / files.CA), files.PUBLIC)
        files.replace(out / files.NEXT_KEY, builder.key_pem(key), files.SECRET)
        files.replace(out / files.CERTIFICATE, builder.certificate_pem(certificate), files.PUBLIC)
        files.rename(out / files.NEXT_KEY, out / files.KEY)
    return read_certificate(out / files.CERTIFICATE)


def revoke(directory: Path, what: str) -> tuple[list[int], list[int]]:
    """Add certificates to ``revoked`` in ``directory``; return (all meant, those newly added).

    ``what`` is a name this host issued (all its certificates), a serial, or the path of a
    certificate or of a directory that holds one.
    """
    serials, note = _meant(directory, what)
    return serials, add_revoked(directory, serials, note)


def load_authority(directory: Path) -> Authority:
    """Return the CA of the issuing host: the certificate in ``ca.pem`` that fits its key."""
    files.check_directory(directory)
    path = directory / files.CA_KEY
    data = files.read_checked(path, files.OTHERS_MAY_READ)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise ConfigError("no PEM private key, or encrypted", op="read", where=str(path)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("not an elliptic curve key", op="use", where=str(path))
    for certificate in read_x509(directory / files.CA):
        if certificate.public_key() == key.public_key():
            return Authority(certificate, key)
    raise ConfigError(f"no certificate in {files.CA} belongs to it", op="use", where=str(path))


def issued(directory: Path) -> list[tuple[int, str]]:
    """Return (serial, name) of every certificate issued here, oldest first."""
    path = directory / files.ISSUED
    if not path.exists():
        return []
    rows: list[tuple[int, str]] = []
    for line in files.read_checked(path).decode("ascii", "replace").splitlines():
        words = line.split()
        serial = parse_serial(words[0]) if words else None
        if serial is not None and len(words) > 1:
            rows.append((serial, words[1]))
    return rows


def _deliver(
    authority: Authority, directory: Path, subject: Subject, out: Path, now: datetime | None
) -> Certificate:
    key = builder.new_key()
    certificate = builder.make_certificate(authority, subject, key.public_key(), now)
    _record(directory, certificate)
    files.write_new(out / files.KEY, builder.key_pem(key), files.SECRET)
    files.write_new(out / files.CERTIFICATE, builder.certificate_pem(certificate), files.PUBLIC)
    return read_certificate(out / files.CERTIFICATE)


def _record(directory: Path, certificate: x509.Certificate) -> None:
    path = directory / files.ISSUED
    name = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    end = certificate.not_valid_after_utc
    line = f"{serial_text(certificate.serial_number)} {name} {end:%Y-%m-%d}\n"
    with files.locked(directory):
        old = files.read_checked(path) if path.exists() else b""
        files.replace(path, old + line.encode("ascii"), files.PUBLIC)


def _refuse_existing(directory: Path, names: tuple[str, ...]) -> None:
    for name in names:
        path = directory / name
        if path.exists() or path.is_symlink():
            raise UsageError(
                "it exists already and is never overwritten",
                op="write",
                where=str(path),
                hint="choose another directory, or use netsync cert renew",
            )


def _check_issued_here(directory: Path, certificate: Certificate) -> None:
    for ca in read_x509(directory / files.CA):
        try:
            certificate.x509.verify_directly_issued_by(ca)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise UsageError(f"not issued by the CA in {directory}", op="use", where=str(certificate.path))


def _meant(directory: Path, what: str) -> tuple[list[int], str]:
    rows = issued(directory)
    named = [serial for serial, name in rows if name == what]
    if named:
        return named, what
    serial = parse_serial(what)
    known = dict(rows)
    if serial is not None and serial in known:
        return [serial], known[serial]
    path = Path(what)
    if path.is_dir():
        path /= files.CERTIFICATE
    if path.is_file():
        certificate = read_certificate(path)
        _check_issued_here(directory, certificate)
        return [certificate.serial], certificate.name
    if serial is not None and len(what.replace(":", "")) >= SERIAL_DIGITS_MIN:
        return [serial], "by serial"
    raise UsageError(
        f"{what!r} is no name issued here, no serial and no certificate file",
        hint="netsync cert show prints a certificate's serial",
    )
