"""Records kept until the end of a transfer, packed, on disk past a bound.

What must be known globally before it may be acted on (names to delete, directories whose times
come last) is written to a ``Spool`` and read back newest first, so that what lies deeper comes
before the directory it lies in. What may be asked for later is put into an ``Archive`` and found
again by its number.
"""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

MEMORY_MAX: Final = 16 * 1024 * 1024
"""Bytes held in memory; about 300,000 short paths."""

_LENGTH: Final = struct.Struct(">I")
Record = TypeVar("Record", bound=msgspec.Struct)


class Spool(Generic[Record]):
    """A stack of records that is written once and read from its top."""

    def __init__(self, kind: type[Record]) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_MAX)  # noqa: SIM115 - owned
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, record: Record) -> None:
        """Add one record."""
        body = self._encode(record)
        self._file.write(body + _LENGTH.pack(len(body)))
        self._count += 1

    def __iter__(self) -> Iterator[Record]:
        position = self._file.seek(0, os.SEEK_END)
        while position:
            self._file.seek(position - _LENGTH.size)
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
            position -= _LENGTH.size + length
            self._file.seek(position)
            yield self._decode(self._file.read(length))

    def close(self) -> None:
        """Drop everything."""
        self._file.close()


class Archive(Generic[Record]):
    """Records by a number that only grows; 16 bytes of memory each beside what is on disk."""

    def __init__(self, kind: type[Record]) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_MAX)  # noqa: SIM115 - owned
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._numbers = array("Q")
        self._offsets = array("Q", [0])

    def put(self, number: int, record: Record) -> None:
        """Keep ``record`` under ``number``, which must be above all before it."""
        body = self._encode(record)
        self._file.seek(self._offsets[-1])
        self._file.write(body)
        self._numbers.append(number)
        self._offsets.append(self._offsets[-1] + len(body))

    def get(self, number: int) -> Record | None:
        """Return what is kept under ``number``."""
        position = bisect_left(self._numbers, number)
        if position == len(self._numbers) or self._numbers[position] != number:
            return None
        start, end = self._offsets[position : position + 2]
        self._file.seek(start)
        return self._decode(self._file.read(end - start))

    def close(self) -> None:
        """Drop everything."""
        self._file.close()
