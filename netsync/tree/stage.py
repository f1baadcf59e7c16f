"""Staging: new content is written where nobody can see it, then published by one rename.

A staged file is an unnamed one (``O_TMPFILE``) in the directory of its final name: set-group-id
and default ACLs are inherited as they should be, and a crash leaves nothing behind. Where the
file system has no unnamed files a named temporary with the reserved prefix stands in; its
session holds a lock on it, so the next run can tell a leftover from work under way and sweep it.
Replacing goes through a reserved name beside the final one and ``rename``: readers see the old
content or the new, never neither.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from typing import Final

from msgspec import Struct

from netsync.names import RESERVED_PREFIX
from netsync.tree.native import link_staged, stage_file

TEMPORARY_PREFIX: Final = RESERVED_PREFIX + b"-tmp-"
UNLOCKED_SECONDS: Final = 60.0
"""Age at which a link or special file under a temporary name counts as left behind: nobody can
hold a lock on it, and its session renames it within microseconds."""
_PRIVATE: Final = 0o600
_NAMED: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC
NO_UNNAMED_FILES: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
"""What a file system without unnamed files may answer; a named temporary tells if it meant that."""


def temporary_name() -> bytes:
    """Return a reserved name that no one else uses."""
    return TEMPORARY_PREFIX + secrets.token_hex(8).encode()


class Staged(Struct, eq=False, gc=False):
    """One file being written out of sight. ``fd`` is open for reading and writing."""

    fd: int
    temporary: bytes | None

    @classmethod
    def create(cls, directory: int) -> Staged:
        """Stage an empty file in ``directory``. Raises ``OSError``."""
        try:
            return cls(stage_file(directory, b"", -1, -1, -1, None), None)
        except OSError as error:
            if error.errno not in NO_UNNAMED_FILES:
                raise
        name = temporary_name()
        fd = os.open(name, _NAMED, _PRIVATE, dir_fd=directory)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(fd, name)

    def publish(self, directory: int, name: bytes, *, replace: bool) -> None:
        """Give the file its final ``name``; with ``replace`` in place of what is there."""
        if self.temporary is None:
            if not replace:
                try:
                    link_staged(self.fd, directory, name)
                except FileExistsError:
                    pass  # it appeared since the comparison: replaced like any other
                else:
                    return
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.temporary = temporary_name()
            link_staged(self.fd, directory, self.temporary)
        try:
            os.rename(self.temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            self._unlink(directory)
            raise
        self.temporary = None

    def move(self, directory: int, elsewhere: int, name: bytes) -> None:
        """Give the file the ``name`` in ``elsewhere``, by which its caller knows it from now on.

        Raises ``OSError``: ``EXDEV`` where a mount point lies between, ``EEXIST``.
        """
        if self.temporary is None:
            link_staged(self.fd, elsewhere, name)
            return
        os.link(
            self.temporary, name, src_dir_fd=directory, dst_dir_fd=elsewhere, follow_symlinks=False
        )
        self._unlink(directory)

    def park(self, directory: int, elsewhere: int, name: bytes) -> None:
        """Give the complete file the free ``name`` in ``elsewhere`` and let go of it.

        Raises ``OSError``: ``EXDEV`` where a mount point lies between.
        """
        if self.temporary is None:
            link_staged(self.fd, elsewhere, name)
        else:
            os.rename(self.temporary, name, src_dir_fd=directory, dst_dir_fd=elsewhere)
            self.temporary = None
        self.close()

    def _unlink(self, directory: int) -> None:
        if self.temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary, dir_fd=directory)
            self.temporary = None

    def discard(self, directory: int) -> None:
        """Drop the file; nothing of it stays."""
        self._unlink(directory)
        self.close()

    def as_partial(self) -> None:
        """Nothing: beside its place a file is no partial."""

    def keep(self, directory: int) -> None:
        """Drop the file: beside its place nobody would find it again."""
        self.discard(directory)

    def close(self) -> None:
        """Let go of the descriptor. Raises ``OSError`` where the file system reports late."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def sweep(directory: int, names: list[bytes], *, now: float | None = None) -> None:
    """Remove those temporaries among ``names`` whose session is gone; ``now`` is the time."""
    now = time.time() if now is None else now
    for name in names:
        if not name.startswith(TEMPORARY_PREFIX):
            continue
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                if now - status.st_ctime > UNLOCKED_SECONDS:
                    os.unlink(name, dir_fd=directory)
                continue
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=directory)
            finally:
                os.close(fd)
