"""Carrying a basis over to the new file while it is signed.

A target reads its old version to sign it, and to copy what is matched it used to read it again.
Most of what is matched lies at one *shift*: where it was, or everywhere so many bytes further on.
So once matches have shown a shift, what the signing thread reads is at the same time hashed as a
part of the new file, and written to where it belongs there if the shift holds; in place, where it
is there already, it is hashed only. The assembly passes over what it finds carried, and writes
over it what is otherwise. For edits, and for bytes put in front, the basis is read once. Writing
takes longer than all else, so a thread of its own does it, up to ``_PIECES`` behind; or signing,
which the source waits for, would go at half its speed.

What must hold, whatever the matches say:

* nothing is passed over but bytes that were hashed as they were written, at the shift asked for;
* nothing is carried to where the assembly has been, and nothing after ``close``;
* what was carried in vain is at most as much as was matched, and ``_AHEAD``.

The stage stays shorter than the basis by this. So what a kill leaves is not taken for the new
file's beginning, but signed and compared like any other partial.

It knows no frames, and trusts nothing: the digest of the result decides.
"""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Final, NamedTuple

from netsync.delta.kernel import TAG_SIZE, UNIT
from netsync.delta.keyed import Tagger
from netsync.tree.output import Output
from netsync.tree.read import PageBuffer, phase

_ENOUGH: Final = 1024 * 1024
"""Bytes matched at one shift before anything is carried at it, and bytes that were otherwise before
that ends: a page that changed, or happens to be somewhere else too, says nothing."""
_AHEAD: Final = 1024 * 1024 * 1024
"""Bytes carried that the assembly has not come to, from which on no more are: they are in vain
when the shift changes, and have 8 MiB of tags."""
_RESERVE: Final = 256 * 1024
"""Bytes at a basis's end that are left to the assembly; a partial's size is rounded to less."""

_PIECES: Final = 3
"""Pieces read and not written yet; with the one that is being read 4 MiB, and a block if that is
larger than a piece."""


class Carried(NamedTuple):
    """Bytes of the new file from ``start`` to ``end`` that are where they belong: whole units."""

    start: int
    end: int
    tags: bytes


class _Piece(NamedTuple):
    """What is to be written to ``start``, and is ``part`` then."""

    data: memoryview
    start: int
    part: Carried


class _Way:
    """Where what is signed goes: to ``output``, ``shift`` bytes further on than it was."""

    def __init__(self, output: Output, shift: int, seed: int) -> None:
        self.output = output
        self.shift = shift
        self._tagger = Tagger(seed)
        self._end = self._tagged = -1

    def tag(self, data: memoryview, start: int) -> Carried:
        """Hash ``data``, which goes to ``start``."""
        if start == self._end:
            begin, tags = self._tagged, self._tagger.update(data)
        else:  # not what follows: a unit begins
            self._tagger.begin()
            begin = start + -start % UNIT
            tags = self._tagger.update(data[begin - start :])
        self._end = start + len(data)
        self._tagged = begin + len(tags) // TAG_SIZE * UNIT
        return Carried(begin, self._tagged, tags)


