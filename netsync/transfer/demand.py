"""How the content of a file that differs is asked for: whole, as a delta, or not before the end."""

from __future__ import annotations

from typing import Final

from netsync.model import Options
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
        self._whole: list[Wanted] = []
        self._deltas: list[Wanted] = []

    def take(self) -> tuple[list[Wanted], list[Wanted]]:
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
        (self._deltas if delta and not options.whole_file else self._whole).append(wanted)
