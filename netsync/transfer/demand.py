"""How the content of a file that differs is asked for: whole, as a delta, or not before the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from netsync.model import Entry, Kind, Options
from netsync.transfer.neighbours import Bare, Neighbours
from netsync.transfer.offers import waits_for_renames
from netsync.transfer.renames import Renames
from netsync.transfer.staging import partial_of
from netsync.transfer.wanted import Wanted
from netsync.tree.large_files import Stage

DELTA_MIN: Final = 16 * 1024
"""Bytes: below this a signature and its round trip cost more than the file."""


class Demand:
    """The files wanted since ``take``, in the order of the listing."""

    def __init__(self, stage: Stage, renames: Renames, options: Options) -> None:
        self._stage = stage
        self._renames = renames
        self._options = options
        self._whole: list[Wanted | Neighbours] = []
        self._deltas: list[Wanted] = []

    @property
    def takes_neighbours(self) -> bool:
        """Tell whether new files may be wanted together: none has anything here to go on with."""
        return not (self._stage.has_partials or self._options.delete_before)

    def want_new(
        self, directory: bytes, listed: Iterable[tuple[int, Entry]], bare: Callable[[Entry], Bare]
    ) -> Iterator[tuple[int, Entry]]:
        """Want the ordinary files among what is ``listed`` of a new directory; yield the rest.

        ``bare`` tells what one gets that has nothing but owner, mode and time.
        """
        near: list[Entry] = []
        waiting = self._options.delete
        for number, entry in listed:
            special = entry.kind is not Kind.FILE or entry.link or entry.xattrs
            if not special and not (waiting and waits_for_renames(entry, self._options)):
                near.append(entry)
                continue
            self._want_near(directory, number - len(near), near, bare)
            near = []
            yield number, entry
        if near:
            self._want_near(directory, number + 1 - len(near), near, bare)

    def _want_near(
        self, directory: bytes, first: int, near: list[Entry], bare: Callable[[Entry], Bare]
    ) -> None:
        if near:
            attributes = [bare(entry) for entry in near]
            timed, count = self._options.keep.times, len(near)
            self._whole.append(
                Neighbours(first, directory, near, attributes, timed, bytearray(count), count)
            )

    def take(self) -> tuple[list[Wanted | Neighbours], list[Wanted]]:
        """Return the files wanted whole, and those wanted as deltas; they are the caller's now."""
        taken = self._whole, self._deltas
        self._whole, self._deltas = [], []
        return taken

    def want(self, wanted: Wanted) -> None:
        """Want a file, unless it waits until it is known which names go (a rename)."""
        options = self._options
        if self._stage.has_partials and not options.delete_before:
            wanted.partial = partial_of(wanted, self._stage, options)
        if self._renames.takes(wanted):
            return
        present = wanted.present
        smallest = 0 if present is None else min(wanted.entry.size, present.size)
        delta = smallest >= DELTA_MIN or wanted.partial is not None
        if delta and not options.whole_file:
            self._deltas.append(wanted)
        else:
            self._whole.append(wanted)
