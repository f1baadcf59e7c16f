"""Where the names of a listed directory really are: in one source, or merged from several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from netsync.transfer.offers import Located

RUN_NAMES: Final = 512
"""Names looked at in one go: what a listing holds at most."""


class Run(NamedTuple):
    """Consecutive names of a listed directory that are together in a real one."""

    root: int
    directory: bytes
    names: Sequence[bytes]
    real: Sequence[bytes]


class Places(Protocol):
    """Where the names of one listed directory really are, the place that counts first."""

    def runs(self) -> Iterator[Run]: ...
    def first(self, name: bytes) -> Located: ...
    def others(self, name: bytes) -> Sequence[Located]: ...


class OnePlace(NamedTuple):
    """A directory with one backing, as nearly all are: names only, however many."""

    root: int
    directory: bytes
    sorted_names: list[bytes]

    def runs(self) -> Iterator[Run]:
        for start in range(0, len(self.sorted_names), RUN_NAMES):
            names = self.sorted_names[start : start + RUN_NAMES]
            yield Run(self.root, self.directory, names, names)

    def first(self, name: bytes) -> Located:
        return Located(self.root, self.directory, name)

    def others(self, name: bytes) -> Sequence[Located]:
        return ()


class MergedPlaces(NamedTuple):
    """Several sources in one directory, first source first."""

    places: dict[bytes, list[Located]]

    def runs(self) -> Iterator[Run]:
        """Yield the names one by one: merged directories are few."""
        for name in sorted(self.places):
            root, directory, real = self.first(name)
            yield Run(root, directory, [name], [real])

    def first(self, name: bytes) -> Located:
        return self.places[name][0]

    def others(self, name: bytes) -> Sequence[Located]:
        return self.places[name][1:]
