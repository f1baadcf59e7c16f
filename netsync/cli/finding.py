"""Which daemon a command means: by ``--state``, by the configuration, or by their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from netsync.config.file import DEFAULT_FILE, Config, load_config
from netsync.modes.job import Job
from netsync.state.database import default_directory

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Found:
    """The state directory of a daemon, and its configuration where that is at hand."""

    state: Path
    config: Config | None = None
    jobs: Mapping[str, Job] = field(default_factory=dict)


def daemon_options(command: Decorated) -> Decorated:
    """Add the options that say which daemon is meant."""
    state = click.option(
        "--state",
        type=click.Path(path_type=Path),
        envvar="NETSYNC_STATE",
        help="The daemon's state directory.",
    )
    config = click.option(
        "--config",
        type=click.Path(path_type=Path),
        help=f"Its TOML file ({DEFAULT_FILE}).",
    )
    return config(state(command))


def found(config: Path | None, state: Path | None) -> Found:
    """Return which daemon is meant. Raises ``ConfigError``.

    The default file is read where neither is named and it is there.
    """
    if config is None and (state is not None or not DEFAULT_FILE.exists()):
        return Found(state or default_directory())
    read = load_config(config or DEFAULT_FILE)
    return Found(state or read.state or default_directory(), read, read.jobs)
