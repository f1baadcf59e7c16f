"""Which files were written since everything was last flushed: the primary's activity log.

A power cut takes from a primary what it had not flushed, while its standby may have it: same size,
same time, other bytes. So each path whose data is sent is noted first, durably, and after an end
without order these files are compared by content. The list is emptied in two halves: what was
noted before a flush of the whole directory may go once the flush is done and everything before it
is acknowledged; what is noted meanwhile stays.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest

from netsync.errors import StateError, reason
from netsync.state.slots import flush_directory, remove_file

PATHS_MAX: Final = 65_536
"""Paths that are noted; with more, everything counts as written."""
EVERYTHING: Final = b""
"""Stands for all files."""
_FILE: Final = "activity"
_HEAD: Final = struct.Struct("<IQ")
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND


def read_activity(directory: Path) -> set[bytes]:
    """Return the paths that are noted; a torn one at the end was never acted on."""
    try:
        data = (directory / _FILE).read_bytes()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise StateError(reason(error), op="read", where=str(directory / _FILE)) from error
    found, at = set(), 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        path = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(path) < length or xxh3_64_intdigest(path) != checksum:
            break
        found.add(path)
        at += _HEAD.size + length
    return found


def remove_activity(directory: Path) -> None:
    """Note nothing any more. Raises ``StateError``."""
    remove_file(directory / _FILE)


class Activity:
    """The list in ``directory``. Everything blocks but ``is_new``; raises ``StateError``."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / _FILE
        self._noted = read_activity(directory)
        self._older: set[bytes] = set()
        self._fd = self._opened()

    def _opened(self) -> int:
        try:
            fd = os.open(self._file, _OPEN, 0o600)
            flush_directory(self._file.parent)
        except OSError as error:
            raise self._trouble(error) from error
        return fd

    @property
    def noted(self) -> frozenset[bytes]:
        """Return all that is noted, also what is about to go."""
        return frozenset(self._noted | self._older)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is noted."""
        return not (self._noted or self._older)

    def new(self, paths: Iterable[bytes]) -> set[bytes]:
        """Return those of ``paths`` that are not noted."""
        if EVERYTHING in self._noted:
            return set()
        return {path for path in paths if path not in self._noted}

    def note(self, paths: Iterable[bytes]) -> None:
        """Note ``paths``; they are on the disk when this returns."""
        paths = set(paths)
        if len(self._noted) + len(paths) > PATHS_MAX:
            paths = {EVERYTHING}
        self._append(paths)
        self._noted |= paths

    def _append(self, paths: Iterable[bytes]) -> None:
        data = b"".join(
            _HEAD.pack(len(path), xxh3_64_intdigest(path)) + path for path in sorted(paths)
        )
        try:
            size = os.fstat(self._fd).st_size
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                os.ftruncate(self._fd, size)  # nobody would read what came behind a torn path
                raise
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._trouble(error) from error

    def begin_emptying(self) -> None:
        """What is noted so far may go soon; what is written from now on is noted anew."""
        self._older |= self._noted
        self._noted = set()

    def finish_emptying(self) -> None:
        """All that was noted before ``begin_emptying`` is flushed on both sides."""
        new = self._file.with_name(_FILE + ".new")
        try:
            new.unlink(missing_ok=True)
            old, kept = self._fd, set(self._noted)
            self._fd = os.open(new, _OPEN | os.O_EXCL, 0o600)
            os.close(old)
            self._append(kept)
            os.rename(new, self._file)
            flush_directory(self._file.parent)
        except OSError as error:
            raise self._trouble(error) from error
        self._older = set()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _trouble(self, error: OSError) -> StateError:
        return StateError(reason(error), op="write", where=str(self._file))