class CarriedOver:
    """What of one basis of ``size`` bytes is carried to a new file of ``new_size``.

    ``seed`` is that of the digest. The signing thread calls ``room`` and ``take``; all else is
    the assembling thread's, which must call ``close`` in any case. ``wrote`` says that there may be
    bytes behind what was assembled; ``used`` counts those that were passed over, ``vain`` those
    that were not, or not yet.
    """

    def __init__(self, seed: int, size: int, new_size: int) -> None:
        self.seed = seed
        self.wrote = False
        self.used = self.vain = 0
        self._limit = min(size - _RESERVE, new_size)
        self._changed = Condition()
        self._way: _Way | None = None
        self._buffers: list[PageBuffer] = []
        self._next = 0  # the buffer to read into
        self._taking: deque[int] = deque()  # where each piece begins that is being carried
        self._pieces: SimpleQueue[_Piece | None] = SimpleQueue()
        self._writer: Thread | None = None
        self._parts: deque[Carried] = deque()
        self._reached = 0
        self._missed = 0  # bytes in a row that were otherwise than the way has them
        self._other = 0  # the last shift that was seen of them, and the bytes matched at it
        self._matched = 0

    def room(self, offset: int, count: int) -> memoryview | None:
        """Return memory to read so many bytes of the basis at ``offset`` into, for ``take``.

        None if nothing would be taken.
        """
        if self._way is None:
            return None
        with self._changed:
            while len(self._taking) >= _PIECES:
                self._changed.wait()
            if not self._buffers:
                return None
            return self._buffers[self._next].room(phase(offset, offset + self._shift), count)

    @property
    def _shift(self) -> int:
        return self._way.shift if self._way is not None else 0

    def take(self, data: memoryview, offset: int) -> None:
        """Carry what was read into ``room`` at ``offset``, if it is known where to."""
        with self._changed:
            way = self._way
            if way is None:
                return
            start = offset + way.shift
            data = data[: max(0, self._limit - start)]
            if not data or start < self._reached or self._ahead >= _AHEAD:
                return
            self._taking.append(start)
        try:
            piece = _Piece(data, start, way.tag(data, start))
            if not way.output.inplace:
                self._begin_writing()
        except BaseException:  # nobody may wait for it
            self._limit = 0
            with self._changed:
                self._taking.pop()
                self._changed.notify_all()
            raise
        if way.output.inplace:
            self._written(piece)
            return
        self.wrote = True
        self._next = (self._next + 1) % len(self._buffers)
        self._pieces.put(piece)

    def _begin_writing(self) -> None:
        """Start the writer. Raises ``RuntimeError`` where no more threads are allowed."""
        if self._writer is None:
            writer = Thread(target=self._write_all, name="netsync-carry", daemon=True)
            writer.start()
            self._writer = writer

    def _write_all(self) -> None:
        while (piece := self._pieces.get()) is not None:
            way = self._way
            assert way is not None  # until all pieces are written
            written = False
            try:
                if self._limit:
                    way.output.write(piece.data, piece.start)
                    written = True
            except OSError:  # no space, say: the assembly meets it where it matters
                self._limit = 0
            finally:
                self._written(piece if written else None)

    def _written(self, piece: _Piece | None) -> None:
        """Note that the oldest piece is where it belongs, or (None) that it never will be."""
        with self._changed:
            self._taking.popleft()
            if piece is not None:
                self._parts.append(piece.part)
                self.vain += piece.part.end - piece.part.start
            self._changed.notify_all()

    @property
    def _ahead(self) -> int:
        return self._parts[-1].end - self._reached if self._parts else 0

    def reach(self, end: int) -> None:
        """Note that the assembly goes on up to ``end``: from now on nothing is carried before."""
        with self._changed:
            while self._taking and self._taking[0] < end:
                self._changed.wait()
            self._reached = end

    def find(self, position: int, end: int, shift: int) -> Carried:
        """Return the next bytes between two places that were carried at ``shift``.

        They are empty, and at the end, if there are none.
        """
        stop = start = end
        tags: list[bytes] = []
        with self._changed:
            parts = self._parts
            while parts and parts[0].end <= position:
                parts.popleft()
            for part in parts if shift == self._shift else ():
                first = max(part.start, position + -position % UNIT)
                last = min(part.end, end - end % UNIT)
                if first >= last or (tags and first != stop):
                    break
                start, stop = (start if tags else first), last
                units = slice((first - part.start) // UNIT, (last - part.start) // UNIT)
                tags.append(part.tags[units.start * TAG_SIZE : units.stop * TAG_SIZE])
            self.used += stop - start
            self.vain -= stop - start
        return Carried(start, stop, b"".join(tags))

    def matched(self, shift: int, length: int, output: Output) -> None:
        """Learn that so many bytes lie ``shift`` further on in ``output`` than in the basis."""
        if self._way is not None and shift == self._way.shift:
            self._missed = 0
            return
        if shift != self._other or not self._missed:
            self._other, self._matched = shift, 0
        self._matched += length
        if self._matched >= max(_ENOUGH, self.vain):
            self._go(_Way(output, shift, self.seed))
        else:
            self.missed(length)

    def missed(self, length: int) -> None:
        """Learn that so many bytes are not what is carried, or would be."""
        self._missed += length
        if self._missed >= _ENOUGH and self._way is not None:
            self._go(None)

    def settle(self) -> None:
        """Wait until what was taken is written."""
        with self._changed:
            while self._taking:
                self._changed.wait()

    def close(self) -> None:
        """Carry nothing any more."""
        self._go(None)
        self._limit = 0
        if self._writer is not None:
            self._pieces.put(None)
            self._writer.join()
            self._writer = None

    def _go(self, way: _Way | None) -> None:
        """Carry another way; what was carried and not passed over yet is in vain."""
        with self._changed:
            self.settle()
            self._parts.clear()
            self._way = way
            if way is None:
                self._buffers = []
            elif not self._buffers:
                self._buffers = [PageBuffer() for _ in range(_PIECES + 1)]
            self._missed = 0
