"""``netsync push`` and ``netsync pull``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from netsync.cli.options import (
    TransferCommand,
    connection_options,
    options_from,
    retry_option,
    transfer_options,
)
from netsync.cli.report import (
    print_failure_json,
    print_items,
    print_json,
    print_problems,
    print_statistics,
)
from netsync.cli.run import run_until_signal
from netsync.errors import NetsyncError, OutputError, UsageError
from netsync.identity.directory import default_directory
from netsync.model import Item, Report
from netsync.modes import copy
from netsync.modes.address import Remote, parse_address
from netsync.modes.outcome import EXIT_CODES, outcome_of
from netsync.modes.session import Connection
from netsync.state.database import default_directory as default_state
from netsync.transfer.tally import Observer, Unobserved


@click.command(cls=TransferCommand)
@click.argument("paths", nargs=-1, required=True, metavar="SRC... DEST")
@transfer_options
@connection_options
@retry_option
def push(paths: tuple[str, ...], **given: Any) -> int:
    """Send SRC... to DEST, sending only what changed. DEST is remote or local."""
    return _transfer("push", paths, given)


@click.command(cls=TransferCommand)
@click.argument("paths", nargs=-1, required=True, metavar="SRC... DEST")
@transfer_options
@connection_options
@retry_option
def pull(paths: tuple[str, ...], **given: Any) -> int:
    """Fetch SRC... into DEST, fetching only what changed. SRC is remote or local."""
    return _transfer("pull", paths, given)


def _transfer(command: str, paths: tuple[str, ...], given: dict[str, Any]) -> int:
    """Run one transfer and print its results; return the exit code."""
    started = time.monotonic()
    try:
        report = _run(command, paths, given)
    except OutputError:
        raise
    except NetsyncError as error:
        if given["as_json"]:
            seconds = time.monotonic() - started
            print_failure_json(command, error, seconds, dry_run=given["dry_run"])
        raise
    _print(command, given, report, time.monotonic() - started)
    return EXIT_CODES[outcome_of(report)]


def _run(command: str, paths: tuple[str, ...], given: dict[str, Any]) -> Report:
    if len(paths) < 2:
        raise UsageError("give at least one source and a destination", op=command)
    *sources, target = map(parse_address, paths)
    local = not any(isinstance(address, Remote) for address in (*sources, target))
    options = options_from(given, local=local)
    if options.paths is not None and len(sources) != 1:
        raise UsageError("--files-from lists paths of one source", op=command)
    connection = Connection(
        given["identity"] or default_directory(), given["connect_timeout"], given["timeout"]
    )
    with observer_for(given, itemize=options.itemize and not given["quiet"]) as observer:
        state = given["state"] or default_state()
        run = copy.Run(options, connection, observer, state, given["retries"], _say)
        return run_until_signal(copy.transfer_between(command, sources, target, run))


def _say(line: str) -> None:
    click.echo(f"netsync: {line}", err=True)


class _Lines(Unobserved):
    """The observer of a run without a live display: itemized lines only."""

    def items(self, items: Sequence[Item]) -> None:
        """Print itemized lines as they come."""
        print_items(items)


def observer_for(
    given: dict[str, Any], *, itemize: bool
) -> contextlib.AbstractContextManager[Observer]:
    """Return who watches a command's transfer: a live display, or who prints the lines."""
    live = given["progress"] or given["progress_flag"]
    if given["progress"] is None and not given["progress_flag"]:
        live = sys.stderr.isatty() and not given["quiet"]
    if live:
        from netsync.cli.progress import Display  # noqa: PLC0415 - rich costs 60 ms to import

        return Display(live=True, itemize=itemize)
    return contextlib.nullcontext(_Lines() if itemize else Unobserved())


def _print(command: str, given: dict[str, Any], report: Report, seconds: float) -> None:
    print_problems(report)
    if (given["stats"] or given["verbose"]) and not given["quiet"]:
        print_statistics(report, seconds)
    if given["as_json"]:
        print_json(command, report, seconds)
