"""The stage: ``.netsync/`` at a destination's root, where large files are written.

A large file that is cut off is worth keeping, so it is written under a name that the next run
finds. That name is no place for others: the directory is ours, mode 0700, and neither listed nor
taken from a peer. Each session works in a subdirectory of its own and holds a lock on it, which
the kernel releases however the session ends. So whoever can take a lock has found the work of a
dead session, and may use or remove it; what is locked is left alone. Two things can be removed
under our hands, the stage and a subdirectory that is not locked yet, by a session that tidies up
at the same moment: both are then simply made anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable
from typing import Final

from netsync.names import RESERVED_PREFIX
from netsync.tree.directories import OPEN_DIRECTORY

STAGE_NAME: Final = RESERVED_PREFIX
"""One component, below the destination's root."""
_PRIVATE: Final = 0o700
_EMPTIED: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW_PREFIX: Final = b"new-"
"""Begins the names of what a session prepares to publish at once: of no use to any other."""
MARK_PREFIX: Final = b"half-"
"""Begins the names of marks: see ``half_written.py``."""
JOURNAL: Final = b"journal"
"""A committed journal in the directory of its session: all in it is needed."""
APPLIED: Final = b"applied"
"""A journal that was carried out to its end: nothing else in its directory is needed."""
LEDGER_PREFIX: Final = b"run-"
"""Begins the names of ledgers: what attempts of a run that may be repeated have changed."""
NEW_LEDGER: Final = NEW_PREFIX + b"ledger"
"""The ledger that a committed run leaves to its next attempt, until it is carried out."""
_SESSION_PREFIX: Final = b"session-"
_ATTEMPTS: Final = 8
"""Times that a directory is made anew which a session tidying up has just removed."""


class StageRefusedError(Exception):
    """What is called ``.netsync`` is not ours alone: nothing in it is read or written."""


class SessionDirectory:
    """A subdirectory of the stage that we hold the lock on."""

    __slots__ = ("fd", "name")

    def __init__(self, fd: int, name: bytes) -> None:
        self.fd = fd
        self.name = name

    def release(self, stage: int) -> None:
        """Remove it if nothing is left in it, and let go of the lock."""
        with contextlib.suppress(OSError):
            os.rmdir(self.name, dir_fd=stage)
        os.close(self.fd)


def open_stage(root: int) -> int | None:
    """Open the stage in the directory ``root`` if there is one. Raises ``StageRefusedError``."""
    try:
        fd = os.open(STAGE_NAME, OPEN_DIRECTORY, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StageRefusedError("is no directory of ours") from error
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o777 != _PRIVATE:
        os.close(fd)
        raise StageRefusedError("is not a directory of ours alone (mode 0700)")
    return fd


def make_stage(root: int) -> int:
    """Open the stage in ``root``, made if need be. Raises ``OSError``, ``StageRefusedError``.

    What making it did to the root's times is for ``Stage`` to undo.
    """
    for _ in range(_ATTEMPTS):
        fd = open_stage(root)
        if fd is not None:
            return fd
        with contextlib.suppress(FileExistsError):
            os.mkdir(STAGE_NAME, _PRIVATE, dir_fd=root)
    raise OSError(errno.EAGAIN, "the stage vanishes as soon as it is made")


def make_session(stage: int) -> SessionDirectory:
    """Make and lock a subdirectory of the stage. Raises ``OSError`` (``ENOENT``: it is gone)."""
    for _ in range(_ATTEMPTS):
        name = _SESSION_PREFIX + secrets.token_hex(8).encode()
        os.mkdir(name, _PRIVATE, dir_fd=stage)
        session = lock_session(stage, name)
        if session is not None:
            return session
    raise OSError(errno.EAGAIN, "a directory of the stage vanishes as soon as it is made")


def hold_stage(root: int, stage: int) -> bool:
    """Take the lock on the whole stage; False if another has it, or it is not there any more.

    It is held until the last descriptor of this open file is closed. Raises ``OSError``.
    """
    try:
        fcntl.flock(stage, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat(STAGE_NAME, dir_fd=root, follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError):
        return False
    return os.path.samestat(there, os.fstat(stage))


def is_committed(names: Iterable[bytes]) -> bool:
    """Tell whether a session whose directory holds ``names`` has committed a journal."""
    return not {JOURNAL, APPLIED}.isdisjoint(names)


def remove_mark(directory: int, name: bytes) -> None:
    """Remove a mark; at least it says nothing any more. Raises ``OSError``.

    One that stayed, on a file that is complete, would keep its next version out of the backup.
    """
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except OSError:
        fd = os.open(name, _EMPTIED, dir_fd=directory)
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)


def session_names(stage: int) -> list[bytes]:
    """Return the names of all sessions' subdirectories, locked or not."""
    return [
        name for name in map(os.fsencode, os.listdir(stage)) if name.startswith(_SESSION_PREFIX)
    ]


def lock_session(stage: int, name: bytes) -> SessionDirectory | None:
    """Lock the subdirectory ``name``; None if its session lives or it is gone."""
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=stage)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there, held = os.stat(name, dir_fd=stage, follow_symlinks=False), os.fstat(fd)
        if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
            return SessionDirectory(fd, name)
    except OSError:
        pass
    os.close(fd)
    return None
