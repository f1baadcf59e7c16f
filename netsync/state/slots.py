"""One value in a file of its own, written so that a crash leaves the new one or the old one.

Two slots are written in turn, each with a number and a checksum; the valid one with the higher
number counts, so a torn write leaves the one before. Whoever writes holds a lock on the file.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

from netsync.errors import StateError, reason
from netsync.state import locks

FILE: Final = "record"
_SLOT: Final = 16 * 1024
"""Bytes of a slot: room for two paths of 4 KiB and the rest."""
_HEAD: Final = struct.Struct("<8sQIQ")
_MAGIC: Final = b"nsmirror"
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

Value = TypeVar("Value", bound=msgspec.Struct)


def read_slots(directory: Path, kind: type[Value]) -> Value | None:
    """Return what is written in ``directory``, without a lock. Raises ``StateError``."""
    try:
        fd = os.open(directory / FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed("read", directory / FILE, error) from error
    try:
        return _newest(fd, directory, kind)[1]
    finally:
        os.close(fd)


def _newest(fd: int, directory: Path, kind: type[Value]) -> tuple[int, Value | None]:
    found: tuple[int, Value | None] = (0, None)
    for slot in range(2):
        data = os.pread(fd, _SLOT, slot * _SLOT)
        if len(data) < _HEAD.size:
            continue
        magic, number, length, checksum = _HEAD.unpack_from(data)
        body = data[_HEAD.size : _HEAD.size + length]
        is_whole = magic == _MAGIC and xxh3_64_intdigest(body, seed=number) == checksum
        if is_whole and number > found[0]:
            found = number, msgspec.msgpack.decode(body, type=kind)
    begun = os.pread(fd, _SLOT, 0).strip(b"\0")  # the first value of all goes to the other slot
    if begun and found[1] is None:
        raise StateError(
            "neither copy of the record is whole",
            op="read",
            where=str(directory / FILE),
            hint="remove this directory and mirror anew: all will be compared",
        )
    return found


class SlotFile(Generic[Value]):
    """The value in ``directory``, which is made; this process alone holds it. Everything blocks.

    ``value`` is what was last read or saved. Opening raises ``StateError``.
    """

    def __init__(self, directory: Path, kind: type[Value]) -> None:
        self._directory = directory
        try:
            _make(directory)
            self._fd = os.open(directory / FILE, _OPEN, 0o600)
        except OSError as error:
            raise StateError(reason(error), op="use state in", where=str(directory)) from error
        try:
            if not locks.seize(self._fd):
                words = "another process is at work there"
                hint = "a mirror: end it first (SIGTERM); a server: ask that"
                raise StateError(words, op="use", where=str(directory), hint=hint)
            self._number, self.value = _newest(self._fd, directory, kind)
        except BaseException:
            self.close()
            raise

    def save(self, value: Value) -> None:
        """Write ``value`` so that it survives a power cut. Raises ``StateError``."""
        body = msgspec.msgpack.encode(value)
        number = self._number + 1
        head = _HEAD.pack(_MAGIC, number, len(body), xxh3_64_intdigest(body, seed=number))
        slot = (head + body).ljust(_SLOT, b"\0")
        try:
            if len(slot) > _SLOT:
                raise OSError("a path is too long")
            os.pwrite(self._fd, slot, (number % 2) * _SLOT)
            os.fdatasync(self._fd)
            if self.value is None:
                flush_directory(self._directory)
        except OSError as error:
            raise _failed("write", self._directory / FILE, error) from error
        self._number, self.value = number, value

    def clear(self) -> None:
        """Forget the value, for good. The file stays: it is the lock. Raises ``StateError``."""
        try:
            os.ftruncate(self._fd, 0)
            os.fdatasync(self._fd)
        except OSError as error:
            raise _failed("write", self._directory / FILE, error) from error
        self._number, self.value = 0, None

    def close(self) -> None:
        """Let go of the file and its lock; nothing can be saved from then on."""
        fd, self._fd = self._fd, -1  # the number may be another file's soon
        os.close(fd)


def _make(directory: Path) -> None:
    """Make a directory and those above it, durably."""
    if not directory.exists():
        _make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        flush_directory(directory.parent)


def remove_file(path: Path) -> None:
    """Remove what says something beside a value, if it is there. Raises ``StateError``."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _failed("remove", path, error) from error


def _failed(what: str, path: Path, error: OSError) -> StateError:
    return StateError(reason(error), op=what, where=str(path))


def flush_directory(path: Path) -> None:
    """Bring names made or changed in a directory to disk. Raises ``OSError``."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
