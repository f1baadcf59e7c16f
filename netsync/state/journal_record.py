"""One record of a standby's journal: as a value, and as it lies on the disk.

A head with length, kind, numbers and checksum, then packed operations as they came. What is torn or
damaged reads as no record at all. Heads are looked for in the midst of what users wrote, too; so
each journal has a *key* that nobody else knows, and what was made without it is no record.
"""

from __future__ import annotations

import enum
import os
import struct
from typing import Final, NamedTuple

from xxhash import xxh3_64

from netsync.wire.mirroring import OPERATIONS_MAX

_MAGIC: Final = b"nsop"
_HEAD: Final = struct.Struct("<4sIB3sIQQ16s")
_CHECK: Final = struct.Struct("<Q")
KEY_BYTES: Final = 8
HEAD_BYTES: Final = _HEAD.size + _CHECK.size


class Kind(enum.IntEnum):
    """What a record is. Only ``OPERATIONS`` count in the log's own numbers."""

    OPERATIONS = 1
    RESYNC_BEGIN = 2
    RESYNC_OPERATIONS = 3
    RESYNC_END = 4
    SEGMENT = 5


class JournalRecord(NamedTuple):
    """One record. ``first`` numbers its first operation, ``chain`` is that after its last.

    Of an end of a resync ``first`` is the number where the standby is with it, there are none. That
    of a segment, its first record, says where the segment before it ended.
    """

    kind: Kind
    first: int
    operations: int
    chain: bytes
    body: bytes | memoryview = b""

    @property
    def last(self) -> int:
        """The number of its last operation."""
        return self.first + self.operations - 1 if self.operations else self.first


class Position(NamedTuple):
    """A place between two records."""

    segment: int
    offset: int


def head_of(record: JournalRecord, durable: int, key: int) -> bytes:
    """Return what goes before the body; ``durable`` is what was known to be before it."""
    head = _HEAD.pack(
        _MAGIC,
        len(record.body),
        record.kind,
        _salt(key),
        record.operations,
        record.first,
        durable,
        record.chain,
    )
    return head + _CHECK.pack(_checksum(head, record.body, key))


def _salt(key: int) -> bytes:
    """Return what tells most heads that are none without reading a body."""
    return key.to_bytes(KEY_BYTES, "big")[:3]


def _checksum(head: bytes, body: bytes | memoryview, key: int) -> int:
    digest = xxh3_64(head, seed=key)
    digest.update(body)
    return digest.intdigest()


def read_record(fd: int, offset: int, key: int) -> tuple[JournalRecord, int] | None:
    """Return the record at ``offset`` and what was durable before it; None if there is none."""
    head = _read_fully(fd, HEAD_BYTES, offset)
    if len(head) < HEAD_BYTES:
        return None
    magic, length, kind, salt, count, first, durable, chain = _HEAD.unpack_from(head)
    if (magic, salt) != (_MAGIC, _salt(key)):
        return None
    if length > OPERATIONS_MAX or kind not in Kind._value2member_map_:
        return None
    body = _read_fully(fd, length, offset + HEAD_BYTES)
    (checksum,) = _CHECK.unpack_from(head, _HEAD.size)
    if len(body) < length or _checksum(head[: _HEAD.size], body, key) != checksum:
        return None
    return JournalRecord(Kind(kind), first, count, chain, memoryview(body)), durable


def _read_fully(fd: int, count: int, offset: int) -> bytes:
    """Return ``count`` bytes at ``offset``, fewer only at the end of the file."""
    data = os.pread(fd, count, offset)
    while 0 < len(data) < count and (more := os.pread(fd, count - len(data), offset + len(data))):
        data += more
    return data


def vouched_for(fd: int, offset: int, size: int, seq: int, key: int) -> bool:
    """Tell whether a whole record behind a broken one says that more than ``seq`` was durable."""
    step = 1 << 20
    for start in range(offset, size, step):
        data = _read_fully(fd, step + len(_MAGIC), start)
        at = data.find(_MAGIC)
        while at >= 0:
            found = read_record(fd, start + at, key)
            if found is not None and found[1] > seq:
                return True
            at = data.find(_MAGIC, at + 1)
    return False
