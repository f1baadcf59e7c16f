"""What a primary knows of its mirror, durably: its generation, its epoch, the stale standbys.

A *generation* is one life of a log: each start of a primary begins one, at number 0. For each
standby the generations are kept that it may have let in last: before one is told to it, and until
it has answered. So after any crash it can be told from a standby that has let in another primary
since, be it a copy of this one with all of its state. ``stale`` says since which operation a
standby was left behind on purpose: it is on the disk before anything is acknowledged without that
standby.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct
from xxhash import xxh3_128_hexdigest

from netsync.errors import StateError, reason
from netsync.state.slots import SlotFile, read_slots

FOLDER: Final = "primaries"
"""The directory of all mirrors that this host writes to, in the state directory."""
GENERATIONS_MAX: Final = 8
"""Generations kept of one standby: starts in a row that it did not answer."""


class Stale(Struct, frozen=True):
    """A standby that was left behind: since which operation, and when."""

    seq: int
    at: float


class PrimaryRecord(Struct, frozen=True):
    """One mirror. ``clean``: its last life ended with everything flushed here and there; ``noted``:
    it ended in order, and the activity log names all files that a standby may not have.
    """

    source: bytes
    generation: bytes
    epoch: int = 1
    clean: bool = True
    noted: bool = False
    generations: dict[str, tuple[bytes, ...]] = {}
    stale: dict[str, Stale] = {}
    at: float = 0.0


def primary_directory(state: Path, source: bytes) -> Path:
    """Return where what is known of the mirror of ``source`` is kept."""
    return state / FOLDER / xxh3_128_hexdigest(source)


def known_primaries(state: Path) -> list[PrimaryRecord]:
    """Return all records. Blocks; raises ``StateError``."""
    try:
        directories = sorted((state / FOLDER).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateError(reason(error), op="use state in", where=str(state)) from error
    found = [read_slots(directory, PrimaryRecord) for directory in directories]
    return [record for record in found if record is not None]


def open_primary(directory: Path) -> SlotFile[PrimaryRecord]:
    """Hold the record in ``directory``. Blocks; raises ``StateError``."""
    return SlotFile(directory, PrimaryRecord)
