"""What a standby knows of one mirrored place, durably: whose it is, and how far its tree is.

A record is flushed before it is acted on. Its directory also holds the journal, and is one
process's at a time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from msgspec import Struct
from xxhash import xxh3_128_hexdigest

from netsync.errors import RefusedError, StateError, reason
from netsync.names import contains, shown
from netsync.state.slots import SlotFile, read_slots
from netsync.wire.operations import NO_CHAIN

STANDBY: Final = "standby"
PRIMARY: Final = "primary"
FOLDER: Final = "mirrors"
"""The directory of all places, in the state directory."""


class Record(Struct, frozen=True):
    """One place. ``base`` is the module's directory, ``path`` the place below it.

    ``identity`` is who mirrors to it. The tree shows all of ``generation`` up to ``seq`` (and of a
    resync behind that the first ``part`` operations). Without ``complete`` it is no whole copy yet,
    or not any more, for the reason in ``words``. ``at`` is when the record was last changed,
    ``special`` the module's leave for devices and set-id bits. ``inode`` is the directory's own, by
    which an empty mount point is told from what should be mounted there. ``claim`` is the
    generation of the primary that was let in last, which may not be followed yet. ``key`` is the
    journal's.
    """

    base: bytes
    path: bytes
    module: str
    identity: str
    epoch: int
    generation: bytes = b""
    role: str = STANDBY
    complete: bool = False
    seq: int = 0
    part: int = 0
    chain: bytes = NO_CHAIN
    words: str = ""
    at: float = 0.0
    special: bool = False
    inode: int = 0
    claim: bytes = b""
    key: int = 0

    @property
    def place(self) -> bytes:
        """The path on this host."""
        return place_of(self.base, self.path)


def place_of(base: bytes, path: bytes) -> bytes:
    """Return the path of a place on this host, in the one form that is compared."""
    return os.path.normpath(base + b"/" + path)


def directory_of(state: Path, place: bytes) -> Path:
    """Return where what is known of ``place`` is kept."""
    return state / FOLDER / xxh3_128_hexdigest(place)


def known_places(state: Path) -> list[Record]:
    """Return the records of all places. Blocks; raises ``StateError``."""
    try:
        directories = sorted((state / FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []  # no place was ever mirrored here
    except OSError as error:
        raise StateError(reason(error), op="use state in", where=str(state)) from error
    found = [read_record(directory) for directory in directories if directory.is_dir()]
    return [record for record in found if record is not None]


def read_record(directory: Path) -> Record | None:
    """Return what is written in ``directory``, without a lock. Raises ``StateError``."""
    return read_slots(directory, Record)


class RecordFile:
    """The record of one place, held by this process alone. Everything blocks.

    ``record`` is what was last read or saved. Opening raises ``StateError`` where another process
    holds it.
    """

    def __init__(self, state: Path, place: bytes) -> None:
        self.directory = directory_of(state, place)
        self._slots = SlotFile(self.directory, Record)

    @property
    def record(self) -> Record | None:
        """What is known, or None if nothing ever was."""
        return self._slots.value

    def save(self, record: Record) -> None:
        """Write ``record`` so that it survives a power cut. Raises ``StateError``."""
        self._slots.save(record)

    def close(self) -> None:
        """Let go of the record and its lock."""
        self._slots.close()


def refuse_mirrored(state: Path, path: bytes) -> None:
    """Raise ``RefusedError`` if writing at ``path``, of this host, would change a standby's copy.

    Links in the path are followed for the question. Blocks; raises ``StateError`` too.
    """
    records = known_places(state)
    if not records or b"\0" in path:  # no such path can be opened either
        return
    real = os.path.realpath(path)
    for record in records:
        place = os.path.realpath(record.place)
        if record.role == STANDBY and (contains(place, real) or contains(real, place)):
            raise RefusedError(
                f"{shown(record.place)} is the standby's copy of what {record.identity!r} mirrors "
                f"here (epoch {record.epoch}), and nobody else may change it",
                op="write to",
                where=path,
                hint="netsync promote makes it a directory like any other",
            )
