"""Neighbours: new files of one directory, listed one behind the other and dealt with as one.

Of a first copy nearly every file is new, in a directory that was just made, and gets nothing but
content, owner, mode and time. What is done for each such file alone costs more than the system
takes to write it, so they are wanted, staged, named and settled together. Whatever happens to one
of them that is not ordinary (a refusal, other content, more data than fits a frame) parts it from
the others: from then on it is a ``Wanted`` like any other file, and nothing here knows of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from netsync.model import Change, Entry
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.native import link_files, stage_files
from netsync.tree.place import Attributes
from netsync.wire.messages import FileHead

Bare = tuple[int, int, int]
"""Mode, user and group that a file is to have; -1 leaves what it gets by itself."""


class Neighbours(Struct, eq=False, gc=False):
    """Files that are wanted together, whole; ``first`` is the number of the first.

    ``bare`` is what each gets, with the time of what was read if they are ``timed``. ``arrived``
    has a byte for each, 1 if it waits for a flush; ``open`` counts those not settled.
    """

    first: int
    directory: bytes
    entries: list[Entry]
    bare: list[Bare]
    timed: bool
    arrived: bytearray
    open: int

    @property
    def numbers(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + len(self.entries))

    def alone(self, number: int) -> Wanted:
        """Return one of them as a file of its own."""
        index = number - self.first
        entry = self.entries[index]
        mode, uid, gid = (None if each < 0 else each for each in self.bare[index])
        attributes = Attributes(mode, uid, gid, entry.mtime_ns if self.timed else None)
        wanted = Wanted(number, self.directory, entry, None, Change.CREATED, attributes)
        wanted.arrived = bool(self.arrived[index])
        return wanted


class Together(NamedTuple):
    """Neighbours that came in one frame; their contents lie one behind the other in ``tail``."""

    files: Neighbours
    heads: Sequence[FileHead]
    tail: memoryview

    def stage(self, directories: Directories) -> StagedTogether | None:
        """Stage all of them, or none, which tells that they should be tried one by one."""
        files, timed = self.files, self.files.timed
        first = self.heads[0].number
        bare = files.bare[first - files.first :]
        plans = [
            (head.size, mode, uid, gid, head.mtime_ns if timed else None)
            for head, (mode, uid, gid) in zip(self.heads, bare, strict=False)
        ]
        try:
            fds = stage_files(directories.fd(files.directory), self.tail, plans)
        except OSError:
            return None
        staged = StagedTogether(files, first, fds)
        if min(fds) >= 0:
            return staged
        staged.close()
        return None


class StagedTogether(Struct, eq=False, gc=False):
    """Neighbours with their content and metadata, without names, from the number ``first`` on."""

    files: Neighbours
    first: int
    fds: list[int]

    @property
    def numbers(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + len(self.fds))

    @property
    def entries(self) -> list[Entry]:
        """As what they were listed."""
        start = self.first - self.files.first
        return self.files.entries[start : start + len(self.fds)]

    def name(self, directories: Directories) -> list[int]:
        """Give them their names and let go of those that got one.

        Returns for each what ``link_files`` does; nothing where their directory is not there.
        """
        try:
            fd = directories.fd(self.files.directory)
        except OSError:
            return []
        told = link_files(fd, self.fds, [entry.name for entry in self.entries])
        self.fds = [fd if result > 0 else -1 for fd, result in zip(self.fds, told, strict=True)]
        return told

    def close(self) -> None:
        """Drop them."""
        for fd in self.fds:
            if fd >= 0:
                os.close(fd)
