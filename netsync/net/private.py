"""A Unix socket that only its owner may use.

Paths of sockets are short by law (108 bytes), those of state directories are not; so it is reached
through a descriptor of its directory.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def reached(directory: Path, name: str) -> Iterator[str]:
    """Hold a short path to the socket ``name`` in ``directory``. Raises ``OSError``."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def listen_in(directory: Path, name: str, backlog: int) -> socket.socket:
    """Listen at ``name``, in the place of what a process that was killed has left there.

    Whoever calls it holds a lock that says that it may. Raises ``OSError``.
    """
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reached(directory, name) as path:
            new = f"{path}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            own.bind(new)
            os.chmod(new, 0o600)
            own.listen(backlog)  # before it has its name: who finds it is not turned away
            os.rename(new, path)
    except BaseException:
        own.close()
        raise
    return own
