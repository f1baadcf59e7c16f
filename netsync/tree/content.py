"""The content of a file, holes and all: hashed, and copied."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from netsync.delta.digest import CHUNK, ContentDigest
from netsync.tree.holes import extents, next_data
from netsync.tree.read import open_regular, read_fully, write_fully

_READ_BYTES: Final = 1024 * 1024


class Hashed:
    """The digest of what an open file reads as, from its first byte on, in steps.

    ``position`` is how far it has read.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._digest = ContentDigest()
        self.position = 0

    def read_to(self, end: int) -> Iterator[tuple[int, bytes]]:
        """Read on up to ``end``; yield from where on it did, and what it read: of holes nothing.

        ``end`` is a multiple of ``CHUNK`` or the file's end. A file that ends earlier is hashed
        up to there. Raises ``OSError``.
        """
        while self.position < end:
            start = self.position
            end = min(end, os.fstat(self._fd).st_size)
            if chunks := (min(end, next_data(self._fd, start)) - start) // CHUNK:
                self._digest.skip(chunks)
                self.position += chunks * CHUNK
                data = b""
            else:
                data = read_fully(self._fd, min(_READ_BYTES, end - start), start)
                self._digest.update(data)
                self.position += len(data)
            if self.position == start:
                return
            yield start, data

    def digest(self) -> bytes:
        """Return the digest of what has been read."""
        return self._digest.digest()


def content_digest(directory: int, name: bytes) -> bytes:
    """Return the digest of what a regular file reads as. Raises ``OSError``."""
    fd = open_regular(directory, name)
    try:
        hashed = Hashed(fd)
        for _ in hashed.read_to(os.fstat(fd).st_size):
            pass
        return hashed.digest()
    finally:
        os.close(fd)


def holds_the_same(one: tuple[int, bytes], other: tuple[int, bytes]) -> bool:
    """Tell whether two names, each a directory and a name in it, are files of the same bytes.

    What cannot be read, or is no regular file, is not the same.
    """
    with contextlib.suppress(OSError):
        fd = open_regular(*one)
        try:
            return is_content_of(fd, *other)
        finally:
            os.close(fd)
    return False


def is_content_of(fd: int, directory: int, name: bytes) -> bool:
    """Tell whether a name is a regular file of the bytes that an open file holds.

    Raises ``OSError`` where one of them cannot be read; what cannot be opened is not.
    """
    try:
        there = open_regular(directory, name)
    except OSError:
        return False
    try:
        return _reads_the_same(fd, there)
    finally:
        os.close(there)


def _reads_the_same(first: int, second: int) -> bool:
    size = os.fstat(first).st_size
    if os.fstat(second).st_size != size:
        return False
    at = 0
    while (at := min(next_data(first, at), next_data(second, at))) < size:
        wanted = min(_READ_BYTES, size - at)
        data = read_fully(first, wanted, at)
        if len(data) != wanted or read_fully(second, wanted, at) != data:
            return False
        at += wanted
    return True


def copy_data(source: int, target: int, end: int) -> None:
    """Copy the first ``end`` bytes of one open file to another, an empty one, holes as holes.

    Raises ``OSError``.
    """
    for extent in extents(source, 0, end):
        for at in range(extent.start, 0 if extent.is_hole else extent.end, _READ_BYTES):
            data = read_fully(source, min(_READ_BYTES, extent.end - at), at)
            write_fully(target, data, at)
    os.ftruncate(target, end)
