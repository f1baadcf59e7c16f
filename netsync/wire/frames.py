"""Frames: how messages lie in a stream of bytes.

A frame is a fixed header, a msgpack body and a raw tail::

    0      1      2      4          8          12
    | type | flags | zero | body len | tail len | body ... | tail ...

Numbers are big-endian. The tail carries bulk bytes that must not pass through msgpack; flag 1
says that it is zstd-compressed and that its first four bytes give the plain length.
``FrameDecoder`` owns the receive buffer so that a megabyte of file data is received straight
into the memory that will be written to disk. Large buffers are used again once no frame looks into
them any more: new memory would cost a fifth of a receiver's time. What must hold: nothing a peer
sends can raise a limit, a length is checked before memory is taken for it, and the same bytes give
the same frames however they are cut into chunks. It must not know what any message means.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from netsync.errors import ProtocolError

HEADER: Final = struct.Struct(">BBHII")
COMPRESSED: Final = 1
"""Flag: the tail is zstd data behind the plain length."""

CONTROL_MAX: Final = 64 * 1024
"""Bytes in the body of a control frame; a hostile body of this size costs under 5 MiB."""
BULK_MAX: Final = 256 * 1024
"""Bytes in the body of a frame that lists entries or operations."""
TAIL_MAX: Final = 2 * 1024 * 1024
"""Bytes in a tail: large enough that a hop per frame is cheap (at 1 MiB a first copy of large files
costs a fifth more), small enough to queue a few."""

_SMALL: Final = 64 * 1024
"""Bytes of the buffer that collects headers and small frames."""
_LARGE: Final = TAIL_MAX + _SMALL
"""Bytes of a buffer for a large frame, and for what small ones follow it."""
_SPARE: Final = 8
"""Unused large buffers that are kept: as many as may come before others are done with."""


class Limits(NamedTuple):
    """The longest body and tail allowed for one frame type."""

    body: int = CONTROL_MAX
    tail: int = 0


class Frame(NamedTuple):
    """One whole frame as received."""

    type: int
    flags: int
    body: memoryview
    tail: memoryview


def encode_header(frame_type: int, flags: int, body: int, tail: int) -> bytes:
    """Return the header for a frame with these lengths."""
    return HEADER.pack(frame_type, flags, 0, body, tail)


class FrameDecoder:
    """Cut received bytes into frames.

    Use: write into ``writable()``, say how much with ``wrote(n)``, then take frames from
    ``next_frame()`` until it returns None. After a ``ProtocolError`` the decoder is dead.
    """

    def __init__(self, limits: Mapping[int, Limits]) -> None:
        self._limits = limits
        self._buffer = bytearray(_SMALL)
        self._large: list[bytearray] = []
        self._start = 0
        self._end = 0
        self._needed = HEADER.size
        self._failed = False

    def writable(self) -> memoryview:
        """Return the memory where the next received bytes belong; never empty."""
        return memoryview(self._buffer)[self._end :]

    def wrote(self, count: int) -> None:
        """Say that ``count`` bytes were written into ``writable()``."""
        self._end += count

    def feed(self, data: bytes) -> list[Frame]:
        """Take ``data`` and return the frames it completes."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view:
            room = self.writable()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            self.wrote(count)
            view = view[count:]
            while (frame := self.next_frame()) is not None:
                frames.append(frame)
        return frames

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None when more bytes are needed."""
        if self._failed:
            raise ProtocolError("more bytes after a broken frame", op="receive")
        available = self._end - self._start
        if available >= HEADER.size:
            kind, flags, body, tail = self._header()
            self._needed = HEADER.size + body + tail
            if available >= self._needed:
                return self._take(kind, flags, body)
        self._make_room(available)
        return None

    def _header(self) -> tuple[int, int, int, int]:
        kind, flags, zero, body, tail = HEADER.unpack_from(self._buffer, self._start)
        limit = self._limits.get(kind)
        if limit is None or zero or flags & ~COMPRESSED:
            self._failed = True
            raise ProtocolError("this is not a netsync frame", op="receive")
        if body > limit.body or tail > limit.tail:
            self._failed = True
            raise ProtocolError(f"a frame of {body}+{tail} bytes is over its limit", op="receive")
        return kind, flags, body, tail

    def _take(self, kind: int, flags: int, body: int) -> Frame:
        """Cut the whole frame at ``_start`` out of the buffer.

        Frames own their memory: later writes never touch it, since a buffer that frames were
        taken from is replaced, and not used again while one of them is there.
        """
        view = memoryview(self._buffer)
        first = self._start + HEADER.size
        last = self._start + self._needed
        frame = Frame(kind, flags, view[first : first + body], view[first + body : last])
        self._start = last
        self._needed = HEADER.size
        return frame

    def _make_room(self, available: int) -> None:
        """Give the frame under way a buffer that it fits in."""
        if self._start + self._needed <= len(self._buffer) and self._end < len(self._buffer):
            return
        if _SMALL < self._needed <= _LARGE:
            buffer = self._large_buffer()
        else:
            buffer = bytearray(max(self._needed, _SMALL))
        buffer[:available] = memoryview(self._buffer)[self._start : self._end]
        self._buffer, self._start, self._end = buffer, 0, available

    def _large_buffer(self) -> bytearray:
        """Return a large buffer that nobody looks into, not the one in use."""
        unused: list[bytearray] = []
        looked_into: list[bytearray] = []
        for each in self._large:
            free = each is not self._buffer and _is_unused(each)
            (unused if free else looked_into).append(each)
        buffer = unused.pop() if unused else bytearray(_LARGE)
        self._large = [*looked_into, *unused[:_SPARE], buffer]
        return buffer


def _is_unused(buffer: bytearray) -> bool:
    """Tell whether no view of ``buffer`` is left: its size cannot be changed while there is one."""
    try:
        buffer.pop()
    except BufferError:
        return False
    buffer.append(0)
    return True
