"""Looking at directories in plain Python: names, metadata, and all of a directory as one string.

The part of ``netsync.tree._plain`` that changes nothing and reads no content.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from netsync.model import DEVICES, KIND_OF_FORMAT, Entry, Kind
from netsync.names import IGNORE_FILE, is_reserved
from netsync.tree.records import HEAD

if TYPE_CHECKING:
    from netsync.tree.native import Coverage, Packed, Status

_XATTR_NAMES: Final = 256
"""Bytes of attribute names taken along for one entry; who has more is asked by itself."""
_OWNERS_MAX: Final = 64
"""Users, and groups, of one packed directory."""
_TEXT_MAX: Final = 4096
_SECONDS_MAX: Final = 9_000_000_000
"""Their nanoseconds fit 64 bits; until the year 2255."""
_PAIR: Final = struct.Struct("<II")
_SECOND: Final = 1_000_000_000
"""Nanoseconds."""


def list_names(directory: int) -> list[bytes]:
    """Return the names in a directory, in no order, and leave its position at its start."""
    return [os.fsencode(name) for name in os.listdir(directory)]


def stat_entries(
    directory: int, names: Sequence[bytes], attributes: bool = False
) -> list[Status | int]:
    """Return for each name its ``Status``, or the errno that stands against it.

    With ``attributes`` also the names of its extended attributes are asked for.
    """
    return [_status_or_errno(directory, name, attributes) for name in names]


def plain_entries(
    directory: int, names: Sequence[bytes], attributes: bool = False
) -> list[Entry | Status | int]:
    """Return the same, but for each plain name its ``Entry``.

    Plain are directories, and regular files that have no other name; neither has extended
    attributes, as far as these are asked for, nor a time outside the years 1684 to 2255.
    """
    found = stat_entries(directory, names, attributes)
    return [_plain_entry(*each) or each[1] for each in zip(names, found, strict=True)]


def _plain_entry(name: bytes, status: Status | int) -> Entry | None:
    if isinstance(status, int):
        return None
    bits, uid, gid, size, mtime_ns = status[:5]
    kind = KIND_OF_FORMAT.get(stat.S_IFMT(bits))
    single = kind is Kind.DIRECTORY or (kind is Kind.FILE and status[6] == 1)
    timely = -_SECONDS_MAX < mtime_ns // _SECOND < _SECONDS_MAX
    if kind is None or not (single and timely and status[10] == b""):
        return None
    size = size if kind is Kind.FILE else 0
    return Entry(name, kind, stat.S_IMODE(bits), uid, gid, size, mtime_ns)


def _status_or_errno(directory: int, name: bytes, attributes: bool) -> Status | int:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        return error.errno or errno.EIO
    return (
        found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns,
        found.st_rdev, found.st_nlink, found.st_dev, found.st_ino, found.st_blocks,
        _attribute_names(directory, name) if attributes else b"",
    )  # fmt: skip


def _attribute_names(directory: int, name: bytes) -> bytes | None:
    """Return an entry's attribute names, or None if they are too many or cannot be told here."""
    try:
        names = os.listxattr(b"/proc/self/fd/%d/%s" % (directory, name), follow_symlinks=False)
    except OSError as error:
        return b"" if error.errno == errno.EOPNOTSUPP else None
    listed = b"".join(os.fsencode(each) + b"\0" for each in names)
    return listed if len(listed) <= _XATTR_NAMES else None


def pack_directory(
    directory: int, coverage: Coverage, users: bytes, groups: bytes
) -> tuple[Packed | None, list[bytes]]:
    """Return what a directory holds as one string, and netsync's own names, which it leaves out.

    Directories with equal entries have equal strings, and only those: it is a record for each
    entry, sorted by name. Owners become those that ``users`` and ``groups`` give them: sorted
    pairs of a local and another number, 32 bits each, little-endian; others stay.

    None stands for a directory that cannot be packed: one with an entry that
    ``coverage`` does not cover or that cannot be read, with an ignore file, with more than 64
    owners, or whose records take more than ``coverage.room`` bytes. Raises ``OSError`` if the
    directory itself cannot be read.
    """
    found = sorted(list_names(directory))
    own = [name for name in found if is_reserved(name)]
    records: list[bytes] = []
    directories: list[tuple[int, int]] = []
    uids: dict[int, None] = {}
    gids: dict[int, None] = {}
    used = total = 0
    user_of, group_of = dict(_PAIR.iter_unpack(users)), dict(_PAIR.iter_unpack(groups))
    for name in found:
        if is_reserved(name):
            continue
        fields = None if name == IGNORE_FILE else _fields(directory, name, coverage)
        if fields is None:
            return None, own
        mode, uid, gid, size, mtime_ns, device, text = fields
        uid, gid = user_of.get(uid, uid), group_of.get(gid, gid)
        uids[uid], gids[gid] = None, None
        if stat.S_ISDIR(mode):
            directories.append((len(records), used))
        head = HEAD.pack(mode, uid, gid, size, mtime_ns, device, len(name), len(text))
        records.append(head + name + text)
        used += len(records[-1])
        total += size
        if used > coverage.room or max(len(uids), len(gids)) > _OWNERS_MAX:
            return None, own
    packed = b"".join(records), len(records), total, directories, list(uids), list(gids)
    return packed, own


def _fields(
    directory: int, name: bytes, coverage: Coverage
) -> tuple[int, int, int, int, int, int, bytes] | None:
    """Return an entry's part of a record, or None if it is not covered."""
    status = _status_or_errno(directory, name, coverage.no_attributes)
    if isinstance(status, int):
        return None
    bits, uid, gid, size, mtime_ns, device = status[:6]
    kind = KIND_OF_FORMAT.get(stat.S_IFMT(bits))
    if kind is None or not _covers(status, kind, coverage):
        return None
    text = _link_text(directory, name) if kind is Kind.SYMLINK else b""
    if text is None:
        return None
    return (
        stat.S_IFMT(bits) | bits & coverage.mode_mask,
        uid if coverage.owner else 0,
        gid if coverage.group else 0,
        size if kind is Kind.FILE else 0,
        mtime_ns,
        device if kind in DEVICES else 0,
        text,
    )


def _covers(status: Status, kind: Kind, coverage: Coverage) -> bool:
    if not coverage.kinds >> kind & 1:
        return False
    if coverage.whole_modes and stat.S_IMODE(status[0]) & ~coverage.mode_mask:
        return False
    if not -_SECONDS_MAX < status[4] // _SECOND < _SECONDS_MAX:
        return False
    if kind is not Kind.DIRECTORY and coverage.single_links and status[6] != 1:
        return False
    return not coverage.no_attributes or status[10] == b""


def _link_text(directory: int, name: bytes) -> bytes | None:
    try:
        text = os.readlink(name, dir_fd=directory)
    except OSError:
        return None
    return text if 0 < len(text) < _TEXT_MAX else None
