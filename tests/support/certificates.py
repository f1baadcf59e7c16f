"""Identities for tests: made once per session, with real keys and the real issuing code.

``certificates()`` costs some 20 ms the first time and nothing afterwards. The directories belong
to everybody: a test that changes one makes its own with ``issue``.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from netsync.identity import authority, files
from netsync.identity.builder import Subject
from netsync.identity.contexts import Credentials
from netsync.identity.directory import Identity, load_identity

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts of every server certificate made here."""

SERVER_NAME = "standby1"
CLIENT_NAME = "primary1"
OTHER_NAME = "auditor"


@dataclass(frozen=True)
class Certificates:
    """One CA with a server and two clients, and a client of an unrelated CA."""

    issuing: Path
    server: Identity
    client: Identity
    other: Identity
    stranger: Identity


@functools.cache
def certificates() -> Certificates:
    """Return the session's identities."""
    base = Path(tempfile.mkdtemp(prefix="netsync-test-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    issuing = base / "server"
    authority.create(issuing, Subject(SERVER_NAME, LOOPBACK))
    authority.create(base / "stranger", Subject(CLIENT_NAME, LOOPBACK))
    for name in (CLIENT_NAME, OTHER_NAME):
        authority.issue(issuing, Subject(name), base / name)
    return Certificates(
        issuing=issuing,
        server=load_identity(issuing),
        client=load_identity(base / CLIENT_NAME),
        other=load_identity(base / OTHER_NAME),
        stranger=load_identity(base / "stranger"),
    )


def make_authority(directory: Path, name: str = SERVER_NAME) -> Path:
    """Make a CA of the test's own in ``directory``, which is returned."""
    authority.create(directory, Subject(name, LOOPBACK))
    return directory


def issue(
    out: Path,
    name: str = CLIENT_NAME,
    *,
    hosts: tuple[str, ...] = (),
    issuing: Path | None = None,
    starts_in_days: float = 0,
    days: float = 30,
) -> Credentials:
    """Issue an identity into ``out``; unlike ``load_identity``, do not ask whether it is valid."""
    subject = Subject(name, hosts, timedelta(days=days))
    start = datetime.now(UTC) + timedelta(days=starts_in_days)
    authority.issue(issuing or certificates().issuing, subject, out, start)
    return credentials(out)


def credentials(directory: Path) -> Credentials:
    """Return what is in ``directory``, unchecked."""
    return Credentials(
        directory=directory,
        ca_pem=(directory / files.CA).read_bytes(),
        certificate_pem=(directory / files.CERTIFICATE).read_bytes(),
        key_pem=(directory / files.KEY).read_bytes(),
    )
