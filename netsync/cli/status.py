"""``netsync status``, ``netsync check`` and ``netsync events``: what is known, for all to see."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from netsync.cli.finding import Found, daemon_options, found
from netsync.cli.report import put
from netsync.errors import NetsyncError, UsageError
from netsync.modes.job import described
from netsync.monitor.mirrors import MirrorView, mirrors_as_json, mirrors_of
from netsync.monitor.status import (
    NO_JOBS,
    JobView,
    View,
    as_json,
    check_line,
    counted,
    instant,
    view_of,
)
from netsync.plan.standing import Level, span
from netsync.state.jobs import Event, JobStates

_LOOK_SECONDS: Final = 0.5
"""How often ``events --follow`` looks for more."""
_WATCH_SECONDS: Final = 2.0
"""How often ``status --watch`` looks again."""
_COLOURS: Final = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.CRITICAL: "red",
    Level.UNKNOWN: "magenta",
}
_LAST_EVENTS: Final = 50


@click.command()
@daemon_options
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Show it again and again, until interrupted.")
def status(config: Path | None, state: Path | None, json_wanted: bool, watch: bool) -> int:
    """Show every job: how far behind it is, against what, and what to do about it."""
    where = found(config, state)
    if watch and not json_wanted:
        return _watch(where)
    view, mirrors = _view(where), mirrors_of(where.state)
    if json_wanted:
        put(json.dumps({**as_json(view), "mirrors": mirrors_as_json(mirrors)}))
    else:
        _print_tables(view, mirrors)
    return 0


def _view(where: Found) -> View:
    return view_of(where.state, time.time(), [described(job, None) for job in where.jobs.values()])


def _watch(where: Found) -> int:
    from rich.console import Console, Group  # noqa: PLC0415 - rich costs 60 ms to import
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            tables = _tables(_view(where), mirrors_of(where.state))
            live.update(Group(*tables), refresh=True)
            time.sleep(_WATCH_SECONDS)


def _print_tables(view: View, mirrors: Sequence[MirrorView]) -> None:
    from rich.console import Console  # noqa: PLC0415 - as above

    if not view.jobs and not mirrors:
        put(NO_JOBS)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000, no_color=True)  # for grep and mail: one line a job
    with console.capture() as capture:
        for table in _tables(view, mirrors):
            console.print(table)
    for line in capture.get().splitlines():
        put(line.rstrip())


def _tables(view: View, mirrors: Sequence[MirrorView]) -> list[Any]:
    """Return the tables of what there is; without anything that of no jobs."""
    tables = [_table(view)] if view.jobs or not mirrors else []
    return tables + ([_mirror_table(mirrors)] if mirrors else [])


def _mirror_table(mirrors: Sequence[MirrorView]) -> Any:
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("MIRROR", "ROLE", "PEER", "STATE", "EPOCH", "LAG", "OWED", "APPLIED"):
        table.add_column(name, no_wrap=True)
    table.add_column("WHAT TO KNOW", overflow="fold")
    for each in mirrors:
        owed = _backlog(None, each.owed_bytes) if each.owed_bytes else "-"
        lag = f"{each.lag} operations"
        level, why = each.verdict
        cells = [Text(cell) for cell in (each.name, each.role, each.peer, each.state,
                 str(each.epoch), lag, owed, str(each.applied))]  # fmt: skip
        cells[3].stylize(_COLOURS[level])
        known = ": ".join(filter(None, (level.name, why)))
        table.add_row(*cells, Text(known, style=_COLOURS[level]))
    return table


def _table(view: View) -> Any:
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("JOB", "MODE", "STATE", "LAG", "RPO", "BACKLOG", "LAST POINT", "NEXT RUN"):
        table.add_column(name, no_wrap=True)
    table.add_column("WHAT TO KNOW", overflow="fold")
    for each in view.jobs:
        colour = _COLOURS[each.verdict.level]
        cells = [Text(cell) for cell in _cells(each, view.now)]
        cells[2].stylize(colour)
        table.add_row(*cells, Text(f"{each.verdict.level.name}: {each.verdict.why}", style=colour))
    return table


def _cells(view: JobView, now: float) -> list[str]:
    standing = view.standing
    due = standing.next_run
    return [
        standing.name,
        standing.mode,
        view.state.value,
        "-" if view.lag is None else span(view.lag),
        "-" if standing.rpo is None else span(standing.rpo),
        _backlog(standing.backlog_files, standing.backlog_bytes),
        "never" if standing.last_point is None else _local(standing.last_point),
        "-" if due is None else "now" if due <= now else _local(due),
    ]


def _backlog(files: int | None, size: int | None) -> str:
    """Return what is outstanding, as far as it is known."""
    if files is None and size is None:
        return "-"
    parts = [] if files is None else [counted(files, "file")]
    if size is not None:
        parts.append(f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} B")
    return ", ".join(parts)


def _local(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@click.command()
@click.argument("job", required=False)
@daemon_options
def check(job: str | None, config: Path | None, state: Path | None) -> int:
    """Print one line and exit with 0 OK, 1 warning, 2 critical or 3 unknown: for monitoring."""
    try:
        where = found(config, state)
        level, line = check_line(_view(where), job, mirrors_of(where.state))
    except NetsyncError as error:
        level, line = Level.UNKNOWN, f"UNKNOWN: {error}"
    put(line)
    return int(level)


@click.command()
@daemon_options
@click.option("--follow", "-f", is_flag=True, help="Go on printing what happens.")
@click.option("--json", "json_wanted", is_flag=True, help="Print objects, one a line.")
@click.option("--job", help="Only what happens to this job.")
@click.option("-n", "--last", type=click.IntRange(min=0), default=_LAST_EVENTS, show_default=True,
              help="How many of the past to begin with.")  # fmt: skip
def events(
    config: Path | None,
    state: Path | None,
    follow: bool,
    json_wanted: bool,
    job: str | None,
    last: int,
) -> int:
    """Print what happened to jobs, oldest first."""
    states = JobStates(found(config, state).state)
    if job is not None and not follow and not (states.standing(job) or states.events(0, job, 1)):
        known = ", ".join(sorted({each.job for each in states.events()})) or "none"
        raise UsageError(f"nothing ever happened to a job {job}", hint=f"it did to: {known}")
    for event in _events(states, job, last, follow=follow):
        put(_as_json(event) if json_wanted else _as_line(event))
    return 0


def _events(states: JobStates, job: str | None, last: int, *, follow: bool) -> Iterator[Event]:
    newest = max((event.number for event in states.events(last=1)), default=0)
    for event in states.events(0, job, last):
        newest = max(newest, event.number)
        yield event
    while follow:
        time.sleep(_LOOK_SECONDS)
        for event in states.events(newest, job):
            newest = event.number
            yield event


def _as_json(event: Event) -> str:
    document = {"number": event.number, "time": instant(event.at), "job": event.job}
    return json.dumps({**document, "kind": event.kind, "text": event.text})


def _as_line(event: Event) -> str:
    return f"{_local(event.at)}  {event.job}  {event.kind}: {event.text}"
