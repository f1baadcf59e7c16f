"""Opening regular files without being led elsewhere or made to wait; reading and writing all."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netsync.tree.native import Buffer

PAGE: Final = 4096
_ALIAS: Final = 1024
"""Bytes by which a copy's target must not lie behind its origin in a page; see ``PageBuffer``."""
OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""``O_NONBLOCK``: a FIFO put in a file's place must not hang the session."""


def open_regular(directory: int, name: bytes) -> int:
    """Open the regular file ``name`` in ``directory`` for reading. Raises ``OSError``."""
    fd = os.open(name, OPEN_FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ESTALE, "is no longer a regular file")
    return fd


class PageBuffer:
    """Memory that bytes of a file are read into so that they lie as in the file's own pages.

    A processor takes a load for one of what it has just stored where their places in a page are
    nearly the same, and waits. Copying to a place a little behind its own runs at a third of the
    speed; and ordinary Python buffers begin 16 or 48 bytes into a page. One view at a time.
    """

    def __init__(self, size: int = 0) -> None:
        self._memory = mmap.mmap(-1, size + PAGE)

    def room(self, offset: int, count: int) -> memoryview:
        """Return memory for ``count`` bytes from ``offset`` of a file on; grows if it must."""
        begin = offset % PAGE
        if begin + count > len(self._memory):
            self._memory = mmap.mmap(-1, count + PAGE)
        return memoryview(self._memory)[begin : begin + count]

    @property
    def is_unused(self) -> bool:
        """Tell whether no view is left: the memory cannot be given a size while there is one."""
        try:
            self._memory.resize(len(self._memory))
        except BufferError:
            return False
        return True


class PageBuffers:
    """Page buffers for whoever hands on what was read: each is used again once nobody looks into
    it any more. There are as many as are looked into at once.
    """

    def __init__(self) -> None:
        self._buffers: list[PageBuffer] = []

    def room(self, offset: int, count: int) -> memoryview:
        """Return memory for ``count`` bytes from ``offset`` of a file on."""
        unused = next((each for each in self._buffers if each.is_unused), None)
        if unused is None:
            unused = PageBuffer(count)
            self._buffers.append(unused)
        return unused.room(offset, count)


def phase(offset: int, position: int) -> int:
    """Return where in a page to have what stands at ``offset`` and is written at ``position``.

    Neither reading it nor writing it should be slow, see ``PageBuffer``.
    """
    apart = (position - offset) % PAGE
    return offset + PAGE // 2 if 0 < apart < _ALIAS else offset


def fill(fd: int, view: memoryview, offset: int) -> int:
    """Fill ``view`` from ``offset`` on; return how many bytes, fewer only at the file's end."""
    got = 0
    while got < len(view) and (count := os.preadv(fd, [view[got:]], offset + got)):
        got += count
    return got


def read_fully(fd: int, count: int, offset: int) -> bytes:
    """Return ``count`` bytes at ``offset``, fewer only at the end of the file."""
    data = os.pread(fd, count, offset)
    if len(data) == count or not data:
        return data
    parts = [data]
    got = len(data)
    while got < count and (data := os.pread(fd, count - got, offset + got)):
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def write_fully(fd: int, data: Buffer, at: int) -> None:
    """Write all of ``data`` at a place in an open file. Raises ``OSError``."""
    written = os.pwrite(fd, data, at)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], at + written)
