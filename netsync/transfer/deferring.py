"""Wants put off until the deletes are done (``--delete-before``).

A target too full for both needs the room first, and deletes need the whole listing. So what the
comparison wants is kept here, on disk past a bound, and asked for when the guards have decided and
the deletes are done. The source keeps what it offered in the same way (``offers.is_deferrable``).
Credit flows back as ever, since every entry is decided about; data is bounded as ever, since
nothing is asked for beyond the bound on outstanding files.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import islice
from typing import Final, NamedTuple

from msgspec import Struct

from netsync.model import Change, Entry
from netsync.transfer.spool import Spool
from netsync.transfer.wanted import Wanted
from netsync.tree.place import Attributes

PART: Final = 1024
"""Files asked for at once: a thread hop, and a message far below its limit."""


class Deferred(Struct, frozen=True, array_like=True):
    """A want that waits; the fields are those of ``Wanted``, and whether a delta will do."""

    number: int
    directory: bytes
    entry: Entry
    present: Entry | None
    change: Change
    attributes: Attributes
    in_the_way: bool
    delta: bool


class Part(NamedTuple):
    """Wants whose time has come, and those whose way a directory still is in."""

    whole: list[Wanted]
    deltas: list[Wanted]
    blocked: list[Wanted]


class Deferral:
    """The wants of one transfer that wait for its deletes."""

    def __init__(self) -> None:
        self._waiting = Spool(Deferred)

    def close(self) -> None:
        """Drop everything."""
        self._waiting.close()

    def put(self, wanted: Wanted, *, delta: bool) -> None:
        """Let a want wait."""
        self._waiting.append(
            Deferred(
                wanted.number,
                wanted.directory,
                wanted.entry,
                wanted.present,
                wanted.change,
                wanted.attributes,
                wanted.in_the_way,
                delta,
            )
        )

    def parts(self, cleared: Container[bytes]) -> Iterator[Part]:
        """Yield what waited; ``cleared`` are the paths at which a directory made way."""
        records = iter(self._waiting)
        while waiting := list(islice(records, PART)):
            part = Part([], [], [])
            for each in waiting:
                wanted = _wanted(each)
                if each.in_the_way and wanted.path not in cleared:
                    part.blocked.append(wanted)
                else:
                    (part.deltas if each.delta else part.whole).append(wanted)
            yield part


def _wanted(waiting: Deferred) -> Wanted:
    """Return the want as it was; the way is clear for it or it is not asked for."""
    wanted = Wanted(
        waiting.number, waiting.directory, waiting.entry, waiting.present, waiting.change
    )
    wanted.attributes = waiting.attributes
    return wanted
