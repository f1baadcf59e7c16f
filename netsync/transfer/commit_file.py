"""One file of a commit at its target: where it goes, what has arrived, and what became of it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from netsync.delta.digest import OpDigest
from netsync.errors import PARTIAL_EXIT, is_fatal, root_error
from netsync.model import Entry
from netsync.transfer.attributes import Attribution
from netsync.tree.content import Hashed
from netsync.tree.holes import make_hole
from netsync.tree.read import write_fully
from netsync.tree.roots import TargetRoot
from netsync.tree.stage import Staged
from netsync.wire.committing import CommitData, CommitResult, Kept

_DIFFERS: Final = "another file is there already, with other content: it was left as it is"
_DIFFERS_HINT: Final = "--overwrite replaces it"


@dataclass
class CommitPlace:
    """A directory that files of this commit go to, and what they get there."""

    root: TargetRoot
    attribution: Attribution

    @property
    def fd(self) -> int:
        """The directory's descriptor."""
        return self.root.fd


@dataclass
class ArrivingFile:
    """One file on its way: where to, what has arrived, and what became of it (None: not yet)."""

    place: CommitPlace | None
    name: bytes
    entry: Entry
    shown: bytes
    staged: Staged | None = None
    digest: OpDigest[blake3] = field(default_factory=lambda: OpDigest(blake3))
    position: int = 0
    ended: bool = False
    replaces: bool = False
    result: CommitResult | None = None

    @property
    def directory(self) -> int:
        """The descriptor of the directory it goes to."""
        assert self.place is not None
        return self.place.fd

    def write(self, message: CommitData, tail: memoryview) -> None:
        """Write what comes next, behind a hole. Raises ``OSError``, and then it is no file yet."""
        assert self.staged is not None
        start = self.position - len(tail)
        if message.hole:
            self.digest.skip(message.hole)
            make_hole(self.staged.fd, start - message.hole, start)
        if len(tail):
            self.digest.update(tail)
            write_fully(self.staged.fd, tail, start)
        if self.ended:
            os.ftruncate(self.staged.fd, self.entry.size)

    def is_whole(self, digest: bytes) -> bool:
        """Tell whether all has arrived as it was sent."""
        return self.position == self.entry.size and self.digest.digest() == digest

    def is_same(self, fd: int) -> bool:
        """Tell whether an open file has the content that has arrived, on its disk.

        It may be there in the page cache only, or its write may have failed before: so it is
        flushed, and then read anew.
        """
        assert self.staged is not None
        size = os.fstat(fd).st_size
        if size != self.entry.size:
            return False
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return _digest(fd, size) == _digest(self.staged.fd, size)

    def settle(self, kept: Kept) -> None:
        """Note that it is there."""
        self.result = CommitResult(kept, self.name)

    def differs(self) -> None:
        """Note that another file is there, which stays."""
        words = ("commit", _DIFFERS, _DIFFERS_HINT)
        self.result = CommitResult(Kept.DIFFERS, self.name, PARTIAL_EXIT, *words)

    def give_up(self, op: str, why: str, code: int = PARTIAL_EXIT, hint: str = "") -> None:
        """Note that it has failed, and make room."""
        self.result = CommitResult(Kept.FAILED, self.name, code, op, why, hint)
        self.discard()

    def fail(self, op: str, error: OSError, code: int = PARTIAL_EXIT) -> None:
        """Note that it has failed, with what the system said."""
        told = root_error(error, op=op, where=self.shown)
        self.give_up(op, told.why, told.exit_code if is_fatal(error) else code, told.hint)

    def discard(self) -> None:
        """Drop what of it has no name."""
        staged, self.staged = self.staged, None
        if staged is not None:
            with contextlib.suppress(OSError):  # nothing that was told depends on it
                staged.discard(self.directory)


def _digest(fd: int, size: int) -> bytes:
    hashed = Hashed(fd)
    for _ in hashed.read_to(size):
        pass
    return hashed.digest()
