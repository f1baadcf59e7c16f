"""What a file system makes of a modification time.

Some hold seconds, or two of them; some end in 2038 or 2107, or begin in 1901 or 1980. The kernel
cuts a time to what fits and says nothing. Asked for the nearest time that can be held, it would
not answer either: so a file without a name is given the time, and looked at.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from netsync.tree.stage import Staged

_PROBES_MAX: Final = 8
"""File systems looked at; each holds a descriptor."""


class HeldTimes:
    """Tells what the target's file systems make of times."""

    def __init__(self) -> None:
        self._probes: OrderedDict[int, int] = OrderedDict()

    def close(self) -> None:
        """Let go of the probes."""
        while self._probes:
            os.close(self._probes.popitem()[1])

    def held(self, directory: int, device: int, mtime_ns: int) -> int:
        """Return what ``mtime_ns`` becomes in ``directory``, on the file system ``device``.

        Where that cannot be found out it is the time itself.
        """
        try:
            fd = self._probe(directory, device)
            os.utime(fd, ns=(mtime_ns, mtime_ns))
            return os.fstat(fd).st_mtime_ns
        except OSError:
            return mtime_ns

    def _probe(self, directory: int, device: int) -> int:
        """Return a file without a name on the file system."""
        fd = self._probes.get(device)
        if fd is None:
            fd = self._probes[device] = _nameless(directory)
            if len(self._probes) > _PROBES_MAX:
                os.close(self._probes.popitem(last=False)[1])
        return fd


def _nameless(directory: int) -> int:
    """Return a file without a name in ``directory``, which looks as before. Raises ``OSError``."""
    before = os.fstat(directory)
    staged = Staged.create(directory)
    if staged.temporary is not None:
        os.unlink(staged.temporary, dir_fd=directory)
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
    return staged.fd


@contextlib.contextmanager
def time_kept(directory: int) -> Iterator[None]:
    """Undo what the body does to the directory's modification time.

    For what is none of the tree's business, or none that would be settled at the end.
    """
    before = os.fstat(directory)
    yield
    if os.fstat(directory).st_mtime_ns != before.st_mtime_ns:
        with contextlib.suppress(OSError):  # a directory of others: its time is not ours to set
            os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
