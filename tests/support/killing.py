"""A target that is killed before any chosen step: whatever it does to a file system is counted.

The transfer runs in a process of its own, both roles over memory. Before the step with the given
number it is ended by SIGKILL, so that nothing of it can tidy up; the kernel alone lets go.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from netsync.errors import NetsyncError
from netsync.model import Options
from netsync.modes.commit import Wish, commit_locally, opened
from netsync.transfer import publishing, runs
from netsync.tree import durable, holes, output, publication, roll_forward, stage, standing
from tests.support.processes import FORKS
from tests.support.transfers import transfer

STEPS: Final = (
    "chmod", "chown", "fchmod", "fchown", "fsync", "ftruncate", "link", "mkdir", "mknod", "pwrite",
    "removexattr", "rename", "rmdir", "setxattr", "symlink", "unlink", "utime", "write",
)  # fmt: skip
"""What changes a file system, by its name in ``os``; creating files is ``open``."""
NATIVE: Final = (
    (stage, "link_staged"), (stage, "stage_file"), (runs, "stage_files"), (runs, "link_files"),
    (publishing, "link_files"), (durable, "sync_file_system"), (publication, "sync_file_system"),
    (roll_forward, "sync_file_system"), (output, "stage_file"), (standing, "stage_file"),
    (holes, "_punched"),
)  # fmt: skip
TOLD_BY_NUMBERS: Final = {"stage_files", "link_files"}
"""What returns an errno for each file instead of raising one."""
KILLED: Final = -signal.SIGKILL


def before_each_step(act: Callable[[str], None]) -> None:
    """Have ``act`` called before anything that changes a file system, in this whole process.

    It gets the step's name, and may raise ``OSError``: then the step fails so, and does nothing.
    """

    def before(name: str, function: Any) -> Any:
        def step(*arguments: Any, **more: Any) -> Any:
            try:
                act(name)
            except OSError as error:
                if name in TOLD_BY_NUMBERS:
                    told = error.errno if name == "link_files" else -(error.errno or 1)
                    return [told] * len(arguments[-1])
                raise
            return function(*arguments, **more)

        return step

    for name in STEPS:
        setattr(os, name, before(name, getattr(os, name)))
    for module, name in NATIVE:
        setattr(module, name, before(name, getattr(module, name)))
    plain = os.open

    def opened(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            act("open")
        return plain(path, flags, *arguments, **more)

    os.open = opened


def _kill_before(step: int | None) -> None:
    """Have this process killed before the step with this number."""
    if step is None:
        return
    counter, lock = itertools.count(), threading.Lock()

    def act(name: str) -> None:
        del name
        with lock:
            if next(counter) == step:
                os.kill(os.getpid(), signal.SIGKILL)

    before_each_step(act)


def exit_code_of(work: Callable[..., None], *arguments: object) -> int:
    """Do ``work`` in a process of its own, where calls may be replaced; return its exit code."""
    process = FORKS.Process(target=work, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode is not None, "still running"
    code = process.exitcode
    process.close()
    return code


def _child(
    source: Path, target: Path, options: Options, step: int | None, user: int | None
) -> None:
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    _kill_before(step)
    try:
        trio.run(transfer, source, target, options)
    except NetsyncError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)
    os._exit(0)


def killed_before(
    source: Path, target: Path, options: Options, step: int | None, user: int | None = None
) -> int:
    """Copy ``source`` to ``target``; return the exit code, ``KILLED`` if it got to ``step``.

    None kills never. ``user`` is the number of the user that it runs as.
    """
    return exit_code_of(_child, source, target, options, step, user)


def in_memory(otherwise: Path) -> Path:
    """Return a place where a flush costs nothing, if it can hold what the trees have."""
    memory = Path("/dev/shm")
    try:
        with tempfile.NamedTemporaryFile(dir=memory) as file:
            os.setxattr(file.fileno(), "user.note", b"")
    except OSError:
        return otherwise
    return memory


def _commit(files: Sequence[Path], target: Path, step: int | None, overwrite: bool) -> None:
    _kill_before(step)
    try:
        with opened([bytes(file) for file in files]) as (given, missing):
            wish = Wish(given, "", bytes(target) + b"/", overwrite, missing)
            report = trio.run(commit_locally, wish)
    except NetsyncError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)
    os._exit(23 if report.problems else 0)


def commit_killed_before(
    files: Sequence[Path], target: Path, step: int | None, *, overwrite: bool
) -> int:
    """Commit ``files`` to the directory ``target``, like ``killed_before``."""
    return exit_code_of(_commit, files, target, step, overwrite)
