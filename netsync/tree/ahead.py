"""Directories read ahead: a source's tree, read while the program gets ready to list it.

Until a server has welcomed us and said what it has, hundreds of modules are imported, two keys
are shaken hands with and four messages go and come. One processor does all that. Another can read
the tree meanwhile: one native call, which needs no lock of the interpreter's, packs directory by
directory as the listing will want it (``TreeWalk``). It stops when the listing begins, at a bound
of bytes, or when nobody wants it any more.

What was read is what a listing would have found that had begun so much sooner. Nothing else
follows from it: a directory is listed once, from one reading of it, and a name that came since, a
file that was written since or a directory that is gone is dealt with as if that had happened while
the listing went on, which may take hours. So that it stays a little sooner and not long ago, what
is older than ``AGE_MAX`` is not used; nor is anything used twice, nor for another directory than
the one that was read, nor where something was mounted in that or unmounted since: the source says
what is mounted before it lists, and a target trusts it that this was listed. What was read of a
mounted file system is not used at all: it may have been away meanwhile, and come back.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final

from netsync.model import DEVICES, Options
from netsync.names import join
from netsync.plan.digestible import is_exact, kinds_kept
from netsync.tree.directories import OPEN_DIRECTORY, identity_of
from netsync.tree.mounts import mounts_below
from netsync.tree.native import NAME, Coverage, TreeWalk
from netsync.tree.packing import Known
from netsync.tree.records import RECORDS_MAX

if TYPE_CHECKING:
    from netsync.tree.roots import SourceRoot

AGE_MAX: Final = 10.0
"""Seconds from the beginning of the reading until it is of no use: as long as connecting takes."""
READ_MAX: Final = 8 * 1024 * 1024
"""Bytes of records read ahead, and one directory's more: some 150,000 entries."""

_Seen = tuple[tuple[int, int], Mapping[int, bytes]]
_PLAIN_MODES: Final = 0o1777
"""Permission bits that every module takes."""
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def may_read_ahead(options: Options) -> bool:
    """Tell whether a transfer may come to use what was read ahead.

    The plain twin holds the lock of the interpreter that the program needs to get ready.
    """
    return NAME == "compiled" and is_exact(options)


def presumed(options: Options) -> Coverage:
    """Return what a source packs on any terms that a target may set which has all rights.

    Some modules take set-id bits away and devices; what has these is not covered here.
    """
    keep = options.keep
    return Coverage(
        _PLAIN_MODES,
        kinds_kept(keep) & ~sum(1 << kind for kind in DEVICES),
        keep.owner,
        keep.group,
        keep.hard_links,
        keep.xattrs or keep.acls,
        RECORDS_MAX,
        whole_modes=True,
    )


class Ahead:
    """Reads the directory at ``path`` and all in it that ``coverage`` covers, while it is entered.

    Who leaves it does not wait: the thread ends by itself, after the entry it is at.
    """

    def __init__(
        self, path: bytes, coverage: Coverage, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._coverage = coverage
        self._stop = bytearray(1)
        self._found: Known = {}
        self._read_of: _Seen | None = None
        self._now = now
        self._until = now() + AGE_MAX
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Ahead:
        self._thread = threading.Thread(target=self.read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Read no more."""
        self._stop[0] = 1

    def read(self) -> None:
        """Read until the end, a bound, or a stop. Blocks."""
        try:
            fd = os.open(self._path, _OPEN)
        except OSError:
            return  # opening the source will say what is wrong
        try:
            self._read_of = _seen(fd)
            self._found = TreeWalk(fd, self._coverage, b"", b"").more(READ_MAX, self._stop)
        except (OSError, MemoryError):
            return  # it is read again, in smaller pieces
        finally:
            os.close(fd)

    def end(self) -> Known:
        """Read no more, and return what was read, which is kept no longer. Blocks, no longer than
        looking at one entry."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        found, self._found = self._found, {}
        return found

    def claim(self, root: SourceRoot, coverage: Coverage) -> Known:
        """Return what was read, by paths below the root's descriptor, if it may stand for that.

        It is given once, and nothing is read any more then, whatever comes of it. Blocks, no
        longer than looking at one entry.
        """
        found = self.end()
        if self._now() > self._until or not _serves(self._coverage, coverage):
            return {}
        try:
            fd = os.open(root.name or b".", OPEN_DIRECTORY, dir_fd=root.fd)
            try:
                seen = _seen(fd)
            finally:
                os.close(fd)
        except OSError:
            return {}  # listing it will say what is wrong
        if seen != self._read_of:
            return {}
        for mounted in seen[1].values():
            found = {path: found[path] for path in found if not _is_in(path, mounted)}
        if not root.name:
            return found
        return {join(root.name, path) if path else root.name: found[path] for path in found}


def _seen(fd: int) -> _Seen:
    """Return what a directory is, and what is mounted in it. Raises ``OSError``."""
    return identity_of(fd), mounts_below(fd)


def _is_in(path: bytes, directory: bytes) -> bool:
    """Tell whether ``path`` is ``directory`` or in it."""
    return path == directory or path.startswith(directory + b"/")


def _serves(read: Coverage, wanted: Coverage) -> bool:
    """Tell whether what was read on some terms is what would be read on those that are wanted.

    Where modes are whole, a mask that takes no other bits away makes no difference to records that
    are there; nor does it that more kinds are covered.
    """
    wider = read._replace(
        mode_mask=wanted.mode_mask | read.mode_mask,
        kinds=wanted.kinds | read.kinds,
        whole_modes=False,
    )
    return read.whole_modes and wanted == wider
