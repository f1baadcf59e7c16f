"""A tree packed in plain Python, some directories at a time: the meaning of ``TreeWalk``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from netsync.names import join
from netsync.tree._plain_looking import pack_directory
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.tree.records import name_at

if TYPE_CHECKING:
    from netsync.tree.native import Coverage, Packed

_LEVELS_MAX: Final = 32
"""Directories below each other of a packed tree."""
_PATH_BYTES: Final = 4096


class _Walk:
    """What a walk through a tree is told and has found; it does not know the walk itself."""

    def __init__(self, terms: tuple[Coverage, bytes, bytes], *, backwards: bool) -> None:
        self.terms = terms
        self.step = -1 if backwards else 1
        self.begin(0, bytearray(1))

    def begin(self, room: int, stop: bytearray) -> None:
        self.room = max(room, 1)
        self.stop = stop
        self.found: dict[bytes, tuple[Packed, list[bytes]]] = {}

    def keep(self, path: bytes, packed: Packed, own: list[bytes]) -> None:
        self.found[path] = packed, own
        self.room -= len(packed[0]) + len(path) + sum(len(name) + 1 for name in own)


class TreeWalk:
    """Packs a directory, and then those in it, in the order of a listing or ``backwards``.

    Backwards, of two directories the later goes first, but none before the one that it is in.

    Left out are a directory that cannot be packed, or that a link leads to, and all in it; what
    lies deeper than 32 levels, or has a path of a page. One thread at a time may walk.
    """

    def __init__(
        self,
        directory: int,
        coverage: Coverage,
        users: bytes,
        groups: bytes,
        *,
        backwards: bool = False,
    ) -> None:
        self._walk = _Walk((coverage, users, groups), backwards=backwards)
        self._walking = _walked(self._walk, directory, b"", 1)

    def more(self, room: int, stop: bytearray) -> dict[bytes, tuple[Packed, list[bytes]]]:
        """Return the next directories as ``pack_directory`` does, by their paths below the first.

        It is at least one while any is left. It ends where records, paths and netsync's own names
        have come to ``room`` bytes, and for good when another thread sets the first byte of
        ``stop``.
        """
        if not stop:
            raise ValueError("the flag needs a byte")
        walk = self._walk
        walk.begin(room, stop)
        for _ in self._walking:
            if walk.room <= 0:
                break
        if stop[0]:
            self._walking.close()
        return walk.found


def _walked(walk: _Walk, directory: int, path: bytes, level: int) -> Generator[None]:
    """Pack a directory and those in it, with a pause after each."""
    packed: Packed | None = None
    own: list[bytes] = []
    with contextlib.suppress(OSError):  # listing it will say what is wrong
        packed, own = pack_directory(directory, *walk.terms)
    if packed is None or walk.stop[0]:
        return
    walk.keep(path, packed, own)
    yield
    for _, offset in packed[3][:: walk.step] if level < _LEVELS_MAX else ():
        if walk.stop[0]:
            return
        name = name_at(packed[0], offset)
        below = join(path, name)
        if len(below) >= _PATH_BYTES:
            continue
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        except OSError:
            continue
        try:
            yield from _walked(walk, fd, below, level + 1)
        finally:
            os.close(fd)
