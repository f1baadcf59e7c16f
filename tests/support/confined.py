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
import struct
import threading
from collections.abc import Callable
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

    def instruction(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    load_word, jump_equal, jump_set, answer = 0x20, 0x15, 0x45, 0x06
    program = b"".join((
        instruction(load_word, 0, 0, 0),  # the system call's number
        instruction(jump_equal, 0, 3, _NUMBERS["openat"]),
        instruction(load_word, 0, 0, 16 + 2 * 8),  # the low half of its third argument
        instruction(jump_set, 0, 1, _O_TMPFILE_ALONE),
        instruction(answer, 0, 0, 0x00050000 | error),
        instruction(answer, 0, 0, 0x7FFF0000),
    ))  # fmt: skip

    def refuse() -> None:
        memory = ctypes.create_string_buffer(program, len(program))
        filtering = _Program(len(program) // 8, ctypes.addressof(memory))
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs failed")
        if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filtering)) != 0:
            raise OSError(ctypes.get_errno(), "seccomp failed")

    return _in_a_thread(refuse, work)
