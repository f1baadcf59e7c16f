"""``netsync serve``."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import msgspec
import trio

from netsync.cli.run import collect
from netsync.config.file import DEFAULT_FILE, DEFAULT_LISTEN, Config, load_config, module_from_flag
from netsync.daemon import run_daemon
from netsync.delta import kernel
from netsync.errors import unwrapped


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help=f"TOML file ({DEFAULT_FILE}).")
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen.")
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    envvar="NETSYNC_IDENTITY",
    help="Directory with ca.pem, cert.pem and key.pem.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="NETSYNC_STATE",
    help="Directory that remembers what must outlive a session.",
)
@click.option("--module", "modules", multiple=True, metavar="NAME=PATH[:ro|:wo]",
              help="Serve PATH as NAME to every certificate of this CA.")  # fmt: skip
def serve(
    config: Path | None,
    listen: tuple[str, ...],
    identity: Path | None,
    state: Path | None,
    modules: tuple[str, ...],
) -> None:
    """Serve modules and carry out jobs until SIGTERM; SIGHUP reads configuration and keys again."""
    logging.basicConfig(level=logging.INFO, format="netsync: %(message)s")

    def read_config() -> Config:
        found = _read(config, has_modules=bool(modules))
        flagged = {module.name: module for module in map(module_from_flag, modules)}
        return msgspec.structs.replace(
            found,
            listen=listen or found.listen,
            identity=identity or found.identity,
            modules={**found.modules, **flagged},
            state=state or found.state,
            given={**found.given, "server.listen": listen} if listen else found.given,
        )

    def announce(line: str) -> None:
        click.echo(line, err=True)

    click.echo(f"delta kernel: {kernel.NAME}", err=True)
    with unwrapped():
        collect()
        trio.run(run_daemon, read_config, announce)


def _read(file: Path | None, *, has_modules: bool) -> Config:
    """Read the named file; the default one only if it is there or nothing else says what to do."""
    if file is None and (has_modules or not DEFAULT_FILE.exists()):
        return Config((DEFAULT_LISTEN,), None, {})
    return load_config(file or DEFAULT_FILE)
