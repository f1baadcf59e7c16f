"""Values as users write them: sizes, rates, durations and limits."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from netsync.model import DeleteLimit
from netsync.plan.guards import parse_limit

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhd]?)", re.IGNORECASE)
DAY: Final = 86400.0
"""Seconds; the longest wait that a peer is told of."""
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Return bytes for ``10M``; units are powers of 1024. Raises ``ValueError``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size (like 4096, 16K or 1.5M)")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_duration(text: str) -> float:
    """Return seconds for ``15m``. Raises ``ValueError``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration (like 30, 90s, 15m or 2h)")
    return float(match[1]) * _SECONDS[match[2].lower()]


class Size(click.ParamType[int]):
    """A size or rate on the command line."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        try:
            return value if isinstance(value, int) else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[float]):
    """A time span on the command line; ``zero`` allows none at all."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        try:
            seconds = value if isinstance(value, float) else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds > DAY or (seconds <= 0 and not self._zero):
            self.fail("must be more than 0 and at most a day", param, ctx)
        return seconds


class Limit(click.ParamType[DeleteLimit]):
    """A number of entries, or a percentage of those there are."""

    name = "limit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> DeleteLimit:
        """Return the limit."""
        try:
            return value if isinstance(value, DeleteLimit) else parse_limit(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
