"""Running a function with less than this process may do, in a thread that is then thrown away.

Linux keeps credentials and system call filters per thread: the C library's wrappers spread a
change of user to all threads, the bare system call does not. So no fork is needed (which warns
where other threads run), and the rest of the tests keep their rights.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {
    "x86_64": {"openat": 257, "setgroups": 116, "setresgid": 119, "setresuid": 117},
    "aarch64": {"openat": 56, "setgroups": 159, "setresgid": 149, "setresuid": 147},
}.get(platform.machine(), {})
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD_WORD, _JUMP_EQUAL, _JUMP_SET, _ANSWER = 0x20, 0x15, 0x45, 0x06
_REFUSE, _ALLOW = 0x00050000, 0x7FFF0000
_LISTXATTRAT = 465
_O_TMPFILE_ALONE = os.O_TMPFILE & ~os.O_DIRECTORY

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
needs_known_calls = pytest.mark.skipif(not _NUMBERS, reason="system call numbers not known here")


def _in_a_thread(confine: Callable[[], None], work: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            confine()
            results.append(work())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _call(name: str, *arguments: int) -> None:
    if _libc.syscall(_NUMBERS[name], *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")


def let_all_in(path: Path) -> None:
    """Let every user come to ``path`` and read there: pytest's directories are their owner's."""
    for each in (path, *path.parents):
        if each == Path(tempfile.gettempdir()):
            return
        mode = stat.S_IMODE(each.stat().st_mode)
        if mode & 0o055 != 0o055:
            each.chmod(mode | 0o055)


def as_nobody(work: Callable[[], T]) -> T:
    """Return what ``work`` returns when it runs as an unprivileged user in its own group."""

    def drop() -> None:
        _call("setgroups", 0, 0)
        _call("setresgid", NOBODY, NOBODY, NOBODY)
        _call("setresuid", NOBODY, NOBODY, NOBODY)
        assert os.geteuid() == NOBODY

    return _in_a_thread(drop, work)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def without_unnamed_files(work: Callable[[], T], error: int = errno.EOPNOTSUPP) -> T:
    """Return what ``work`` returns where the kernel refuses ``O_TMPFILE`` with ``error``."""
    program = b"".join((
        _instruction(_LOAD_WORD, 0, 0, 0),  # the system call's number
        _instruction(_JUMP_EQUAL, 0, 3, _NUMBERS["openat"]),
        _instruction(_LOAD_WORD, 0, 0, 16 + 2 * 8),  # the low half of its third argument
        _instruction(_JUMP_SET, 0, 1, _O_TMPFILE_ALONE),
        _instruction(_ANSWER, 0, 0, _REFUSE | error),
        _instruction(_ANSWER, 0, 0, _ALLOW),
    ))  # fmt: skip

    return _in_a_thread(lambda: _filter_calls(program), work)


def without_listxattrat(work: Callable[[], T], error: int = errno.ENOSYS) -> T:
    """Return what ``work`` returns on a kernel before 6.13, or behind a filter of that age."""
    program = b"".join((
        _instruction(_LOAD_WORD, 0, 0, 0),
        _instruction(_JUMP_EQUAL, 0, 1, _LISTXATTRAT),
        _instruction(_ANSWER, 0, 0, _REFUSE | error),
        _instruction(_ANSWER, 0, 0, _ALLOW),
    ))  # fmt: skip
    return _in_a_thread(lambda: _filter_calls(program), work)


def _instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _filter_calls(program: bytes) -> None:
    """Have the kernel judge this thread's system calls from now on."""
    memory = ctypes.create_string_buffer(program, len(program))
    filtering = _Program(len(program) // 8, ctypes.addressof(memory))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs failed")
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filtering)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp failed")
