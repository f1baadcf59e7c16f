"""What one side knows of its own files' content: read again, and held against what was seen.

A verification has a ``Judge`` at each end. It reads what the comparison asks for, from the disk,
and says of each file whether it is intact, was written, or has rotted. The source's also keeps
what has rotted from being sent: what a verification once found in any transfer, and with
``--checksum`` what shows while it hashes. A state directory that cannot be used stops nothing: the
run says so once, and nothing is known. Used in worker threads, by one at a time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from netsync.errors import StateError
from netsync.model import Entry, History, Options, Problem, wire_time
from netsync.plan.differing import NOT_SENT, ROT, rotted_words
from netsync.state.verified import VerifiedFiles, file_of, stamp_of
from netsync.tree.content import content_digest
from netsync.tree.rehash import Reread, Rereader

_DAY: Final = 86400


class File(NamedTuple):
    """A regular file: its ``name`` in the open ``directory``, and its path in the transfer."""

    directory: int
    name: bytes
    path: bytes


class Judge:
    """Judges the files of one ``side`` of a transfer: ``source`` or ``target``."""

    def __init__(self, side: str, memory: VerifiedFiles | None, options: Options) -> None:
        self.notices: list[str] = []
        self._side = side
        self._memory = memory
        self._options = options
        self._rereader: Rereader | None = None
        if options.verify:
            self._rereader = Rereader(gentle=options.slice is not None)
        elif memory is not None and not memory.exists:
            self._memory = None
        self._rotten: Mapping[int, int] = {}

    def begin(self) -> None:
        """Recall what has rotted, for a source that is to send. Blocks."""
        if self._memory is None or self._options.verify:
            return
        try:
            self._rotten = self._memory.rotten()
        except StateError as error:
            self._forget(error)

    def close(self) -> None:
        """Write down what was seen, once. Blocks."""
        if self._memory is None:
            return
        memory, self._memory = self._memory, None
        try:
            memory.close()
        except StateError as error:
            self._forget(error)

    @property
    def knows_rot(self) -> bool:
        """Tell whether something here must not be sent."""
        return bool(self._rotten)

    def is_withheld(self, file: File) -> Problem | None:
        """Return what to say of a file that is known to have rotted and is not to be sent."""
        if not self._rotten:
            return None
        stamp = self._rotten.get(file_of(_place(file)))
        if stamp is None or stamp != stamp_of(_status(file)):
            return None  # it is well, or it was written since
        return Problem(file.path, ROT, NOT_SENT)

    def judged(self, file: File, entry: Entry) -> tuple[Entry, Problem | None]:
        """Return ``entry`` with the digest of its file, and what is known of it; or what is wrong.

        Raises ``OSError``.
        """
        if self._rereader is not None:
            reread = self._rereader.read(file.directory, file.name)
        elif self._memory is not None:
            reread = _read_cached(file)
        else:
            digest = content_digest(file.directory, file.name)
            return msgspec.structs.replace(entry, digest=digest), None
        entry = msgspec.structs.replace(entry, digest=reread.digest)
        status = reread.status
        if status is None or (status.st_size, wire_time(status.st_mtime_ns)) != (
            entry.size, entry.mtime_ns,
        ):  # fmt: skip
            return msgspec.structs.replace(entry, history=History.BUSY), None
        return self._known(file, entry, status)

    def glanced_at(self, file: File, entry: Entry) -> Entry:
        """Return ``entry`` with what is known of its file without reading it."""
        return self._known(file, entry, _status(file))[0]

    def _known(
        self, file: File, entry: Entry, status: os.stat_result
    ) -> tuple[Entry, Problem | None]:
        if self._memory is None:
            return entry, None
        try:
            found = self._memory.judge(_place(file), status, entry.digest)
        except StateError as error:
            self._forget(error)
            return entry, None
        entry = msgspec.structs.replace(entry, history=found.history)
        if found.history is not History.ROTTED:
            return entry, None
        since = datetime.fromtimestamp(found.day * _DAY, UTC).strftime("%Y-%m-%d")
        words = rotted_words(self._side, since) if self._options.verify else NOT_SENT
        return entry, Problem(file.path, ROT, words)

    def _forget(self, error: StateError) -> None:
        self._memory = None
        self.notices.append(
            f"{error}: what the files of the {self._side} held before is not known, so rot cannot"
            " be told from edits there"
        )


def _place(file: File) -> bytes:
    """Return where a file is on this host, however the transfer got there."""
    return os.path.join(os.readlink(b"/proc/self/fd/%d" % file.directory), file.name)


def _status(file: File) -> os.stat_result:
    return os.stat(file.name, dir_fd=file.directory, follow_symlinks=False)


def _read_cached(file: File) -> Reread:
    """Read what a transfer would send: what is in the cache counts."""
    before = _status(file)
    digest = content_digest(file.directory, file.name)
    after = _status(file)
    return Reread(digest, after if stamp_of(before) == stamp_of(after) else None)
