"""A directory as one string of records: what ``pack_directory`` returns, read.

A record is a head of 40 bytes, then the entry's name and a link's text. All numbers are
little-endian. Two directories whose entries are equal have equal strings, so a digest of the
string stands for the directory.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Final

import xxhash

from netsync.model import KIND_OF_FORMAT, Entry

HEAD: Final = struct.Struct("<IIIQqQHH")
"""``st_mode``, user, group, size, time in nanoseconds, device number, bytes of name and text."""
_NAME_BYTES: Final = struct.Struct("<36xH")


RECORDS_MAX: Final = 1024 * 1024
"""Bytes of records of one directory, some 15,000 entries; a larger one is listed."""


def records_digest(records: bytes, seed: int, size: int) -> bytes:
    """Return the first ``size`` bytes of the records' seeded xxh3_128."""
    return xxhash.xxh3_128_digest(records, seed=seed)[:size]


def entry_in(records: bytes, offset: int) -> tuple[Entry, int]:
    """Return the entry whose record is at ``offset``, and where the next one begins."""
    bits, uid, gid, size, mtime_ns, device, name_bytes, text_bytes = HEAD.unpack_from(
        records, offset
    )
    name_at = offset + HEAD.size
    text_at = name_at + name_bytes
    end = text_at + text_bytes
    name, text = records[name_at:text_at], records[text_at:end]
    kind = KIND_OF_FORMAT[stat.S_IFMT(bits)]
    mode = stat.S_IMODE(bits)
    return Entry(name, kind, mode, uid, gid, size, mtime_ns, text, device), end


def name_at(records: bytes, offset: int) -> bytes:
    """Return the name of the entry whose record is at ``offset``."""
    (size,) = _NAME_BYTES.unpack_from(records, offset)
    return records[offset + HEAD.size : offset + HEAD.size + size]


def entries_in(records: bytes) -> Iterator[Entry]:
    """Yield every entry."""
    offset = 0
    while offset < len(records):
        entry, offset = entry_in(records, offset)
        yield entry
