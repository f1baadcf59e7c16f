"""``netsync cert``: the private CA and the certificates of the hosts.

Arguments in, one or a few plain lines out; all the work is in ``identity``. What it needs of
``cryptography`` is imported when a command runs, not when the command line is put together,
because a push must not wait for it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from netsync.errors import UsageError
from netsync.identity import files
from netsync.identity.directory import default_directory
from netsync.identity.revocation import serial_text

if TYPE_CHECKING:
    from netsync.identity.certificate import Certificate

SCHEMA: Final = "netsync.certificate/1"

DAYS_MAX: Final = 3652
"""Days a host certificate may last: as long as the CA."""

_directory = click.option(
    "--identity",
    "identity",
    type=click.Path(path_type=Path),
    envvar="NETSYNC_IDENTITY",
    default=default_directory,
    show_default="/etc/netsync/identity for root",
    help="Identity directory.",
)
_days = click.option(
    "--days",
    type=click.IntRange(1, DAYS_MAX),
    default=365,
    show_default=True,
    help="Days the certificate lasts.",
)
_hosts = click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Name or address it may serve under; repeat for more. Without, it can only connect.",
)
_out = click.Path(path_type=Path)


@click.group()
def cert() -> None:
    """Make and manage the certificates hosts know each other by."""


@cert.command()
@_directory
@click.option("--name", required=True, help="Name of this host's certificate.")
@_hosts
@_days
def init(identity: Path, name: str, hosts: tuple[str, ...], days: int) -> None:
    """Make a CA, and this host's certificate."""
    from netsync.identity import authority  # noqa: PLC0415 - see above
    from netsync.identity.builder import Subject  # noqa: PLC0415

    made = authority.create(identity, Subject(name, hosts, timedelta(days=days)))
    click.echo(f"made a CA and the certificate of {_summary(made)}")
    click.echo(f"keep {identity / files.CA_KEY} on this host only")


@cert.command()
@_directory
@click.argument("name")
@_hosts
@_days
@click.option("--out", required=True, type=_out, help="New identity directory for that host.")
def issue(identity: Path, name: str, hosts: tuple[str, ...], days: int, out: Path) -> None:
    """Make the identity directory of another host."""
    from netsync.identity import authority  # noqa: PLC0415
    from netsync.identity.builder import Subject  # noqa: PLC0415

    made = authority.issue(identity, Subject(name, hosts, timedelta(days=days)), out)
    click.echo(f"issued the certificate of {_summary(made)}")
    click.echo(f"move {out} to that host, as its identity directory")


@cert.command()
@_directory
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(identity: Path, as_json: bool) -> None:
    """Print what this host's certificate says."""
    from netsync.identity.certificate import read_certificate  # noqa: PLC0415

    facts = _facts(read_certificate(identity / files.CERTIFICATE))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, **facts}))
        return
    for key, value in facts.items():
        text = " ".join(value) or "none: can connect, not serve" if key == "hosts" else value
        click.echo(f"{key.replace('_', ' '):<12} {text}")


@cert.command()
@_directory
@_days
@click.option("--out", type=_out, help="Another host's identity directory, or a copy of it.")
def renew(identity: Path, days: int, out: Path | None) -> None:
    """Replace a key and its certificate by new ones for the same name and hosts.

    Run it on the issuing host: for its own certificate, or with --out for another host's.
    """
    from netsync.identity import authority  # noqa: PLC0415

    target = out or identity
    if not (identity / files.CA_KEY).exists():
        raise UsageError(
            f"{files.CA_KEY} is not here, only on the issuing host",
            op="renew",
            where=str(target),
            hint="run there: netsync cert renew --out DIR, DIR being a copy of this directory",
        )
    made = authority.renew(identity, target, timedelta(days=days))
    click.echo(f"renewed the certificate of {_summary(made)}")
    if target != identity:
        click.echo(f"move the files in {target} to that host, then reload it (SIGHUP)")
    else:
        click.echo("reload a running netsync serve with SIGHUP")


@cert.command()
@_directory
@click.argument("what", metavar="NAME|SERIAL|PATH")
def revoke(identity: Path, what: str) -> None:
    """Trust a certificate no more: all of a NAME, one SERIAL, or the one at PATH."""
    from netsync.identity import authority  # noqa: PLC0415

    meant, fresh = authority.revoke(identity, what)
    path = identity / files.REVOKED
    for serial in meant:
        state = "revoked" if serial in fresh else "already revoked"
        click.echo(f"{state} {serial_text(serial)}")
    click.echo(f"copy {path} into the identity directory of every host, then reload it (SIGHUP)")


def _summary(made: Certificate) -> str:
    hosts = f" for {' '.join(made.hosts)}" if made.hosts else ", which can connect but not serve"
    return f"{made.name}{hosts}, valid until {made.not_after:%Y-%m-%d}, in {made.path.parent}"


def _facts(found: Certificate) -> dict[str, Any]:
    return {
        "name": found.name,
        "hosts": list(found.hosts),
        "serial": serial_text(found.serial),
        "not_before": found.not_before.isoformat(),
        "not_after": found.not_after.isoformat(),
        "days_left": found.days_left(),
        "fingerprint": found.fingerprint,
    }
