"""The file calls of one small file in plain Python: the meaning of each, and what always runs.

``netsync.tree._native`` does the same with one release of the GIL a call; one contract suite
holds both to the words here. Each function takes a held directory's descriptor and single names
in it, follows no link, refuses a name with a NUL with ``ValueError``, and raises ``OSError``
with the system's errno.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from netsync.model import DEVICES, KIND_OF_FORMAT, Entry, Kind
from netsync.names import IGNORE_FILE, is_reserved, join
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.tree.read import OPEN_FILE
from netsync.tree.records import HEAD, name_at

if TYPE_CHECKING:
    from netsync.tree.native import Buffer, Coverage, Packed, Staging, Status

NAME: Final = "pure"

_UNNAMED: Final = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_PRIVATE: Final = 0o600
_XATTR_NAMES: Final = 256
"""Bytes of attribute names taken along for one entry; who has more is asked by itself."""
_OWNERS_MAX: Final = 64
"""Users, and groups, of one packed directory."""
_TEXT_MAX: Final = 4096
_LEVELS_MAX: Final = 32
"""Directories below each other of a packed tree."""
_PATH_BYTES: Final = 4096
_SECOND: Final = 1_000_000_000
"""Nanoseconds."""
_SECTOR: Final = 512
"""Bytes in a unit of ``st_blocks``."""
_SECONDS_MAX: Final = 9_000_000_000
"""Their nanoseconds fit 64 bits; until the year 2255."""
_PAIR: Final = struct.Struct("<II")


def read_file(directory: int, name: bytes, room: memoryview) -> tuple[int, int, int, int]:
    """Read the file ``name`` into ``room`` until that is full or the file ends.

    Return the bytes read and, as they are after that, its size, its modification time in
    nanoseconds and its ``st_mode``. From anything but a regular file nothing is read: a FIFO
    or device put in a file's place must neither hang the session nor lose its data.
    """
    count, _, status = _read(directory, name, room.cast("B"))
    return count, status.st_size, status.st_mtime_ns, status.st_mode


def _read(
    directory: int, name: bytes, room: memoryview
) -> tuple[int, os.stat_result, os.stat_result]:
    """Return the bytes read, and what the file was before and after."""
    fd = os.open(name, OPEN_FILE, dir_fd=directory)
    try:
        count = 0
        before = after = os.fstat(fd)
        if stat.S_ISREG(before.st_mode):
            while count < len(room) and (got := os.readv(fd, [room[count:]])):
                count += got
            after = os.fstat(fd)
    finally:
        os.close(fd)
    return count, before, after


def read_listed(
    directory: int,
    names: Sequence[bytes],
    sizes: Sequence[int],
    times: Sequence[int],
    room: memoryview,
) -> list[int]:
    """Read files that were listed with these sizes and times, one behind the other.

    Each has its place in ``room``, whether or not it could be read. Return for each 0, -1 where
    the file is not as it was listed or changed while it was read (the time of its change tells,
    which nobody can set back), -2 where it is, but takes less room than it is long, or the errno
    that stands against it: ``ESTALE`` for what is no regular file any more.
    """
    told: list[int] = []
    used = 0
    if not len(names) == len(sizes) == len(times):
        raise ValueError("as many names, sizes and times")
    for name, size, time in zip(names, sizes, times, strict=True):
        if not 0 <= size <= len(room) - used:
            raise ValueError("the room is too small")
        told.append(_read_as_listed(directory, name, room[used : used + size], time))
        used += size
    return told


def _read_as_listed(directory: int, name: bytes, room: memoryview, time: int) -> int:
    try:
        count, before, status = _read(directory, name, room.cast("B"))
    except OSError as error:
        return error.errno or errno.EIO
    if not stat.S_ISREG(status.st_mode):
        return errno.ESTALE
    if not (count == len(room) == status.st_size and status.st_mtime_ns == time):
        return -1
    if status.st_ctime_ns != before.st_ctime_ns:
        return -1
    return -2 if status.st_blocks * _SECTOR < status.st_size else 0


def stage_file(
    directory: int, data: Buffer, mode: int, uid: int, gid: int, mtime_ns: int | None
) -> int:
    """Return a descriptor of a new unnamed file that holds ``data`` and has this metadata.

    -1 leaves the mode, owner or group that a new file gets there, None its time. Owner comes
    before mode, which a change of owner would cut, and the time last. Whatever fails, nothing
    stays. ``EOPNOTSUPP``, ``EISDIR``, ``EINVAL`` or ``ENOENT`` may mean that the file system
    has no unnamed files.
    """
    fd = os.open(b".", _UNNAMED, _PRIVATE, dir_fd=directory)
    try:
        _write_all(fd, data)
        if uid != -1 or gid != -1:
            status = os.fstat(fd)
            uid = -1 if uid == status.st_uid else uid
            gid = -1 if gid == status.st_gid else gid
            if uid != -1 or gid != -1:
                os.fchown(fd, uid, gid)
        if mode != -1:
            os.fchmod(fd, mode)
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    except BaseException:
        os.close(fd)
        raise
    return fd


def stage_files(directory: int, data: Buffer, files: Sequence[Staging]) -> list[int]:
    """Stage files whose contents lie one behind the other in ``data``, each like ``stage_file``.

    Return for each its descriptor, or below zero the errno that stands against it.
    """
    told: list[int] = []
    whole = memoryview(data).cast("B")
    used = 0
    try:
        for size, mode, uid, gid, mtime_ns in files:
            if not 0 <= size <= len(whole) - used:
                raise ValueError("the files are larger than the data")
            content = whole[used : used + size]
            told.append(_staged_or_errno(directory, content, mode, uid, gid, mtime_ns))
            used += size
    except BaseException:
        for fd in told:
            if fd >= 0:
                os.close(fd)
        raise
    return told


def _staged_or_errno(
    directory: int, data: Buffer, mode: int, uid: int, gid: int, mtime_ns: int | None
) -> int:
    try:
        return stage_file(directory, data, mode, uid, gid, mtime_ns)
    except OSError as error:
        return -(error.errno or errno.EIO)


def _write_all(fd: int, data: Buffer) -> None:
    whole = memoryview(data).cast("B")
    position = 0
    while position < len(whole):
        written = os.pwrite(fd, whole[position:], position)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        position += written


def link_staged(fd: int, directory: int, name: bytes) -> None:
    """Give the unnamed file ``fd`` the name ``name``. Raises ``FileExistsError`` if it is taken."""
    os.link(b"/proc/self/fd/%d" % fd, name, dst_dir_fd=directory, follow_symlinks=True)


def link_files(directory: int, fds: Sequence[int], names: Sequence[bytes]) -> list[int]:
    """Give unnamed files their names, and close those that have got one.

    Return for each 0, or the errno of the linking, its descriptor still open, or below zero that
    of the closing, where the file system reports late.
    """
    if len(fds) != len(names):
        raise ValueError("as many names as files")
    return [_link_and_close(fd, directory, name) for fd, name in zip(fds, names, strict=True)]


def _link_and_close(fd: int, directory: int, name: bytes) -> int:
    try:
        link_staged(fd, directory, name)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        os.close(fd)
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0


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


class _Walk:
    """A tree being packed: on what terms, until when, and what was packed so far."""

    def __init__(self, terms: tuple[Coverage, bytes, bytes], room: int, stop: bytearray) -> None:
        self.terms = terms
        self.room = room
        self.stop = stop
        self.found: dict[bytes, tuple[Packed, list[bytes]]] = {}

    def keep(self, path: bytes, packed: Packed, own: list[bytes]) -> None:
        self.found[path] = packed, own
        self.room -= len(packed[0])

    @property
    def is_over(self) -> bool:
        return bool(self.stop[0]) or self.room <= 0


def pack_tree(
    directory: int, coverage: Coverage, users: bytes, groups: bytes, room: int, stop: bytearray
) -> dict[bytes, tuple[Packed, list[bytes]]]:
    """Return a directory and those in it as ``pack_directory`` does, by their paths below it.

    They come in the order of a listing.

    Left out are a directory that cannot be packed, or that a link leads to, and all in it; what
    lies deeper than 32 levels, or has a path of a page. It ends where the records have come to
    ``room`` bytes, and as soon as another thread sets the first byte of ``stop``.
    """
    if not stop:
        raise ValueError("the flag needs a byte")
    walk = _Walk((coverage, users, groups), room, stop)
    with contextlib.suppress(OSError):
        _pack_level(directory, b"", 1, walk)
    return walk.found


def _pack_level(directory: int, path: bytes, level: int, walk: _Walk) -> None:
    packed, own = pack_directory(directory, *walk.terms)
    if packed is None or walk.stop[0]:
        return
    walk.keep(path, packed, own)
    for _, offset in packed[3] if level < _LEVELS_MAX else ():
        if walk.is_over:
            return
        name = name_at(packed[0], offset)
        below = join(path, name)
        if len(below) >= _PATH_BYTES:
            continue
        with contextlib.suppress(OSError):  # listing it will say what is wrong
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
            try:
                _pack_level(fd, below, level + 1, walk)
            finally:
                os.close(fd)


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
