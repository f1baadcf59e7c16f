"""Locks in the state directory: who is the daemon, and who runs a job.

They are the kernel's (flock), so they end with the process that holds them, however it ends, and
whoever finds one free may take it. The files stay, empty: removing one would let two processes
hold locks on two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from netsync.errors import StateError, reason

DAEMON: Final = "daemon.lock"
MIRRORS: Final = "server.lock"
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.005
"""How often, and how long after another, it is tried again while others only look."""
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def of_job(name: str) -> str:
    """Return the name of a job's lock."""
    return f"job-{name}.lock"


class Lock:
    """A lock that is held until it is let go of."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Let go."""
        os.close(self._fd)


def take(directory: Path, name: str) -> Lock | None:
    """Take a lock, or return None if another holds it. Raises ``StateError``."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / name, _OPEN, 0o600)
    except OSError as error:
        raise StateError(reason(error), op="use state in", where=str(directory)) from error
    try:
        is_ours = seize(fd)
    except OSError as error:
        os.close(fd)
        raise StateError(reason(error), op="lock", where=str(directory / name)) from error
    if not is_ours:
        os.close(fd)
        return None
    return Lock(fd)


def seize(fd: int) -> bool:
    """Take the lock of an open file; tell whether nobody else holds it. Raises ``OSError``.

    Who looks whether it is held holds it for an instant, but shares it: that is no holder.
    """
    for _ in range(_LOOKS):
        if _locked(fd, fcntl.LOCK_EX):
            return True
        if not _locked(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_LOOK_SECONDS)
    return False


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(directory: Path, name: str) -> bool:
    """Tell whether somebody holds a lock. Raises ``StateError``."""
    try:
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StateError(reason(error), op="use state in", where=str(directory)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
