"""``[job.NAME]``: the keys of a job itself, and the options of push and pull.

An option of a job is the long option of the command line with ``_`` for ``-``, and is read by the
very code that reads the command line: so it has the same meaning, the same limits and the same
words where it is wrong, and a new option is a new key without anybody's doing.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final, Literal

import click
from msgspec import Struct

from netsync.cli.options import (
    TransferCommand,
    connection_options,
    options_from,
    retry_option,
    transfer_options,
)
from netsync.cli.values import parse_duration
from netsync.config.sections import section_as, unknown, wrong
from netsync.errors import UsageError
from netsync.modes.address import Remote, parse_address
from netsync.modes.copy import check_route
from netsync.modes.job import HOOK_SECONDS, Hooks, Job, Mode
from netsync.modes.route import COMPARED_DAILY, check_watch, check_watched
from netsync.net.ping import check_url
from netsync.plan.schedule import OnMissed, Schedule, check_cron, share_of
from netsync.plan.scrub import Pace, parse_pace

Span = str | int | float
"""A time span as in ``"15m"``; a number is seconds."""


class JobSection(Struct, forbid_unknown_fields=True):
    """The keys of a job that are no options."""

    mode: Literal["pull", "push", "watch"]
    source: str | list[str]
    target: str
    schedule: str = ""
    every: Span = ""
    on_missed: Literal["run-once", "skip"] = "run-once"
    on_change: bool = False
    jitter: Span = 0
    rpo: Span = ""
    pre: list[str] = []
    post: list[str] = []
    hook_timeout: Span = HOOK_SECONDS
    ping: str = ""
    scrub: str = ""


OWN_KEYS: Final = frozenset(JobSection.__struct_fields__)
_REPEATED: Final = frozenset({"exclude", "include", "exclude_from"})
_FOR_TERMINALS: Final = frozenset({
    "dry_run", "itemize_changes", "verbose", "quiet", "progress", "stats", "json", "state",
})  # fmt: skip
"""Options about what a command prints, and those that make no sense for a job."""
_YEAR: Final = 366 * 86400.0


@click.command(cls=TransferCommand)
@transfer_options
@connection_options
@retry_option
def _command(**given: Any) -> None:
    """Take the options of a job, as a command line would."""


def _known_options() -> dict[str, tuple[str, click.Option]]:
    """Return the options by key: how each is written, and what it is."""
    known: dict[str, tuple[str, click.Option]] = {}
    for parameter in _command.params:
        for name in parameter.opts:
            if name.startswith("--") and isinstance(parameter, click.Option):
                known[name[2:].replace("-", "_")] = name, parameter
    for key in (*_FOR_TERMINALS, "rule"):
        known.pop(key, None)
    return known


OPTIONS: Final = _known_options()


def job_from(file: Path, name: str, raw: object) -> Job:
    """Return the job that a section says. Raises ``ConfigError``."""
    key = f"job.{name}"
    if not isinstance(raw, dict):
        raise wrong(file, key, "must be a table", f"write [{key}]")
    for each in raw:
        if each in _FOR_TERMINALS:
            raise wrong(file, f"{key}.{each}", "a job has no such option", "remove the key")
        if each not in OWN_KEYS and each not in OPTIONS:
            raise unknown(file, f"{key}.{each}", each, [*sorted(OWN_KEYS), *OPTIONS])
    own = {each: value for each, value in raw.items() if each in OWN_KEYS}
    section = section_as(file, key, own, JobSection)
    sources = (section.source,) if isinstance(section.source, str) else tuple(section.source)
    local = _check_route(file, key, section, sources)
    given = _given(file, key, {each: raw[each] for each in raw if each not in OWN_KEYS})
    try:
        options = options_from(given, local=local)
        if section.mode == "watch":
            check_watch(options)
    except UsageError as error:
        raise wrong(file, key, str(error)) from error
    schedule = _schedule(file, name, section)
    if schedule is None and section.mode == "watch":
        schedule = COMPARED_DAILY
    return Job(
        name=name,
        mode=Mode(section.mode),
        sources=sources,
        target=section.target,
        schedule=schedule,
        on_change=section.on_change,
        rpo=_seconds(file, f"{key}.rpo", section.rpo) or None,
        options=options,
        retries=given["retries"],
        identity=given["identity"],
        connect_timeout=given["connect_timeout"],
        timeout=given["timeout"],
        hooks=_hooks(file, key, section),
        ping=_ping(file, key, section.ping),
        scrub=_scrub(file, key, section.scrub),
    )


def _check_route(file: Path, key: str, section: JobSection, sources: tuple[str, ...]) -> bool:
    """Check where from and where to; return whether both are here."""
    try:
        found = [parse_address(source) for source in sources]
        target = parse_address(section.target)
        if not found:
            raise UsageError("is empty", op="source")
        if section.mode == "watch":
            check_watched(sources, section.target)
        else:
            check_route(section.mode, found, target)
    except UsageError as error:
        raise wrong(file, key, str(error)) from error
    named = [("source", address) for address in found] + [("target", target)]
    for what, address in named:
        if isinstance(address, bytes) and not os.path.isabs(address):
            hint = "a daemon has no directory of its own; begin it with /"
            raise wrong(file, f"{key}.{what}", "is not an absolute path", hint)
    if section.on_change and not isinstance(found[0], Remote):
        hint = "it is for a standby that pulls from a server; give this job a schedule"
        raise wrong(file, f"{key}.on_change", "nobody tells this job of changes", hint)
    return not any(isinstance(address, Remote) for _, address in named)


def _schedule(file: Path, name: str, section: JobSection) -> Schedule | None:
    key = f"job.{name}"
    every = _seconds(file, f"{key}.every", section.every)
    jitter = _seconds(file, f"{key}.jitter", section.jitter)
    if section.schedule and every:
        raise wrong(file, f"{key}.every", "the job has a schedule as well", "remove one of them")
    if not section.schedule and not every:
        if jitter:
            raise wrong(file, f"{key}.jitter", "there is no schedule", "add schedule or every")
        return None
    if section.schedule:
        try:
            check_cron(section.schedule)
        except ValueError as error:
            hint = 'write minute hour day month weekday, like "*/15 * * * *"'
            raise wrong(file, f"{key}.schedule", str(error), hint) from error
    elif jitter >= every:
        raise wrong(file, f"{key}.jitter", "is not shorter than every", "make it shorter")
    delay = share_of(jitter, f"{name}@{socket.gethostname()}")
    return Schedule(section.schedule, every, OnMissed(section.on_missed), delay)


def _seconds(file: Path, key: str, value: Span) -> float:
    """Return a time span in seconds; 0 for none."""
    if value in ("", 0):
        return 0.0
    try:
        seconds = parse_duration(str(value))
    except ValueError as error:
        raise wrong(file, key, str(error), 'write for example "15m"') from error
    if not 0 < seconds <= _YEAR:
        raise wrong(file, key, "must be more than 0 and at most a year", 'write for example "15m"')
    return seconds


def _hooks(file: Path, key: str, section: JobSection) -> Hooks:
    for what, arguments in (("pre", section.pre), ("post", section.post)):
        if any("\0" in argument for argument in arguments) or arguments[:1] == [""]:
            hint = 'write a list like ["/usr/local/bin/quiesce", "web"]'
            raise wrong(file, f"{key}.{what}", "names no program", hint)
    seconds = _seconds(file, f"{key}.hook_timeout", section.hook_timeout) or HOOK_SECONDS
    return Hooks(tuple(section.pre), tuple(section.post), seconds)


def _ping(file: Path, key: str, url: str) -> str:
    try:
        if url:
            check_url(url)
    except UsageError as error:
        raise wrong(file, f"{key}.ping", f"{url!r} {error.why}", error.hint) from error
    return url


def _scrub(file: Path, key: str, text: str) -> Pace | None:
    try:
        return parse_pace(text) if text else None
    except ValueError as error:
        hint = 'write for example "5%/day" (of hour, day, week or month)'
        raise wrong(file, f"{key}.scrub", str(error), hint) from error


def _given(file: Path, key: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Return what a command line with these options would give."""
    words: list[str] = []
    for each, value in raw.items():
        words += _words(file, f"{key}.{each}", each, value)
    try:
        context = _command.make_context("job", words, resilient_parsing=False)
    except click.UsageError as error:
        parameter = getattr(error, "param", None)
        names = [each for each in raw if parameter is not None and OPTIONS[each][1] is parameter]
        place = f"{key}.{names[0]}" if names else key
        raise wrong(file, place, error.message.rstrip(".")) from error
    given = dict(context.params)
    source = context.get_parameter_source("identity")
    if source is not click.core.ParameterSource.COMMANDLINE:
        given["identity"] = None  # the daemon's own, wherever it has that from
    return given


def _words(file: Path, key: str, name: str, value: object) -> list[str]:
    """Return an option as words of a command line."""
    option, parameter = OPTIONS[name]
    if parameter.is_flag and parameter.name != "compress":
        if not isinstance(value, bool):
            raise wrong(file, key, "must be true or false")
        return [option] if value else []
    values = value if isinstance(value, list) and name in _REPEATED else [value]
    for each in values:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            kind = "a list of strings" if name in _REPEATED else "a string in quotes or a number"
            raise wrong(file, key, f"must be {kind}")
        if name.endswith("_from") and each == "-":
            raise wrong(file, key, "a daemon has no stdin", "name a file")
    return [f"{option}={each}" for each in values]
