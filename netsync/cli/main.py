"""The command line's root: finds the command, runs it, and turns errors into one line.

Commands are imported when they are named, so that a push does not pay for what it does not use.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Final

import click

from netsync import __version__
from netsync.errors import InterruptedBySignal, NetsyncError, OutputError, UsageError, unmapped

COMMANDS: Final = {
    "serve": ("netsync.cli.serve", "serve"),
    "push": ("netsync.cli.copy", "push"),
    "pull": ("netsync.cli.copy", "pull"),
    "watch": ("netsync.cli.watch", "watch"),
    "verify": ("netsync.cli.verify", "verify"),
    "commit": ("netsync.cli.commit", "commit"),
    "ls": ("netsync.cli.ls", "ls"),
    "mirror": ("netsync.cli.mirror", "mirror"),
    "cert": ("netsync.cli.cert", "cert"),
    "config": ("netsync.cli.config", "config"),
    "run": ("netsync.cli.jobs", "run"),
    "wait": ("netsync.cli.jobs", "wait"),
    "promote": ("netsync.cli.promote", "promote"),
    "status": ("netsync.cli.status", "status"),
    "check": ("netsync.cli.status", "check"),
    "events": ("netsync.cli.status", "events"),
}


class _Commands(click.Group):
    """The commands, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import platform  # noqa: PLC0415 - only --version pays for these
    import ssl  # noqa: PLC0415

    from netsync.delta import kernel  # noqa: PLC0415
    from netsync.wire.messages import PROTOCOL  # noqa: PLC0415

    click.echo(
        f"netsync {__version__}, protocol {PROTOCOL}, Python {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION}, delta kernel {kernel.NAME}"
    )
    ctx.exit()


@click.group(cls=_Commands, no_args_is_help=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show versions and which delta kernel runs.",
)
def netsync() -> None:
    """Keep a standby host ready to take over."""


def main() -> None:
    """Run the command line and exit with the contract's code.

    A command that has nothing to do should take no time. The collector finds no garbage among
    modules and types, so it rests while they are made; and taking them apart again at the end,
    which the interpreter does with care, is of use to nobody.
    """
    gc.disable()
    code = run(sys.argv[1:])
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # the interpreter says what is to be said of an output that is gone
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    try:
        code = netsync.main(arguments, prog_name="netsync", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = UsageError.exit_code
    except click.ClickException as error:
        code = _say(UsageError(error.format_message(), hint=_usage_hint(error)))
    except (click.Abort, KeyboardInterrupt):
        code = _say(InterruptedBySignal("interrupted"))
    except OutputError as error:
        _drop_output()
        code = InterruptedBySignal.exit_code if error.gone else _say(error)
    except NetsyncError as error:
        code = _say(error)
    except OSError as error:
        code = _say(unmapped(error))
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Let what is still buffered for stdout go nowhere, so that the interpreter ends in peace."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see '{context.command_path} --help'" if context is not None else ""


def _say(error: NetsyncError) -> int:
    click.echo(f"netsync: {error}", err=True)
    return error.exit_code
