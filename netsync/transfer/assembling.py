"""The target's assembly of a large file from matched and sent bytes, on two threads.

The result must be hashed whole, and reading the basis and hashing cost about as much as writing.
So a helper thread reads and hashes, in the order of the file, up to ``_SLOTS`` chunks ahead, and
whoever calls writes behind it. Nothing is written before everything earlier in the file is: in
place, where the basis is what is being overwritten, a chunk is therefore read before anything that
overwrites it is written, since there a match never lies before its place.

A file that resumes a partial is written over that partial. Its bytes are their own basis, so as
long as the source says nothing else they stay where they are and are only hashed. Where it does,
writing on would destroy what later pieces may still refer to: then a new file takes over, with a
copy of the part that agreed.

What was carried over while the basis was signed (``carrying.py``) is passed over: its tags stand
for it in the digest.

Where the file system can share extents (``FICLONE``) a staged file begins as a clone of the basis,
and what is matched where it was is only hashed: from the clone, which is what will be published.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final, NamedTuple

from netsync.delta.digest import OpDigest
from netsync.delta.kernel import TAG_SIZE, UNIT
from netsync.delta.keyed import KeyedDigest
from netsync.transfer.basis import Basis
from netsync.transfer.carrying import Carried, CarriedOver
from netsync.tree.content import copy_data
from netsync.tree.holes import is_hole
from netsync.tree.output import Output
from netsync.tree.read import PageBuffer, fill, phase

_CHUNK: Final = 1024 * 1024
"""Bytes read, hashed and written at a time. Smaller ones stay in a nearer cache, but hand-overs
between the threads cost more than that saves."""
_SLOTS: Final = 4
"""Chunks between reading and writing, and buffers for them: 4 MiB."""
_PENDING: Final = 16
"""Literals and chunks not written yet; a literal belongs to a frame that is held until then."""
_NOTHING: Final = memoryview(b"")
_LIGHT: Final = 64 * 1024
"""Bytes that are hashed in about the time that waking another thread takes."""
_ALONE: Final = 1024 * 1024
"""Bytes up to which a file is put together without the helper, whose start costs more."""


class _Task(NamedTuple):
    """Bytes to hash, as given, or read into ``data`` from ``offset`` on first; a hole; or tags."""

    data: memoryview
    offset: int = -1
    is_there: bool = False
    hole: int = 0
    tags: bytes = b""

    @property
    def is_light(self) -> bool:
        """Tell whether it is sooner done than handed over."""
        return self.offset < 0 and len(self.data) <= _LIGHT


class _Pending(NamedTuple):
    """Hashed or about to be: what belongs where, where it came from, the buffer to use again."""

    data: memoryview
    position: int
    offset: int = -1
    slot: PageBuffer | None = None
    hole: int = 0


class Assembly:
    """A file being put together in ``output`` with the bytes of ``basis``, which it closes.

    ``position`` is its length so far. ``carried`` is what is carried over from the basis meanwhile,
    and is closed with it. ``renew`` makes another output where writing on would destroy what may
    still be referred to. Methods raise ``OSError``, also for what earlier calls began: writing runs
    behind. ``close`` must be called in any case.
    """

    def __init__(
        self, output: Output, basis: Basis, carried: CarriedOver, renew: Callable[[], Output]
    ) -> None:
        self.position = 0
        self.output = output
        self._basis = basis
        self._carried = carried
        self._left_out = 0
        self._renew = renew
        self._cloned = not (output.inplace or output.holds) and basis.clone_to(output.fd)
        self._digest = OpDigest(functools.partial(KeyedDigest, carried.seed))
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._done: SimpleQueue[int | BaseException] = SimpleQueue()
        self._pending: deque[_Pending] = deque()
        self._slots = [PageBuffer(_CHUNK) for _ in range(_SLOTS)]
        self._helper: Thread | None = None

    def literal(self, data: memoryview) -> None:
        """Append bytes that were sent; they must stay as they are until they are written."""
        self._carried.reach(self.position + len(data))
        self._carried.missed(len(data))
        self._begin(_Task(data), _Pending(data, self.position))
        self.position += len(data)

    def hole(self, length: int) -> None:
        """Leave bytes out."""
        self._carried.reach(self.position + length)
        self._carried.missed(length)
        task = _Task(_NOTHING, hole=length)
        self._begin(task, _Pending(_NOTHING, self.position, hole=length))
        self.position += length
        self._left_out += length

    def copy(self, offset: int, length: int) -> None:
        """Append bytes of the basis."""
        shift, end = self.position - offset, self.position + length
        self._carried.reach(end)
        while self.position < end:
            carried = self._next_carried(end, shift)
            self._copy(self.position - shift, carried.start - self.position)
            if carried.tags:
                self._begin(_Task(_NOTHING, tags=carried.tags), _Pending(_NOTHING, self.position))
                self.position = carried.end
        if not (self._cloned or self.output.holds or (shift and self.output.inplace)):
            self._carried.matched(shift, length, self.output)

    def _next_carried(self, end: int, shift: int) -> Carried:
        if self._left_out % UNIT:  # then the digest's units are others than the file's
            return Carried(end, end, b"")
        return self._carried.find(self.position, end, shift)

    def _copy(self, offset: int, length: int) -> None:
        cloned = self._cloned and offset == self.position
        while length:
            while not self._slots:
                self._finish_one()
            slot = self._slots.pop()
            count = min(_CHUNK, length)
            data = slot.room(phase(offset, self.position), count)
            pending = _Pending(data, self.position, offset, slot)
            self._begin(_Task(data, offset, cloned), pending)
            self.position += count
            offset += count
            length -= count

    def digest(self) -> bytes:
        """Write what is left; return the keyed digest of the whole."""
        while self._pending:
            self._finish_one()
        self._carried.close()
        self._cut()
        return self._digest.digest()

    def _cut(self) -> None:
        """Leave nothing of a clone behind the end, nor of what was carried there."""
        if self._cloned or self._carried.wrote:
            os.ftruncate(self.output.fd, self.position)

    def close(self) -> None:
        """Write what can be, so that it is not sent again; end the helper, close the basis."""
        self._carried.close()
        with contextlib.suppress(OSError):
            while self._pending:
                self._finish_one()
            self._cut()
        self._cloned = False
        if self._helper is not None:
            self._tasks.put(None)
            self._helper.join()
            self._helper = None
        self._pending.clear()
        self._basis.close()

    def _begin(self, task: _Task, pending: _Pending) -> None:
        while self._pending and (len(self._pending) >= _PENDING or not self._done.empty()):
            self._finish_one()
        alone = task.is_light and not self._pending
        if self._helper is None and self.position >= _ALONE and not alone:
            helper = Thread(target=self._hash_all, name="netsync-hash", daemon=True)
            helper.start()  # raises where no more threads are allowed: then nothing is waited for
            self._helper = helper
        self._pending.append(pending)
        if self._helper is not None and not alone:
            self._tasks.put(task)
        else:
            self._done.put(self._hash(task))

    def _finish_one(self) -> None:
        """Write the oldest chunk, once it is read and hashed, if it is not there already."""
        data, position, offset, slot, hole = self._pending.popleft()
        outcome = self._done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        if hole:
            self._leave_hole(position, hole)
        elif outcome and not self._is_there(offset, position, outcome):
            if position < self.output.holds:
                self._part(position)
            self.output.write(data[:outcome], position)
        if slot is not None:
            self._slots.append(slot)

    def _is_there(self, offset: int, position: int, count: int) -> bool:
        if offset != position:
            return False
        return self._cloned or self.output.inplace or offset + count <= self.output.holds

    def _leave_hole(self, position: int, length: int) -> None:
        held = min(position + length, self.output.holds)
        if not is_hole(self.output.fd, position, held):
            self._part(position)
        self.output.leave_hole(position, length)

    def _part(self, position: int) -> None:
        """Go on in a new file, and leave the partial as it is: it may still be referred to."""
        resumed, self.output = self.output, self._renew()
        try:
            copy_data(resumed.fd, self.output.fd, position)
        finally:
            resumed.close()

    def _hash_all(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._done.put(self._hash(task))

    def _hash(self, task: _Task) -> int | BaseException:
        """Read and hash one chunk; return its length, or what went wrong.

        What the basis lacks is left out: then the digest cannot be right.
        """
        try:
            if task.hole:
                self._digest.skip(task.hole)
                return 0
            if task.tags:
                length = len(task.tags) // TAG_SIZE * UNIT
                with contextlib.suppress(ValueError):  # something was left out before, see above
                    self._digest.data(length).update_tags(task.tags)
                return 0
            count = len(task.data) if task.offset < 0 else self._read(task)
            self._digest.update(task.data[:count])
        except BaseException as error:  # raised by the thread that asked
            return error
        return count

    def _read(self, task: _Task) -> int:
        if task.is_there:
            return fill(self.output.fd, task.data, task.offset)
        return self._basis.read_into(task.data, task.offset)
