"""What is left of large files that were cut off: names, versions, and how they are gone on with.

A partial is bytes that nobody vouches for, good as a basis and for nothing else; whatever is made
of it is published only if its digest is the source's. Its name begins with its path's digest. What
is written from front to back has its version (size and time at the source) in its name too: the
next run can then go on where it ends, before anything is compared.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

from blake3 import blake3
from xxhash import xxh3_64_intdigest

from netsync.tree.stage_directory import SessionDirectory

ALIGNMENT: Final = 128 * 1024
"""Partials count in multiples of this, so that no block of a signature has its beginning in the
partial and its end elsewhere. A cut costs half of it on average."""
OPEN_PARTIAL: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def key_of(path: bytes) -> bytes:
    """Return the name under which the file for ``path`` (below the destination) is staged."""
    return blake3(path).digest(16).hex().encode()


def version_of(size: int, mtime_ns: int) -> bytes:
    """Return a short word for what a file with this size and time holds."""
    return b"%016x" % xxh3_64_intdigest(b"%d %d" % (size, mtime_ns))


class Partial:
    """What is left of one file; ``size`` is how much of it counts, a multiple of ``ALIGNMENT``."""

    __slots__ = ("_session", "name", "size")

    @property
    def version(self) -> bytes:
        """The version of the source's file of which this should be the beginning, if known."""
        return self.name.partition(b".")[0].partition(b"-")[2]

    def __init__(self, session: SessionDirectory, name: bytes, size: int) -> None:
        self._session = session
        self.name = name
        self.size = size

    def open(self) -> int:
        """Open it for reading and writing. Raises ``OSError``."""
        fd = os.open(self.name, OPEN_PARTIAL, dir_fd=self._session.fd)
        if not is_ours(os.fstat(fd)):
            os.close(fd)
            raise OSError("is no partial of ours")
        return fd

    def remove(self) -> None:
        """Remove it, if it has not become something else meanwhile."""
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self._session.fd)

    def resumed(self, *, version: bytes = b"") -> Resumable:
        """Go on writing in it, behind what counts, towards ``version`` if that can be told.

        Raises ``OSError``.
        """
        fd = self.open()
        try:
            os.ftruncate(fd, self.size)
            if self.version != version:
                self.name = _renamed(self._session, self.name, version)
        except OSError:
            os.close(fd)
            raise
        return Resumable(fd, self._session, self.name)


class Resumable:
    """A file being written in the stage, under ``name``. ``fd`` is open for reading and writing.

    It is -1 for one that is complete and waits.
    """

    __slots__ = ("_session", "fd", "name")

    def __init__(self, fd: int, session: SessionDirectory, name: bytes) -> None:
        self.fd = fd
        self._session = session
        self.name = name

    def publish(self, directory: int, name: bytes, *, replace: bool) -> None:
        """Give the file its final ``name``, in place of what is there. Raises ``OSError``."""
        del replace  # a rename does both
        os.rename(self.name, name, src_dir_fd=self._session.fd, dst_dir_fd=directory)

    def park(self, directory: int, elsewhere: int, name: bytes) -> None:
        """Give the complete file the free ``name`` in ``elsewhere`` and let go of it."""
        self.publish(elsewhere, name, replace=False)
        del directory
        self.close()

    def discard(self, directory: int) -> None:
        """Drop the file; nothing of it stays."""
        del directory
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self._session.fd)
        self.close()

    def as_partial(self) -> Partial:
        """Return what there is as a partial, no matter of which version. Raises ``OSError``."""
        size = os.fstat(self.fd).st_size // ALIGNMENT * ALIGNMENT
        return Partial(self._session, _renamed(self._session, self.name, b""), size)

    def keep(self, directory: int) -> None:
        """Leave what there is for the next run, if it is worth it."""
        if self.fd >= 0 and os.fstat(self.fd).st_size < ALIGNMENT:
            self.discard(directory)
        else:
            self.close()

    def close(self) -> None:
        """Let go of the descriptor. Raises ``OSError`` where the file system reports late."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def name_of(key: bytes, version: bytes) -> bytes:
    """Return the name for a file with this key, of a version if that is known."""
    return b"%s-%s" % (key, version) if version else key


def key_in(name: bytes) -> bytes:
    """Return the key that a name in the stage begins with."""
    return name.partition(b".")[0].partition(b"-")[0]


def _renamed(session: SessionDirectory, name: bytes, version: bytes) -> bytes:
    """Rename a file of ours to what says that it is of ``version``; return that name."""
    new = name_of(key_in(name), version) + b".1"
    os.rename(name, new, src_dir_fd=session.fd, dst_dir_fd=session.fd)
    return new


def is_ours(status: os.stat_result) -> bool:
    """Tell whether a file may be written to: a regular one that no other name leads to."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
