"""Running a push or a pull: who is asked, who watches, and the program that waits for its end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from netsync.cli.report import print_items
from netsync.cli.run import run_until_signal
from netsync.identity.directory import default_directory
from netsync.model import Item, Options, Report
from netsync.modes import copy
from netsync.modes.address import Remote
from netsync.modes.session import Connection
from netsync.state.database import default_directory as default_state
from netsync.transfer.tally import Observer, Unobserved
from netsync.tree.ahead import Ahead


def transfer(
    command: str,
    sources: Sequence[Remote | bytes],
    target: Remote | bytes,
    options: Options,
    given: dict[str, Any],
    ahead: Ahead | None,
) -> Report:
    """Run one transfer to its end and return its report. Raises ``NetsyncError``."""
    connection = Connection(
        given["identity"] or default_directory(), given["connect_timeout"], given["timeout"]
    )
    with observer_for(given, itemize=options.itemize and not given["quiet"]) as observer:
        state = given["state"] or default_state()
        run = copy.Run(options, connection, observer, state, given["retries"], _say, ahead=ahead)
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
