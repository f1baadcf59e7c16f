"""``netsync push`` and ``netsync pull``: what they are asked, and what they say at their end.

What a transfer needs is imported after that is known (``cli/transfer.py``): it takes longer than to
read a tree, and the tree can be read meanwhile.
"""

from __future__ import annotations

import contextlib
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
    print_json,
    print_problems,
    print_statistics,
)
from netsync.errors import NetsyncError, OutputError, UsageError
from netsync.model import Options, Report
from netsync.modes.address import Remote, parse_address
from netsync.modes.outcome import EXIT_CODES, outcome_of
from netsync.tree.ahead import Ahead, may_read_ahead, presumed


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
    with _reading_ahead(sources, target, options) as ahead:
        from netsync.cli.transfer import transfer  # noqa: PLC0415 - the tree is read meanwhile

        return transfer(command, sources, target, options, given, ahead)


def _reading_ahead(
    sources: Sequence[Remote | bytes], target: Remote | bytes, options: Options
) -> contextlib.AbstractContextManager[Ahead | None]:
    """Read the source of a push from now on, if that may be of use."""
    source = sources[0]
    if len(sources) > 1 or isinstance(source, Remote) or not isinstance(target, Remote):
        return contextlib.nullcontext()
    if not may_read_ahead(options):
        return contextlib.nullcontext()
    return Ahead(source, presumed(options))


def _print(command: str, given: dict[str, Any], report: Report, seconds: float) -> None:
    print_problems(report)
    if (given["stats"] or given["verbose"]) and not given["quiet"]:
        print_statistics(report, seconds)
    if given["as_json"]:
        print_json(command, report, seconds)
