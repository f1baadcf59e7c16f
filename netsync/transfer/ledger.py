"""What earlier attempts of one run have changed, so that the run has one true report.

A run that is cut and goes on finds its own work done: files it has created look unchanged. So
the target writes down each change as it is made, in a file in the stage that the next attempt of
the same run (a token only its client knows) finds and goes on with. Each record is nine bytes: a
letter, and a number that is a path's hash or a count. Only a run that may be repeated writes one;
it is not flushed, and one that is lost costs nothing but the truth of some counters.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_left
from typing import Final

from xxhash import xxh3_64_intdigest

from netsync.model import Change
from netsync.tree.read import read_fully

_RECORD: Final = struct.Struct("<cQ")
_LITERAL: Final = b"l"
_MATCHED: Final = b"m"
_PARTIAL: Final = b"p"
"""The number is a path's hash; the literal bytes of its partial come in the record after it."""
_DELETED: Final = Change.DELETED.value.encode()
_REMEMBERED: Final = (Change.CREATED, Change.UPDATED, Change.METADATA)


class Ledger:
    """The changes of a run's earlier attempts, and this one's as they are noted.

    ``fd`` is the open file, which is closed here; -1 for a run that is not repeated. A run that
    is published at once notes its changes in the file ``later``, also closed here, which takes
    the place of the other when they are made.
    """

    def __init__(self, fd: int = -1, *, later: int | None = None) -> None:
        self._changed_fd = fd if later is None else later
        self.deleted = 0
        self.literal = 0
        self.matched = 0
        self._fd = fd
        self._changes: dict[Change, array[int]] = {}
        self._partials: dict[int, int] = {}
        if fd >= 0:
            self._load(read_fully(fd, os.fstat(fd).st_size, 0))

    @property
    def is_kept(self) -> bool:
        """Tell whether changes are to be noted."""
        return self._fd >= 0

    @property
    def has_earlier(self) -> bool:
        """Tell whether an earlier attempt changed anything."""
        return bool(self._changes)

    def _load(self, data: bytes) -> None:
        found: dict[Change, set[int]] = {change: set() for change in _REMEMBERED}
        by_letter = {change.value.encode(): change for change in _REMEMBERED}
        partial = -1
        whole = len(data) // _RECORD.size * _RECORD.size
        sound = 0
        for letter, number in _RECORD.iter_unpack(memoryview(data)[:whole]):
            if partial >= 0:
                self._partials[partial] = number
                partial = -1
            elif letter == _PARTIAL:
                partial = number
            elif letter == _LITERAL:
                self.literal += number
            elif letter == _MATCHED:
                self.matched += number
            elif letter == _DELETED:
                self.deleted += 1
            elif letter in by_letter:
                found[by_letter[letter]].add(number)
            else:  # zeros, or a torn record: its disk filled up, or its host went down
                break
            sound += _RECORD.size
        if partial >= 0:  # its second record is missing
            sound -= _RECORD.size
        if sound < len(data):  # what is appended must begin where a record does
            os.ftruncate(self._fd, sound)
        self._changes = {change: array("Q", sorted(each)) for change, each in found.items() if each}

    def earlier(self, path: bytes) -> Change | None:
        """Return what an earlier attempt did to ``path``."""
        if not self._changes:
            return None
        number = xxh3_64_intdigest(path)
        for change, numbers in self._changes.items():
            position = bisect_left(numbers, number)
            if position < len(numbers) and numbers[position] == number:
                return change
        return None

    def earlier_literal(self, path: bytes) -> int:
        """Return how many bytes of the partial of ``path`` this run has sent before."""
        return self._partials.get(xxh3_64_intdigest(path), 0) if self._partials else 0

    def note(self, changes: list[tuple[Change, bytes]], literal: int, matched: int) -> None:
        """Write down changes, and file data that arrived since the last time."""
        if self._fd < 0 or self._changed_fd < 0 or not (changes or literal or matched):
            return
        records = [
            _RECORD.pack(change.value.encode(), xxh3_64_intdigest(path))
            for change, path in changes
            if change is not Change.FAILED
        ]
        records += (_RECORD.pack(_LITERAL, literal), _RECORD.pack(_MATCHED, matched))
        self._append(self._changed_fd, b"".join(records))

    def note_partial(self, path: bytes, literal: int) -> None:
        """Write down how many bytes were sent of a file that is left unfinished."""
        if self._fd >= 0:
            number = xxh3_64_intdigest(path)
            self._append(self._fd, _RECORD.pack(_PARTIAL, number) + _RECORD.pack(_PARTIAL, literal))

    def _append(self, fd: int, records: bytes) -> None:
        try:
            os.write(fd, records)
        except OSError:  # a full disk has other ways to be told; counters are no reason to fail
            self.close()

    def close(self) -> None:
        """Let go of the files."""
        for fd in {self._fd, self._changed_fd} - {-1}:
            os.close(fd)
        self._fd = self._changed_fd = -1
