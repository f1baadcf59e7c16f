"""``netsync mirror``."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import trio

from netsync.cli.options import connection_options
from netsync.cli.report import put
from netsync.cli.run import collect
from netsync.cli.values import Duration
from netsync.errors import UsageError
from netsync.identity.directory import default_directory
from netsync.mirror.wanted import WantedMirror
from netsync.modes.address import Remote, parse_address
from netsync.modes.session import Connection
from netsync.names import shown
from netsync.operation import Level, Loss
from netsync.oplog.log import LogPolicy
from netsync.state.database import default_directory as default_state

if TYPE_CHECKING:
    from netsync.mirror.running import MountedMirror

_LEVELS: Final = [level.name.lower() for level in Level]
_LOSSES: Final = [loss.value for loss in Loss]
_PATH: Final = click.Path(path_type=Path)


@click.command()
@click.argument("directory", metavar="DIR", type=_PATH)
@click.argument("standbys", metavar="DEST...", nargs=-1)
@click.option(
    "--mount",
    "mountpoint",
    metavar="MOUNTPOINT",
    type=_PATH,
    help="An empty directory: programs write there, and nowhere else.",
)
@click.option(
    "--level",
    type=click.Choice(_LEVELS),
    default="durable",
    show_default=True,
    help="What an fsync waits for on the standby.",
)
@click.option(
    "--on-standby-loss",
    "loss",
    type=click.Choice(_LOSSES),
    default="block",
    show_default=True,
    help="What is done while the standby cannot be reached.",
)
@click.option(
    "--loss-timeout",
    type=Duration(),
    default=30.0,
    metavar="S",
    help="Seconds until 'error' or 'degrade' begins (30).",
)
@click.option("--sync-on-close", is_flag=True, help="Closing a written file waits like fsync.")
@click.option("--sync-names", is_flag=True, help="Creating, renaming and removing wait like fsync.")
@click.option("--epoch", type=click.IntRange(min=1), help="Write in this epoch, after a promotion.")
@click.option("--adopt", is_flag=True, help="Replace a copy that this host does not know of.")
@click.option(
    "--state",
    type=_PATH,
    envvar="NETSYNC_STATE",
    help="Directory that remembers what a standby is owed.",
)
@click.option("--forget", is_flag=True, help="The mirror of DIR is given up: remember no more.")
@connection_options
def mirror(
    directory: Path, standbys: tuple[str, ...], mountpoint: Path | None, **given: Any
) -> None:
    """Mirror DIR to DEST as programs write it through MOUNTPOINT, until SIGTERM.

    What an fsync on the mount has answered is on the disks of both hosts. Nothing else may write
    into DIR meanwhile.
    """
    if given["forget"]:
        if standbys or mountpoint:
            raise UsageError("with --forget there is neither DEST nor --mount", op="mirror")
        _forget(given["state"] or default_state(), directory)
        return
    if not standbys or mountpoint is None:
        missing = "--mount" if standbys else "DEST, the standby's place,"
        hint = "netsync mirror DIR HOST::MODULE/PATH --mount MOUNTPOINT"
        raise UsageError(f"{missing} is missing", op="mirror", hint=hint)
    _run(directory, standbys, mountpoint, given)


def _run(
    directory: Path, standbys: tuple[str, ...], mountpoint: Path, given: dict[str, Any]
) -> None:
    """Mirror until a signal. Raises ``NetsyncError``."""
    try:
        from netsync.mirror.running import run_mounted  # noqa: PLC0415 - needs the extra 'fuse'
    except ModuleNotFoundError as error:
        if error.name != "pyfuse3":
            raise
        raise UsageError(
            "the mount needs pyfuse3, which is not installed",
            op="mirror",
            hint="apt-get install fuse3 libfuse3-dev pkg-config, then pip install 'netsync[fuse]'",
        ) from error
    wanted = _wanted(directory, standbys, mountpoint, given)
    collect()
    trio.run(functools.partial(run_mounted, wanted, _say))


def _forget(state: Path, directory: Path) -> None:
    from netsync.mirror.forgetting import forget  # noqa: PLC0415 - for this alone

    source = os.path.realpath(os.fsencode(directory))
    standbys = forget(state, source)
    put(f"forgotten: {shown(source)} is mirrored no more")
    for name in standbys:
        put(f"the copy at {name} stays as it is: promote it there, or replace it with --adopt")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _wanted(
    directory: Path, standbys: tuple[str, ...], mountpoint: Path, given: dict[str, Any]
) -> MountedMirror:
    """Return what the command line asks for. Raises ``NetsyncError``."""
    from netsync.mirror.files import Safety  # noqa: PLC0415 - see above
    from netsync.mirror.running import MountedMirror  # noqa: PLC0415

    level = Level[given["level"].upper()]
    connection = Connection(
        given["identity"] or default_directory(), given["connect_timeout"], given["timeout"]
    )
    wanted = WantedMirror(
        os.path.realpath(os.fsencode(directory)),
        tuple(map(_remote, standbys)),
        connection,
        given["state"] or default_state(),
        LogPolicy(level, Loss(given["loss"]), given["loss_timeout"]),
        given["epoch"],
        given["adopt"],
    )
    safety = Safety(level, given["sync_on_close"], given["sync_names"])
    return MountedMirror(wanted, os.path.realpath(os.fsencode(mountpoint)), safety)


def _remote(text: str) -> Remote:
    address = parse_address(text)
    if isinstance(address, Remote):
        return address
    raise UsageError("the standby is a place on a netsync server", op="mirror to", where=text,
                     hint="write HOST::MODULE/PATH")  # fmt: skip
