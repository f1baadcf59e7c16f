"""Where listed names really are: the directories that back a listed one.

A listed directory may merge several sources, and with ``--copy-links`` a name may really be
elsewhere. Real places are a root's number, a directory below it and a name in that. Each root
has two numbers: its own, and for what links lead to, that of its anchor (the module's directory,
or the file system's root), from which a resolved path is walked without following any link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from netsync.names import join
from netsync.transfer.offers import InDirectory, Located
from netsync.tree.directories import Directories
from netsync.tree.roots import SourceRoot

RUN_NAMES: Final = 512
"""Names looked at in one go: what a listing holds at most."""


class Node:
    """A directory to list: its number, its path in the transfer, the places that back it.

    ``identity`` is the device and inode that was listed under this path, known where links are
    followed; ``above`` is the directory it lies in.
    """

    __slots__ = ("above", "backings", "identity", "number", "path")

    def __init__(
        self,
        number: int,
        path: bytes,
        backings: Sequence[tuple[int, bytes]],
        above: Node | None = None,
    ) -> None:
        self.number = number
        self.path = path
        self.backings = backings
        self.above = above
        self.identity = (-1, -1)

    def path_of(self, name: bytes) -> bytes:
        """Return the transfer path of the entry ``name`` here."""
        return join(self.path, name)

    def repeats(self) -> bool:
        """Tell whether a directory above is this one too: links lead round in a circle."""
        above = self.above
        while above is not None:
            if above.identity == self.identity:
                return True
            above = above.above
        return False


class Run(NamedTuple):
    """Consecutive names of a listed directory that are together in a real one."""

    root: int
    directory: bytes
    names: Sequence[bytes]
    real: Sequence[bytes]


class Places(Protocol):
    """Where the names of one listed directory really are, the place that counts first.

    ``locate`` is ``first`` for those who outlive this, and holds as little as it can.
    """

    def runs(self) -> Iterator[Run]: ...
    def first(self, name: bytes) -> Located: ...
    @property
    def locate(self) -> Callable[[bytes], Located]: ...
    def others(self, name: bytes) -> Sequence[Located]: ...
    def move(self, name: bytes, located: Located) -> None: ...


class OnePlace(NamedTuple):
    """A directory with one backing, as nearly all are: names only, however many."""

    root: int
    directory: bytes
    sorted_names: list[bytes]
    moved: dict[bytes, Located]

    def runs(self) -> Iterator[Run]:
        """Yield the names in chunks."""
        for start in range(0, len(self.sorted_names), RUN_NAMES):
            names = self.sorted_names[start : start + RUN_NAMES]
            yield Run(self.root, self.directory, names, names)

    def first(self, name: bytes) -> Located:
        """Return where ``name`` is."""
        return self.locate(name)

    @property
    def locate(self) -> Callable[[bytes], Located]:
        """Return ``first`` without the names, for the entries listed so far."""
        here = InDirectory(self.root, self.directory)
        moved = self.moved
        return (lambda name: moved.get(name) or here(name)) if moved else here

    def others(self, name: bytes) -> Sequence[Located]:
        """Return nothing: there is one place."""
        del name
        return ()

    def move(self, name: bytes, located: Located) -> None:
        """Note that ``name`` is a link, and what it leads to."""
        self.moved[name] = located


class MergedPlaces(NamedTuple):
    """Several sources in one directory, first source first."""

    places: dict[bytes, list[Located]]

    def runs(self) -> Iterator[Run]:
        """Yield the names one by one: merged directories are few."""
        for name in sorted(self.places):
            root, directory, real = self.first(name)
            yield Run(root, directory, [name], [real])

    def first(self, name: bytes) -> Located:
        """Return where ``name`` is in the first source that has it."""
        return self.places[name][0]

    @property
    def locate(self) -> Callable[[bytes], Located]:
        """Return ``first``."""
        return self.first

    def others(self, name: bytes) -> Sequence[Located]:
        """Return where else ``name`` is."""
        return self.places[name][1:]

    def move(self, name: bytes, located: Located) -> None:
        """Note that ``name`` is a link, and what it leads to."""
        self.places[name][0] = located


def backing_directories(roots: Sequence[SourceRoot]) -> list[Directories]:
    """Return the directories by the numbers of ``Located``: of the roots, then of their anchors."""
    anchors = (root.fd if root.anchor is None else root.anchor.fd for root in roots)
    return [*(Directories(root.fd) for root in roots), *map(Directories, anchors)]


def anchored(roots: Sequence[SourceRoot], root: int, directory: bytes) -> tuple[int, bytes]:
    """Return the number of the anchor of ``root``, and ``directory`` as seen from there."""
    if root >= len(roots):
        return root, directory
    base = roots[root].path
    if base and directory:
        return root + len(roots), join(base, directory)
    return root + len(roots), base or directory
