"""The one tree of errors that may end a session, a command or the daemon.

Every class carries the exit code a user's script will see and whether trying again can help.
Foreign exceptions (``OSError``, ``ssl.SSLError``, trio's) are turned into these where they
enter. Trouble with a single path is not an exception: it is a ``Problem`` in the report.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import ClassVar, Final

from netsync.names import one_line, shown

TEXT_MAX: Final = 1024
"""Characters shown of each part of an error: a peer chooses some of them, and logs are for us."""


class NetsyncError(Exception):
    """Base of all; shown as one line: what failed, where, why, and what to do.

    ``op`` is a verb phrase ("connect to"), ``where`` a path or address, ``why`` the reason,
    ``hint`` what the administrator can do about it. ``place`` is ``where`` in raw bytes.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, why: str, *, op: str = "", where: str | bytes = "", hint: str = "") -> None:
        super().__init__(why)
        self.why = one_line(why, TEXT_MAX)
        self.op = one_line(op, TEXT_MAX)
        self.place = where if isinstance(where, bytes) else where.encode("utf-8", "surrogateescape")
        self.where = one_line(shown(self.place), TEXT_MAX)
        self.hint = one_line(hint, TEXT_MAX)

    def __str__(self) -> str:
        subject = " ".join(part for part in (self.op, self.where) if part)
        line = f"{subject}: {self.why}" if subject else self.why
        return f"{line} ({self.hint})" if self.hint else line


class UsageError(NetsyncError):
    """The command line asks for something that cannot be."""


class ConfigError(NetsyncError):
    """The configuration file or the identity directory is wrong."""


class StateError(NetsyncError):
    """The state directory cannot be used; a transfer goes on without it."""


class RefusedError(NetsyncError):
    """One end refused the other: certificate, module or right."""

    exit_code = 5


class NetworkError(NetsyncError):
    """The connection could not be made, or was lost."""

    exit_code = 10
    retryable = True


class RootError(NetsyncError):
    """The source or target root is missing, full, over quota or read-only."""

    exit_code = 11


class ProtocolError(NetsyncError):
    """The peer is not netsync, or broke the protocol."""

    exit_code = 12


class IndeterminateError(NetsyncError):
    """The answer is missing: it may have been done or not, and asking again is safe."""

    exit_code = 13
    retryable = True


class InterruptedBySignal(NetsyncError):  # noqa: N818 - what happened, not whose error it is
    """A signal ended the run."""

    exit_code = 20


class OutputError(NetsyncError):
    """What should be printed cannot be; ``gone`` says that the reader went away."""

    def __init__(self, why: str, *, gone: bool) -> None:
        super().__init__(why, op="write to", where="standard output")
        self.gone = gone


class StalledError(NetsyncError):
    """The peer fell silent for longer than the timeout."""

    exit_code = 30
    retryable = True


class ConnectTimeoutError(NetsyncError):
    """No connection within the time allowed for making one."""

    exit_code = 35
    retryable = True


PARTIAL_EXIT = 23
"""Finished, but some paths failed."""
VANISHED_EXIT = 24
"""Finished, and the only trouble was source paths that vanished."""
HELD_EXIT = 25
"""Finished, but a deletion guard held the deletes back."""

_BY_EXIT_CODE: dict[int, type[NetsyncError]] = {
    cls.exit_code: cls
    for cls in (
        UsageError,
        RefusedError,
        NetworkError,
        RootError,
        ProtocolError,
        IndeterminateError,
        InterruptedBySignal,
        StalledError,
        ConnectTimeoutError,
    )
}

_FATAL_HINTS = {
    errno.ENOSPC: "free some space on the target and run again",
    errno.EDQUOT: "raise the quota or free some space, and run again",
    errno.EROFS: "remount the target read-write and run again",
}
_ROOT_HINTS = {
    **_FATAL_HINTS,
    errno.ENOTDIR: "a file is where a directory should be",
    errno.EACCES: "run as a user who may, or change its permissions",
}


def error_for_exit_code(code: int) -> type[NetsyncError]:
    """Return the class a peer meant by ``code``; an unknown code is a protocol matter."""
    return _BY_EXIT_CODE.get(code, ProtocolError)


def is_fatal(error: OSError) -> bool:
    """Tell whether ``error`` dooms every further write, so the session should end."""
    return error.errno in _FATAL_HINTS


def root_error(error: OSError, *, op: str, where: str | bytes) -> RootError:
    """Map an ``OSError`` on a root, or one that dooms the whole target, to a ``RootError``."""
    hint = _ROOT_HINTS.get(error.errno or 0, "")
    return RootError(reason(error), op=op, where=where, hint=hint)


def unmapped(error: OSError) -> RootError:
    """Return what to say of a system error that no one expected where it came from."""
    where = error.filename if isinstance(error.filename, str | bytes) else ""
    return root_error(error, op="use", where=where)


def reason(error: OSError) -> str:
    """Return the system's words for ``error``, without Python's decoration."""
    if error.errno is None:
        return str(error) or type(error).__name__
    return os.strerror(error.errno).lower()


def principal(group: BaseExceptionGroup[BaseException]) -> NetsyncError | None:
    """Return the error that explains a nursery's group of them, or None.

    What is neither ours nor the system's is a defect and must surface as it is. Of several, what
    a peer or disk said comes before silence, and that before a connection that broke.
    """
    errors: list[NetsyncError] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            inner = principal(error)
            if inner is None:
                return None
            errors.append(inner)
        elif isinstance(error, NetsyncError):
            errors.append(error)
        elif isinstance(error, OSError):
            errors.append(unmapped(error))
        else:
            return None

    def rank(error: NetsyncError) -> tuple[bool, bool]:
        return error.retryable, isinstance(error, NetworkError)

    return min(errors, key=rank, default=None)


def is_cut(error: BaseException) -> bool:
    """Tell whether what ended a session is that the connection was lost."""
    found = principal(error) if isinstance(error, BaseExceptionGroup) else error
    return isinstance(found, NetsyncError) and found.retryable


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the one error that matters out of a nursery's group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = principal(group)
        if error is None:
            raise
        raise error from error.__cause__


def defect(error: BaseException) -> str:
    """Return one line about a defect: the innermost error and where it was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "unknown place"
    return f"internal error: {type(error).__name__}: {error} (in {place})"
