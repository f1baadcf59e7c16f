"""System calls that Python's ``os`` has not, as functions in its manner.

Numbers of flags, layouts of structures and the C library's way of reporting are known here alone.
Each raises ``OSError`` as ``os`` would, with ENOSYS where this C library has no such call.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any, Final, NamedTuple

_libc: Final = ctypes.CDLL(None, use_errno=True)

_OPENAT2: Final = 437
"""The call's number, which is the same on all architectures; no C library has a function for it."""
_RESOLVE_CACHED: Final = 0x20
"""Since Linux 5.12; older ones refuse the flag with EINVAL."""
_NO_REPLACE: Final = 1
"""RENAME_NOREPLACE."""
_STATX_BYTES: Final = 256
_NAMES_THEMSELVES: Final = 0x100 | 0x800
"""AT_SYMLINK_NOFOLLOW and AT_NO_AUTOMOUNT."""
_EMPTY_PATH: Final = 0x1000
_BIRTH: Final = 0x800
"""STATX_BTIME: in the mask, the wish for the birth and the word that it is there."""
_PINNED: Final = 0x10 | 0x20
"""STATX_ATTR_IMMUTABLE and STATX_ATTR_APPEND."""
_MOUNT_ROOT: Final = 0x2000


def _call(name: str, *arguments: Any) -> int:
    """Return what a function of the C library does. Raises ``OSError`` where that is negative."""
    try:
        function = getattr(_libc, name)
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Extended(NamedTuple):
    """What ``statx`` tells beyond ``stat``. ``birth`` is in seconds since 1970, None if unknown.

    ``pinned`` is what is immutable or append-only.
    """

    birth: float | None
    pinned: bool
    mount_root: bool


def statx(directory: int, name: bytes) -> Extended:
    """Look at ``name`` in a directory (empty: at the directory), following no link."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _NAMES_THEMSELVES | (0 if name else _EMPTY_PATH)
    _call("statx", directory, name, flags, _BIRTH, buffer)
    raw = buffer.raw

    def number(at: int, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(raw[at : at + size], "little", signed=signed)

    mask, attributes = number(0, 4), number(8, 8)
    birth = number(80, 8, signed=True) + number(88, 4) / 1e9 if mask & _BIRTH else None
    return Extended(birth, bool(attributes & _PINNED), bool(attributes & _MOUNT_ROOT))


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_CACHED: Final = _OpenHow(os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE_CACHED)


def open_cached(directory: int, name: bytes) -> int:
    """Open ``name`` as a path, if it can be looked up without a disk; else it is EAGAIN."""
    how = ctypes.byref(_CACHED)
    return _call("syscall", _OPENAT2, directory, name, how, ctypes.sizeof(_CACHED))


def rename_to_free(old_directory: int, old: bytes, new_directory: int, new: bytes) -> None:
    """Rename where nothing has the new name; else it is EEXIST."""
    _call("renameat2", old_directory, old, new_directory, new, _NO_REPLACE)


def fallocate(fd: int, mode: int, start: int, length: int) -> None:
    """Take room for a range of an open file, or with the right ``mode`` give it back."""
    _call("fallocate", fd, mode, ctypes.c_int64(start), ctypes.c_int64(length))


def syncfs(fd: int) -> None:
    """Flush the file system that ``fd`` is on."""
    _call("syncfs", fd)


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes) -> None:
    """Mount a file system."""
    _call("mount", source, target, kind, ctypes.c_ulong(flags), data)


def unmount(target: bytes, flags: int) -> None:
    """Unmount what is mounted at ``target``."""
    _call("umount2", target, flags)
