"""What a running mirror says of itself, for ``status`` and metrics: a file that is replaced.

Nothing depends on it, so it is not flushed. Whether the writer still lives is told by the lock on
the record beside it, not by this.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from netsync.errors import StateError, reason
from netsync.state.slots import remove_file

_FILE: Final = "live"


class CopyLive(Struct, frozen=True):
    """A standby's copy. ``refused`` counts what its system would not set."""

    durable: int
    applied: int
    writer: bool
    refused: int = 0
    refusal: str = ""


class FollowerLive(Struct, frozen=True):
    """One standby of a primary. ``lag`` counts operations that are not durable there."""

    name: str
    state: str
    lag: int
    applied: int
    owed_bytes: int
    words: str


class PrimaryLive(Struct, frozen=True):
    """A primary and its standbys."""

    standbys: tuple[FollowerLive, ...]


def remove_live(directory: Path) -> None:
    """Say nothing any more. Raises ``StateError``."""
    remove_file(directory / _FILE)


Live = TypeVar("Live", CopyLive, PrimaryLive)


def write_live(directory: Path, live: CopyLive | PrimaryLive) -> None:
    """Put ``live`` in the place of what was said before. Raises ``StateError``."""
    new = directory / f"{_FILE}.new"
    try:
        new.write_bytes(msgspec.json.encode(live))
        os.replace(new, directory / _FILE)
    except OSError as error:
        raise StateError(reason(error), op="write", where=str(new)) from error


def read_live(directory: Path, kind: type[Live]) -> Live | None:
    """Return what was said last, or None if nothing can be read of it."""
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
