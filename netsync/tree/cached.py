"""Asking the kernel whether a name can be looked up without waiting for a disk."""

from __future__ import annotations

import errno
import os

from netsync.tree.calls import open_cached


def is_cached(directory: int, name: bytes) -> bool:
    """Tell whether looking up ``name`` in ``directory`` needs no disk.

    Also True where the kernel cannot tell, and where it knows that there is no such name.
    """
    try:
        fd = open_cached(directory, name)
    except OSError as error:
        return error.errno != errno.EAGAIN
    os.close(fd)
    return True
