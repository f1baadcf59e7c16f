"""``netsync verify``: a dry run that compares by content, and says what differences are from."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from netsync.cli.options import (
    TransferCommand,
    connection_options,
    options_from,
    transfer_options,
)
from netsync.cli.report import (
    print_failure_json,
    print_json,
    print_problems,
    print_statistics,
)
from netsync.cli.run import run_until_signal
from netsync.cli.transfer import observer_for
from netsync.errors import PARTIAL_EXIT, NetsyncError, OutputError
from netsync.identity.directory import default_directory
from netsync.model import Cause, Item, Report
from netsync.modes import copy
from netsync.modes.address import Remote, parse_address
from netsync.modes.outcome import EXIT_CODES, Outcome, outcome_of
from netsync.modes.session import Connection
from netsync.names import shown
from netsync.plan.differing import ROTTED, WORDS
from netsync.state.database import default_directory as default_state
from netsync.transfer.tally import Observer

_OF_WRITING: Final = frozenset({
    "inplace", "atomic", "whole_file", "block_size", "no_fsync", "changing", "size_only",
    "ignore_times", "delete_before", "max_delete", "allow_empty_source", "accept_new_source",
    "existing", "ignore_existing", "update",
})  # fmt: skip
"""Options of push and pull by which a run writes, or takes less for a difference than there is."""
_IMPLIED: Final = frozenset({
    "delete", "checksum", "dry_run", "itemize_changes", "no_sparse", "compress", "compress_flag",
    "bwlimit",
})  # fmt: skip
"""Options that are taken, and change nothing here."""
_OTHERWISE: Final = {
    "delete_excluded": "Tell what DEST has under excluded names too.",
    "backup_dir": "Leave out this directory inside DEST.",
    "state": "Directory that remembers what files were seen to hold.",
}
"""Options that are better described in other words here."""


class _VerifyCommand(TransferCommand):
    """A command with the options of a transfer that say what takes part and what counts."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._left_out = [
            each for each in self.params
            if isinstance(each, click.Option) and each.name in _OF_WRITING
        ]  # fmt: skip
        for each in self.params:
            if isinstance(each, click.Option):
                each.hidden = each.hidden or each.name in _OF_WRITING | _IMPLIED
                each.help = _OTHERWISE.get(str(each.name), each.help)

    def invoke(self, ctx: click.Context) -> Any:
        for each in self._left_out:
            source = ctx.get_parameter_source(str(each.name))
            if source is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{each.opts[-1]} means nothing to a comparison", ctx)
        return super().invoke(ctx)


@click.command(cls=_VerifyCommand)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DEST")
@click.option("--ignore-extra", is_flag=True, help="Do not tell what only DEST has.")
@transfer_options
@connection_options
def verify(source: str, target: str, **given: Any) -> int:
    """Compare SRC with DEST by content and change nothing; exit 23 if anything differs.

    Both sides read their files from disk. What only DEST has is told as deleted (-).
    """
    started = time.monotonic()
    try:
        report, causes = _run(source, target, given)
    except OutputError:
        raise
    except NetsyncError as error:
        if given["as_json"]:
            print_failure_json("verify", error, time.monotonic() - started, dry_run=True)
        raise
    seconds = time.monotonic() - started
    print_problems(report)
    if (given["stats"] or given["verbose"]) and not given["quiet"]:
        print_statistics(report, seconds)
    outcome = outcome_of(report)
    if differs(report):
        outcome = Outcome.PARTIAL
    if given["as_json"]:
        told = {cause.name.lower(): causes[cause] for cause in WORDS}
        print_json("verify", report, seconds, result=outcome.value, causes=told)
    return PARTIAL_EXIT if outcome is Outcome.PARTIAL else EXIT_CODES[outcome]


def differs(report: Report) -> bool:
    """Tell whether a verification found any difference."""
    files = report.files
    return bool(files.created or files.updated or files.metadata or files.deleted or files.failed)


def _run(source: str, target: str, given: dict[str, Any]) -> tuple[Report, Counter[Cause]]:
    addresses = parse_address(source), parse_address(target)
    local = not any(isinstance(address, Remote) for address in addresses)
    listed = given["files_from"] is not None  # a list says nothing of what is not in it
    given["delete"] = given["delete"] or not (given["ignore_extra"] or listed)
    options = msgspec.structs.replace(
        options_from({**given, "dry_run": True, "checksum": True}, local=local),
        verify=True,
        itemize=True,
    )
    connection = Connection(
        given["identity"] or default_directory(), given["connect_timeout"], given["timeout"]
    )
    with observer_for(given, itemize=not given["quiet"]) as observer:
        told = _Telling(observer, quiet=given["quiet"])
        run = copy.Run(options, connection, told, given["state"] or default_state())
        transfer = copy.transfer_between("verify", addresses[:1], addresses[1], run)
        return run_until_signal(transfer), told.causes


class _Telling:
    """An observer that says where differences of content are from, beside what another does.

    Rot is among the report's problems, whether it is a difference or not.
    """

    def __init__(self, observer: Observer, *, quiet: bool) -> None:
        self.causes: Counter[Cause] = Counter()
        self._observer = observer
        self._quiet = quiet

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        """Pass it on."""
        self._observer.listed(files, size, complete=complete)

    def settled(self, size: int) -> None:
        """Pass it on."""
        self._observer.settled(size)

    def under_way(self, size: int) -> None:
        """Pass it on."""
        self._observer.under_way(size)

    def items(self, items: Sequence[Item]) -> None:
        """Pass lines on, then say what they come from."""
        self._observer.items(items)
        for item in items:
            if item.cause is Cause.NONE:
                continue
            self.causes[item.cause] += 1
            if not (self._quiet or item.cause in ROTTED):
                click.echo(f"netsync: {shown(item.path)}: {WORDS[item.cause]}", err=True)
