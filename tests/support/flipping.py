"""Another process that turns a name into a symbolic link and back, as fast as the kernel lets it.

The name and a link beside the tree are exchanged in one step (``renameat2``, RENAME_EXCHANGE), so
at every moment there is one of the two, and anybody who looks first and acts then will sooner or
later act on the other. If the process under attack replaces the link by something of its own, a
new link is put in its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_LOOK_EVERY: Final = 50
_READY: Final = b"flipping\n"


def _flip(name: str, aside: str, outside: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(name), os.fsencode(aside)
    print("flipping", flush=True)  # noqa: T201 - this is how it says that it runs
    while True:
        for _ in range(_LOOK_EVERY):
            libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
        if os.path.islink(name) or os.path.islink(aside):
            continue
        if os.path.isdir(aside):
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)
        with contextlib.suppress(FileExistsError):
            os.symlink(outside, aside)


@contextlib.contextmanager
def flipping(name: Path, outside: Path, aside: Path) -> Iterator[None]:
    """Flip ``name`` with the link ``aside`` to ``outside`` until the block ends."""
    aside.symlink_to(outside)
    words = [sys.executable, "-m", __name__, str(name), str(aside), str(outside)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=_ROOT) as flipper:
        try:
            assert flipper.stdout is not None
            assert flipper.stdout.readline() == _READY
            yield
        finally:
            flipper.kill()


if __name__ == "__main__":
    _flip(*sys.argv[1:])
