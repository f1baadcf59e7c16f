"""A target whose disk fails from any chosen step on, or at that step alone.

As ``killing``, but the step fails with an error of the system and the run lives on: it has to end
in good order and leave nothing. In a process of its own, since the calls are replaced in it.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from netsync.errors import NetsyncError
from netsync.model import Options
from tests.support.killing import before_each_step, exit_code_of
from tests.support.transfers import transfer

SPARED: Final = {
    errno.ENOSPC: frozenset({
        "unlink", "rmdir", "chmod", "chown", "fchmod", "fchown", "utime", "removexattr",
    }),
}  # fmt: skip
"""What still works on a disk with this trouble: a full one can be tidied up."""
NOT_TRIED: Final = 99
"""The exit code where the run ended before it came to the step."""
PROBLEMS: Final = 23


@dataclass(frozen=True)
class Failure:
    """From ``step`` on everything fails with ``number``; or that step alone, if it is ``once``."""

    number: int
    step: int
    once: bool = False


def _child(source: Path, target: Path, options: Options, failure: Failure) -> None:
    counter, lock = itertools.count(), threading.Lock()
    met = threading.Event()

    def act(name: str) -> None:
        with lock:
            count = next(counter)
        fails = count == failure.step if failure.once else count >= failure.step
        if fails and name not in SPARED.get(failure.number, ()):
            met.set()
            raise OSError(failure.number, os.strerror(failure.number))

    before_each_step(act)
    try:
        report = trio.run(transfer, source, target, options)
    except NetsyncError as error:
        sys.stderr.write(f"{error}\n")  # not by ``os.write``, which fails too
        sys.stderr.flush()
        os._exit(error.exit_code)
    os._exit(PROBLEMS if report.problems else 0 if met.is_set() else NOT_TRIED)


def failing(source: Path, target: Path, options: Options, failure: Failure) -> int:
    """Copy with a disk that fails so; return the exit code."""
    return exit_code_of(_child, source, target, options, failure)
