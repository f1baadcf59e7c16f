"""Results on stdout: itemized lines, statistics, and the JSON report of the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from netsync.delta import kernel
from netsync.errors import IndeterminateError, NetsyncError, OutputError, reason
from netsync.model import Item, Problem, Report
from netsync.modes.outcome import Outcome, outcome_of
from netsync.names import as_text, one_line, shown

SCHEMA: Final = "netsync.report/1"
_WORDS_MAX: Final = 8192
"""Characters of what a peer says in words: a message's own limit is no limit for a terminal."""


def put(line: str) -> None:
    """Print a line to stdout, where results go. Raises ``OutputError``."""
    try:
        click.echo(line)
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        raise OutputError(reason(error), gone=gone) from error


def item_line(item: Item) -> str:
    """Return one itemized line."""
    return f"{item.change.value} {shown(item.path)}{'/' if item.directory else ''}"


def print_items(items: Sequence[Item]) -> None:
    """Print itemized lines to stdout."""
    for item in items:
        put(item_line(item))


def print_problems(report: Report) -> None:
    """Tell each problem in one line on stderr."""
    for line in problem_lines(report):
        click.echo(line, err=True)


def problem_lines(report: Report) -> Iterator[str]:
    """Yield a line for each notice and each problem."""
    for notice in report.notices:
        yield f"netsync: {_told(notice)}"
    for problem in report.problems:
        where, why = shown(problem.path), _told(problem.error)
        yield f"netsync: {_told(problem.op)} {where}: {why}"
    if report.problems_omitted:
        yield f"netsync: and {report.problems_omitted} more problems"
    if report.held:
        yield f"netsync: {_told(report.held)}"


def _told(words: str) -> str:
    """Return what may be a peer's words so that they can do no harm on a terminal."""
    return one_line(words, _WORDS_MAX)


def print_statistics(report: Report, seconds: float) -> None:
    """Print the counters to stdout."""
    files, size = report.files, report.bytes
    lines = {
        "entries considered": files.considered,
        "created": files.created,
        "updated": files.updated,
        "metadata only": files.metadata,
        "deleted": files.deleted,
        "unchanged": files.unchanged,
        "failed": files.failed,
        "total size": size.total,
        "literal data": size.literal,
        "matched data": size.matched,
        "sent on the wire": size.wire_sent,
        "received on the wire": size.wire_received,
    }
    for name, value in lines.items():
        put(f"{name + ':':<22}{value:>16,}")
    put(f"{'seconds:':<22}{seconds:>16.2f}")
    put(f"{'durable:':<22}{'yes' if report.durable else 'no':>16}")
    put(f"{'delta kernel:':<22}{report.kernel:>16}")


def print_json(command: str, report: Report, seconds: float, **more: Any) -> None:
    """Print the one JSON object of a finished run, with ``more`` in it."""
    put(json_line(command, report, seconds, **more))


def json_line(command: str, report: Report, seconds: float, **more: Any) -> str:
    """Return the one JSON object of a finished run, with ``more`` in it."""
    return _object(command, outcome_of(report), report, seconds, more)


def print_failure_json(command: str, error: NetsyncError, seconds: float, *, dry_run: bool) -> None:
    """Print the one JSON object of a run that ended early."""
    put(failure_json_line(command, error, seconds, dry_run=dry_run))


def failure_json_line(
    command: str, error: NetsyncError, seconds: float, *, dry_run: bool = False
) -> str:
    """Return the one JSON object of a run that ended early."""
    problem = Problem(error.place, error.op, error.why)
    report = Report(problems=(problem,), kernel=kernel.NAME, dry_run=dry_run)
    unknown = isinstance(error, IndeterminateError)
    outcome = Outcome.INDETERMINATE if unknown else Outcome.FAILED
    return _object(command, outcome, report, seconds, {})


def _object(
    command: str, outcome: Outcome, report: Report, seconds: float, more: dict[str, Any]
) -> str:
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "command": command,
        "result": outcome.value,
        "files": msgspec.to_builtins(report.files),
        "bytes": msgspec.to_builtins(report.bytes),
        "seconds": round(seconds, 3),
        "durable": report.durable,
        "dry_run": report.dry_run,
        "kernel": report.kernel,
        "problems": [
            {"path": as_text(problem.path), "op": problem.op, "error": problem.error}
            for problem in report.problems
        ],
    }
    if report.problems_omitted:
        document["problems_omitted"] = report.problems_omitted
    if report.notices:
        document["notices"] = list(report.notices)
    if report.held:
        document["held"] = report.held
    return json.dumps({**document, **more})
