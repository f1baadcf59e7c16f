"""``netsync config check``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from netsync.config.file import Config, load_config
from netsync.config.jobs import OWN_KEYS
from netsync.identity.directory import default_directory
from netsync.modes.job import Job
from netsync.plan.guards import limit_text
from netsync.plan.scrub import Pace
from netsync.plan.standing import span
from netsync.server.modules import Module
from netsync.state.database import default_directory as default_state

_FILE: Final = "file"
_DEFAULT: Final = "default"


@click.group()
def config() -> None:
    """Work with configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Validate FILE and print the values it comes to, and where each is from."""
    found = load_config(file)
    for line in _server_lines(found):
        click.echo(line)
    for module in found.modules.values():
        for line in _module_lines(module, found.given):
            click.echo(line)
    for job in found.jobs.values():
        click.echo(f"job       {job.name}")
        for key, value, origin in job_values(job, found.given):
            click.echo(f"  {key:<16}{value}  ({origin})")
        click.echo("  all other options are as push and pull have them")


def _server_lines(found: Config) -> Iterator[str]:
    state: object = found.state or default_state()
    origin = _origin("server.state", found.given)
    if os.environ.get("NETSYNC_STATE"):
        state, origin = os.environ["NETSYNC_STATE"], "environment NETSYNC_STATE"
    identity: object = found.identity or default_directory()
    whence = _origin("server.identity", found.given)
    if os.environ.get("NETSYNC_IDENTITY"):
        identity, whence = os.environ["NETSYNC_IDENTITY"], "environment NETSYNC_IDENTITY"
    listen = " ".join(found.listen) if found.listens else "nowhere: there is no module"
    yield f"listen    {listen}  ({_origin('server.listen', found.given)})"
    yield f"identity  {identity}  ({whence})"
    yield f"state     {state}  ({origin})"
    yield f"metrics   {found.metrics or 'none'}  ({_origin('server.metrics', found.given)})"


def _module_lines(module: Module, given: Mapping[str, object]) -> Iterator[str]:
    key = f"module.{module.name}"
    yield f"module    {module.name} = {module.path}"
    for identity, rights in module.allow.items():
        yield f"  allow   {identity}: {' '.join(sorted(rights))}"
    special = "true" if module.special else "false"
    yield f"  special {special}  ({_origin(f'{key}.special', given)})"
    if module.user is not None:
        user = module.user
        yield f"  user    {user.name} ({user.uid}:{user.gid})  ({_FILE})"
    if module.max_delete is not None:
        yield f"  max_delete {limit_text(module.max_delete)}  ({_FILE})"
    if module.rpo is not None:
        yield f"  rpo     {span(module.rpo)}  ({_FILE})"


def _origin(key: str, given: Mapping[str, object]) -> str:
    return _FILE if key in given else _DEFAULT


def job_values(job: Job, given: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and origin of what a job says, and of what it leaves to the defaults."""
    schedule = job.schedule
    values: dict[str, object] = {
        "mode": job.mode.value,
        "source": job.source,
        "target": job.target,
        "schedule": schedule.cron if schedule and schedule.cron else None,
        "every": span(schedule.every) if schedule and schedule.every else None,
        "on_missed": schedule.on_missed.value if schedule else None,
        "jitter": f"{schedule.delay:.1f}s of it fall to this job" if schedule else None,
        "on_change": job.on_change,
        "rpo": span(job.rpo) if job.rpo else None,
        "retries": job.retries,
        "timeout": f"{job.timeout:g}s",
        "connect_timeout": f"{job.connect_timeout:g}s",
        "identity": job.identity or "the daemon's",
        "pre": list(job.hooks.pre) or None,
        "post": list(job.hooks.post) or None,
        "hook_timeout": span(job.hooks.seconds) if job.hooks.pre or job.hooks.post else None,
        "ping": job.ping or None,
        "scrub": _pace(job.scrub) if job.scrub else None,
    }
    prefix = f"job.{job.name}."
    for key, value in values.items():
        if value is not None:
            yield key, _shown(value), _origin(prefix + key, given)
    for key, value in given.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and name not in values and name not in OWN_KEYS:
            yield name, _shown(value), _FILE


def _pace(pace: Pace) -> str:
    return f"1/{pace.parts} of the files every {span(pace.seconds)}"


def _shown(value: object) -> str:
    """Return a value as the file would have it."""
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return f"[{', '.join(map(_shown, value))}]"
        case int() | float():
            return str(value)
        case _:
            return f'"{value}"'
