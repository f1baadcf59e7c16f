"""Reading files to see whether they are still what they were: from the disk, in small steps.

What is in the page cache says nothing about the disk, so it is passed by (``O_DIRECT``) wherever
the file system can do that; then it does not lose either what others need in it. A file is read in
steps, after each of which a reader that is not wanted any more ends; a gentle one rests as long
as it has read, so that it takes half of a disk's time at most, and less where others read too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from typing import Final, NamedTuple

import trio

from netsync.delta.digest import CHUNK, ContentDigest
from netsync.tree.holes import next_data
from netsync.tree.read import open_regular

_STEP_BYTES: Final = 1024 * 1024
_REST_MIN: Final = 0.01
"""Seconds of reading that are rested after at once: shorter rests take longer than they say."""
_REST_MAX: Final = 1.0
"""Seconds between two looks at whether the reader is still wanted."""


class Reread(NamedTuple):
    """What a file reads as, and its status; None if that changed meanwhile."""

    digest: bytes
    status: os.stat_result | None


class Rereader:
    """Reads files one after the other, in a worker thread of trio's. ``gentle`` rests between."""

    def __init__(self, *, gentle: bool = False) -> None:
        self._memory = mmap.mmap(-1, _STEP_BYTES)
        self._gentle = gentle
        self._owed = 0.0

    def read(self, directory: int, name: bytes) -> Reread:
        """Read the regular file ``name`` in ``directory``. Raises ``OSError``.

        Raises ``trio.Cancelled`` if who waits for it is cancelled.
        """
        fd = open_regular(directory, name)
        try:
            before = os.fstat(fd)
            _pass_cache_by(fd)
            digest = self._digest(fd, before.st_size)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        return Reread(digest, after if _same(before, after) else None)

    def _digest(self, fd: int, size: int) -> bytes:
        digest = ContentDigest()
        at = 0
        while at < size:
            began = time.monotonic()
            if chunks := (min(size, next_data(fd, at)) - at) // CHUNK:
                digest.skip(chunks)
                at += chunks * CHUNK
                continue
            data = self._step(fd, at, size - at)
            if not data:
                break  # it was cut short, which its status tells
            digest.update(data)
            at += len(data)
            self._rest(time.monotonic() - began)
        return digest.digest()

    def _step(self, fd: int, at: int, left: int) -> bytes:
        """Return a step's bytes at ``at``, no more than are ``left``, fewer at the file's end.

        Memory is offered in whole pages, and no more of them than are filled: the kernel looks up
        each one that it may write to, which costs more than reading a small file.
        """
        wanted = min(_STEP_BYTES, left)
        room = memoryview(self._memory)[: -(-wanted // mmap.PAGESIZE) * mmap.PAGESIZE]
        got = 0
        while got < wanted:
            try:
                count = os.preadv(fd, [room[got:]], at + got)
            except OSError as error:
                if error.errno != errno.EINVAL or not _use_cache(fd):
                    raise
                continue
            got += count
            if not count or got % mmap.PAGESIZE:
                break  # the end of the file: nothing but it leaves part of a page
        return self._memory[: min(got, wanted)]

    def _rest(self, seconds: float) -> None:
        with contextlib.suppress(RuntimeError):  # not in a thread of trio's: nobody can cancel
            trio.from_thread.check_cancelled()
        if not self._gentle:
            return
        self._owed += seconds
        if self._owed >= _REST_MIN:
            time.sleep(min(self._owed, _REST_MAX))
            self._owed = 0.0


def _pass_cache_by(fd: int) -> None:
    """Have reads go to the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)


def _use_cache(fd: int) -> bool:
    """Have reads go as usual; tell whether they did not."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return bool(flags & os.O_DIRECT)


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size, after.st_mtime_ns, after.st_ctime_ns,
    )  # fmt: skip
