"""Loading an identity: the certificate, the key and the CA this host speaks with.

``load_identity`` answers with a value that is known to work, or says which file is wrong and what
to do. To find out, it shows the certificate to itself: a TLS handshake in memory, in which the
very contexts used later judge chain, validity, purpose and key, and the standard library decodes
the certificate. That takes about 5 ms, where importing ``cryptography.x509`` to ask the same
questions takes 50 ms, which every push would have to wait for.

A renewal replaces two files and may be seen, or cut, between them. The new key is therefore
written as ``key.pem.new`` first, then the certificate, then the key is renamed; whoever finds a
certificate that does not fit ``key.pem`` tries that file, and reads again if a renewal
was just passing.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from netsync.defaults import identity_directory
from netsync.errors import ConfigError, RefusedError
from netsync.identity import files
from netsync.identity.contexts import Credentials, probe_contexts
from netsync.identity.name import name_in
from netsync.identity.revocation import read_revoked

READS: Final = 3
"""Times the files are read: two renewals within a few milliseconds do not happen."""

_NOT_YET_VALID: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NO_ISSUER: Final = frozenset({2, 7, 18, 19, 20, 21, 24})
"""OpenSSL's codes for a chain that does not end, by a valid signature, at a CA it was given."""

_MISMATCH: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})


@dataclass(frozen=True)
class Identity(Credentials):
    """Who this host is and whom it trusts, read and checked once; a reload makes a new value.

    ``revoked`` holds the serials this host's owner no longer trusts.
    """

    name: str
    serial: int
    revoked: frozenset[int]


class _KeyMismatch(Exception):  # noqa: N818 - a signal inside this module, never seen outside
    """Certificate and key belong to different pairs."""


def default_directory() -> Path:
    """Return where the identity is unless the user says otherwise."""
    return Path(identity_directory())


def load_identity(directory: Path) -> Identity:
    """Return the identity in ``directory``.

    Raises ``ConfigError`` naming the file that is missing, unsafe or wrong, and ``RefusedError``
    if the certificate or its CA has expired: no peer would accept it.
    """
    files.check_directory(directory)
    for _ in range(READS):
        for key_name in (files.KEY, files.NEXT_KEY):
            if key_name == files.NEXT_KEY and not (directory / key_name).exists():
                continue
            candidate = _read(directory, key_name)
            try:
                return _probe(candidate)
            except _KeyMismatch:
                continue
    raise ConfigError(
        f"it does not belong to the certificate in {files.CERTIFICATE}",
        op="use",
        where=str(directory / files.KEY),
        hint="copy both from the same place, or issue a new certificate",
    )


def _read(directory: Path, key_name: str) -> Credentials:
    credentials = Credentials(
        directory=directory,
        ca_pem=files.read_checked(directory / files.CA),
        certificate_pem=files.read_checked(directory / files.CERTIFICATE),
        key_pem=files.read_checked(directory / key_name, files.OTHERS_MAY_READ),
    )
    key_path = str(directory / key_name)
    if b"-----BEGIN CERTIFICATE-----" not in credentials.certificate_pem:
        raise ConfigError("no PEM certificate", op="read", where=str(credentials.certificate_path))
    if b"PRIVATE KEY-----" not in credentials.key_pem:
        raise ConfigError("no PEM private key", op="read", where=key_path)
    if b"ENCRYPTED" in credentials.key_pem:
        raise ConfigError(
            "the key is encrypted, and a daemon has nobody to ask for the password",
            op="read",
            where=key_path,
            hint="store it in clear, readable by its owner only",
        )
    return credentials


def _probe(credentials: Credentials) -> Identity:
    """Return the identity, having made sure that peers would accept it."""
    try:
        details = _shown_to_itself(*probe_contexts(credentials))
    except ssl.SSLCertVerificationError as error:
        raise _unusable(credentials, error) from error
    except ssl.SSLError as error:
        if error.reason in _MISMATCH:
            raise _KeyMismatch from None
        raise ConfigError(
            f"certificate or key cannot be used: {error.reason or error}",
            op="use",
            where=f"{credentials.certificate_path} with {credentials.key_path.name}",
        ) from error
    name = name_in(value for kind, value in details.get("subjectAltName", ()) if kind == "URI")
    if name is None:
        raise ConfigError(
            "the certificate does not carry exactly one netsync:// name",
            op="use",
            where=str(credentials.certificate_path),
            hint="issue one with netsync cert issue",
        )
    return Identity(
        directory=credentials.directory,
        ca_pem=credentials.ca_pem,
        certificate_pem=credentials.certificate_pem,
        key_pem=credentials.key_pem,
        name=name,
        serial=int(details["serialNumber"], 16),
        revoked=read_revoked(credentials.directory),
    )


def _shown_to_itself(server: ssl.SSLContext, client: ssl.SSLContext) -> Mapping[str, Any]:
    """Run a handshake in memory; return the client's certificate as the server decoded it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    connecting = client.wrap_bio(to_client, to_server)
    for side in (connecting, accepting, connecting):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    accepting.do_handshake()
    return accepting.getpeercert() or {}


def _unusable(credentials: Credentials, error: ssl.SSLCertVerificationError) -> Exception:
    """Say what a peer would hold against this certificate, and whose fault it is."""
    op, where = "use", str(credentials.certificate_path)
    if error.verify_code == _EXPIRED:
        if _all_expired(credentials):
            return RefusedError(
                "the CA has expired",
                op=op,
                where=str(credentials.ca_path),
                hint="make a new CA and issue all certificates again, see certs/README.md",
            )
        return RefusedError(
            "the certificate has expired",
            op=op,
            where=where,
            hint="renew it on the issuing host: netsync cert renew",
        )
    if error.verify_code == _NOT_YET_VALID:
        return ConfigError(
            "the certificate is not valid yet", op=op, where=where, hint="check the clock"
        )
    if error.verify_code in _NO_ISSUER:
        return ConfigError(
            f"the certificate was not issued by the CA in {credentials.ca_path.name}",
            op=op,
            where=where,
            hint="copy ca.pem, cert.pem and key.pem from the same place",
        )
    return ConfigError(f"peers would reject it: {error.verify_message}", op=op, where=where)


def _all_expired(credentials: Credentials) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.ca_pem.decode("ascii"))
    now = datetime.now(UTC).timestamp()
    ends = [ssl.cert_time_to_seconds(str(ca["notAfter"])) for ca in context.get_ca_certs()]
    return all(end < now for end in ends)
