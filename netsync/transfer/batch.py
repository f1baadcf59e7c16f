"""A batch: files that are staged and complete, and wait to be flushed and named together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netsync.transfer.awaited import Awaited
from netsync.transfer.neighbours import StagedTogether
from netsync.transfer.publishing import discard
from netsync.transfer.runs import Batched, Staged
from netsync.tree.directories import Directories
from netsync.tree.output import Output

BATCH_FILES: Final = 256
"""Files staged before a flush; each holds one descriptor."""
BATCH_BYTES: Final = 256 * 1024 * 1024
"""Bytes staged before a flush: what a power cut may cost, and what one flush must write."""


class Batch:
    """What is staged since the last flush. ``tight``: room is short, so each file is flushed."""

    def __init__(self) -> None:
        self.tight = False
        self.files = 0
        self._bytes = 0
        self._staged: list[Staged] = []

    @property
    def is_full(self) -> bool:
        """Tell whether it should be flushed before more is taken."""
        most = 1 if self.tight else BATCH_FILES
        return self.files >= most or self._bytes >= BATCH_BYTES

    def add(self, staged: Sequence[Staged], files: int, size: int) -> None:
        """Take what is staged: so many files and bytes."""
        self._staged += staged
        self.files += files
        self._bytes += size

    def take(self) -> list[Staged]:
        """Return what is in it, which is the caller's now."""
        taken, self._staged = self._staged, []
        self.files = self._bytes = 0
        return taken


def drop(staged: Sequence[Staged], places: Directories, *, keep: bool = False) -> None:
    """Drop what is staged, or leave it to the next run where that can find it."""
    for each in staged:
        if isinstance(each, StagedTogether):
            each.close()
        else:
            discard(places, *each, keep=keep)


def parted(staged: StagedTogether, awaited: Awaited) -> list[Batched]:
    """Return neighbours as files of their own."""
    files: list[Batched] = []
    for number, fd in zip(staged.numbers, staged.fds, strict=True):
        wanted = awaited.alone(number)
        assert wanted is not None  # it is settled when it has its name
        files.append((wanted, Output.unnamed(fd, wanted.attributes)))
    return files
