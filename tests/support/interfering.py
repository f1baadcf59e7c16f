"""Something done to a file at the very moment somebody reads it: the kernel asks first (fanotify).

Who reads waits until the answer is given, so there is no race: what ``meanwhile`` does lies between
the reader's opening and the first byte it gets.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_CLASS_CONTENT, _CLOEXEC, _ADD, _ACCESS_PERM, _ALLOW = 0x04, 0x01, 0x01, 0x20000, 0x01
_AT_FDCWD: Final = -100
_EVENT: Final = struct.Struct("=IBBHQii")
_ANSWER: Final = struct.Struct("=iI")


def _checked(answer: int) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def _watch(path: Path) -> int:
    """Return a descriptor that tells of each read of ``path``, and waits for leave."""
    fd = _checked(_libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC, os.O_RDONLY | os.O_LARGEFILE))
    mask, name = ctypes.c_uint64(_ACCESS_PERM), os.fsencode(path)
    try:
        _checked(_libc.fanotify_mark(fd, _ADD, mask, _AT_FDCWD, ctypes.c_char_p(name)))
    except OSError:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def when_read(path: Path, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Do ``meanwhile`` before the first read of ``path`` gets anything. It must be read once.

    ``meanwhile`` may not read the file itself.
    """
    fd = _watch(path)

    def answer() -> None:
        _, _, _, _, _, file, _ = _EVENT.unpack_from(os.read(fd, _EVENT.size))
        try:
            meanwhile()
        finally:
            os.write(fd, _ANSWER.pack(file, _ALLOW))
            os.close(file)
            os.close(fd)  # and who reads it again is not asked any more

    listener = threading.Thread(target=answer, daemon=True)
    listener.start()
    yield
    listener.join(10)
    assert not listener.is_alive(), f"{path} was not read"
