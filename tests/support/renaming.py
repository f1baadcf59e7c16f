"""``renameat2``, which Python does not have."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

NO_REPLACE = 1
EXCHANGE = 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def rename_with(path: Path, to: Path, flags: int) -> None:
    source, target = os.fsencode(path), os.fsencode(to)
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(path))
