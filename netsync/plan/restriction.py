"""Which paths a listing is restricted to: ``--files-from``, and what changed since the last one.

Paths are kept sorted component by component, so that what lies in a directory is a range found
by bisection: a list of a hundred thousand names costs its text and no tree of objects. A path
that ends in a slash stands for the directory and its entries, but not for what is in those; one
without stands for the entry alone, as with rsync. The directories above a path take part too.

What changed is told in the same way, but there a path with a slash is a *tree*: it stands for all
below it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from netsync.names import is_component

_END: Final = b"\0"
"""Divides components in the sorted keys: no name holds it, and it sorts before all that do."""
_AFTER: Final = b"\1"


class Restriction:
    """A sorted set of paths, asked directory by directory.

    ``refused`` are the paths that cannot be anyone's: they lead out, or hold a reserved name.
    With ``trees`` a path that ends in a slash stands for all below it, and the root for itself
    unless it ends in one.
    """

    def __init__(self, paths: Iterable[bytes], *, trees: bool = False) -> None:
        self.refused: list[bytes] = []
        self._trees = trees
        keys: set[bytes] = set()
        for path in paths:
            parts = [part for part in path.split(b"/") if part not in (b"", b".")]
            if not all(map(is_component, parts)):
                self.refused.append(path)
                continue
            whole = path.endswith((b"/", b"/.")) or not (parts or trees)
            if not (parts or whole):
                continue
            keys.add(b"".join(part + _END for part in parts) + (_END if whole else b""))
        self._keys: Sequence[bytes] = sorted(keys)

    def opens(self, directory: bytes) -> bool:
        """Tell whether all entries of ``directory`` take part, not only named ones."""
        if self._has(_key(directory) + _END):
            return True
        while self._trees and directory:
            directory = directory.rpartition(b"/")[0]
            if self._has(_key(directory) + _END):
                return True
        return False

    def names_in(self, directory: bytes) -> Iterator[bytes]:
        """Yield the names in ``directory`` that are named, or lead to what is, sorted."""
        prefix = _key(directory)
        position = bisect_left(self._keys, prefix + _AFTER)
        while position < len(self._keys) and self._keys[position].startswith(prefix):
            name = self._keys[position][len(prefix) :].partition(_END)[0]
            yield name
            position = bisect_left(self._keys, prefix + name + _AFTER, position)

    def leads_into(self, path: bytes) -> bool:
        """Tell whether ``path`` must be a directory: something below it is asked for."""
        prefix = _key(path)
        position = bisect_left(self._keys, prefix + _END)
        return position < len(self._keys) and self._keys[position].startswith(prefix)

    def named_below(self, path: bytes) -> Iterator[bytes]:
        """Yield the named paths below ``path``, and ``path`` if it is named itself."""
        prefix = _key(path)
        for position in range(bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[position]
            if not key.startswith(prefix):
                return
            yield key.rstrip(_END).replace(_END, b"/")

    def _has(self, key: bytes) -> bool:
        position = bisect_left(self._keys, key)
        return position < len(self._keys) and self._keys[position] == key


def names_root(paths: Iterable[bytes]) -> bool:
    """Tell whether the directory that all ``paths`` are relative to is itself one of them."""
    return any(not path.strip(b"./") and _is_root(path) for path in paths)


def _is_root(path: bytes) -> bool:
    return all(part in (b"", b".") for part in path.split(b"/"))


def _key(path: bytes) -> bytes:
    return path.replace(b"/", _END) + _END if path else b""


def parse_list(content: bytes, *, ends_with_nul: bool) -> list[bytes]:
    """Return the paths of a list as rsync reads it: a line each, or each ended by a NUL.

    In lines, blank ones and those that begin with ``#`` or ``;`` are passed over.
    """
    if ends_with_nul:
        return [path for path in content.split(b"\0") if path]
    lines = (line.removesuffix(b"\r") for line in content.split(b"\n"))
    return [line for line in lines if line and not line.startswith((b"#", b";"))]
