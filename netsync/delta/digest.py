"""The digest of a file that may have holes, at the price of its data.

A file without holes has the digest of its bytes. One with holes has the digest of: for each hole
how much data lies before it and how long it is, then the digest of all data. So no two files of
one size have the same, as far as the hash goes.

Both ends of a transfer know the holes from the operations (``OpDigest``). Two files that are
compared may have the same content and other holes: then what counts as a hole are chunks of
zeros, wherever they come from (``ContentDigest``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Callable

    from netsync.delta.kernel import Buffer

CHUNK: Final = 128 * 1024
"""Bytes that count as a hole if all are zero and they begin at a multiple of this."""
_ZEROS: Final = bytes(CHUNK)
_NUMBER: Final = 8
"""Bytes of each number, little-endian."""


class Hasher(Protocol):
    """What BLAKE3 and xxh3_128 have in common."""

    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


_H = TypeVar("_H", bound=Hasher)


class OpDigest(Generic[_H]):
    """The digest of a file told as data and holes, from its first byte to its last."""

    __slots__ = ("_before", "_data", "_hole", "_holes", "_new")

    def __init__(self, new: Callable[[], _H]) -> None:
        self._new = new
        self._data = new()
        self._holes: _H | None = None
        self._before = 0  # bytes of data since the last hole
        self._hole = 0  # bytes of the hole that ends with the next data

    def update(self, data: Buffer) -> None:
        """Take the next bytes."""
        self.data(len(data)).update(data)

    def data(self, length: int) -> _H:
        """Return the hash of the data, which is about to take the next ``length`` bytes."""
        if self._hole:
            self._end_hole()
        self._before += length
        return self._data

    def skip(self, length: int) -> None:
        """Take a hole; holes that follow each other are one."""
        self._hole += length

    def digest(self) -> bytes:
        """Return the digest of all that was taken."""
        if self._hole:
            self._end_hole()
        if self._holes is None:
            return self._data.digest()
        self._holes.update(self._data.digest())
        return self._holes.digest()

    def _end_hole(self) -> None:
        holes = self._holes = self._holes or self._new()
        for number in (self._before, self._hole):
            holes.update(number.to_bytes(_NUMBER, "little"))
        self._before = self._hole = 0


class ContentDigest:
    """The BLAKE3 of what a file reads as, whether its zeros take room or not."""

    __slots__ = ("_digest",)

    def __init__(self) -> None:
        self._digest = OpDigest(blake3)

    def update(self, data: bytes) -> None:
        """Take the next bytes, whole chunks but for the file's last."""
        view = memoryview(data)
        start = 0
        for at in range(0, len(data), CHUNK):
            if data.startswith(_ZEROS, at):
                if start < at:
                    self._digest.update(view[start:at])
                self._digest.skip(CHUNK)
                start = at + CHUNK
        if start < len(data):
            self._digest.update(view[start:])

    def skip(self, chunks: int) -> None:
        """Take so many chunks of zeros."""
        self._digest.skip(chunks * CHUNK)

    def digest(self) -> bytes:
        """Return the digest of all that was taken."""
        return self._digest.digest()
