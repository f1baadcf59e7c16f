"""Publishing a renamed file from the content the target has under its old name.

Runs in the landing worker, a bounded piece of work a hop, so that a large file neither delays a
cancelled session nor others' heartbeats.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from typing import Final

from netsync.errors import ProtocolError
from netsync.transfer.landing import Lander
from netsync.transfer.offers import RENAME_MIN
from netsync.transfer.renames import Candidates, Renames
from netsync.transfer.wanted import Wanted
from netsync.tree.content import Hashed
from netsync.tree.directories import Directories
from netsync.tree.holes import extents
from netsync.tree.output import Output
from netsync.tree.read import open_regular
from netsync.tree.reflink import reflink
from netsync.wire.reuse import Digests

STEP_BYTES: Final = 64 * 1024 * 1024
"""Bytes read, hashed and perhaps written in one hop: some 50 ms."""

Work = Generator[None, None, None]


class Mover:
    """Takes the digests that were asked for and finds the files they belong to."""

    def __init__(self, root: int, lander: Lander, renames: Renames) -> None:
        self._directories = Directories(root)
        self._lander = lander
        self._renames = renames
        self._asked: dict[int, Wanted] = {}
        self._queue: deque[tuple[Wanted, bytes]] = deque()
        self._work: Work | None = None
        self._done = 0

    def close(self) -> None:
        """Drop what is under way and let go of descriptors."""
        if self._work is not None:
            self._work.close()
        self._directories.close()

    def expect(self, wanted: list[Wanted]) -> None:
        """Note whose digests are asked for; until they come no data may."""
        for each in wanted:
            each.arrived = True
            each.attempts = 0
            self._asked[each.number] = each

    def take(self, message: Digests) -> None:
        """Queue what the source answered. Raises ``ProtocolError``."""
        if len(message.numbers) != len(message.digests):
            raise ProtocolError("numbers and digests do not fit", op="receive")
        for number, digest in zip(message.numbers, message.digests, strict=True):
            wanted = self._asked.pop(number, None)
            if wanted is None:
                raise ProtocolError(f"a digest of file {number}, not asked for", op="receive")
            wanted.arrived = False
            self._queue.append((wanted, digest))

    @property
    def is_busy(self) -> bool:
        """Tell whether there is work to do."""
        return self._work is not None or bool(self._queue)

    def work(self) -> None:
        """Publish renamed files, as much as makes a hop worth its while."""
        self._done = 0
        while self._done < STEP_BYTES and self.is_busy:
            if self._work is None:
                self._work = self._move(*self._queue.popleft())
            try:
                next(self._work)
            except StopIteration:
                self._work = None
            if self._lander.is_full:
                self._lander.flush()

    def _move(self, wanted: Wanted, digest: bytes) -> Work:
        """Bring about one file from a candidate, or ask for its data."""
        candidates = self._renames.candidates(wanted.entry.size)
        if digest and candidates is not None:
            known = candidates.with_digest(digest)
            likely = known or candidates.likely(wanted.entry)
            if likely is not None and (yield from self._adopt(wanted, digest, candidates, likely)):
                return
            large = wanted.entry.size >= RENAME_MIN  # else it is sooner sent than looked for
            while known is None and large and (path := candidates.any_unread()) is not None:
                if (yield from self._digest(path, candidates)) != digest:
                    continue
                if (yield from self._adopt(wanted, digest, candidates, path)):
                    return
                break
        self._lander.fates.ask_again(wanted)

    def _digest(self, path: bytes, candidates: Candidates) -> Generator[None, None, bytes]:
        """Return the digest of a candidate, empty if it cannot be read."""
        digest = b""
        try:
            fd = self._open(path)
            try:
                digest = yield from self._read(fd, None)
            finally:
                os.close(fd)
        except OSError:
            pass  # it is of no use then, and no loss
        candidates.read(path, digest)
        return digest

    def _open(self, path: bytes) -> int:
        directory, _, name = path.rpartition(b"/")
        return open_regular(self._directories.fd(directory), name)

    def _adopt(
        self, wanted: Wanted, digest: bytes, candidates: Candidates, path: bytes
    ) -> Generator[None, None, bool]:
        """Stage a copy of a candidate; True if it was the wanted content, or is settled."""
        found = b""
        try:
            source = self._open(path)
        except OSError:
            candidates.read(path, b"")
            return False
        output = self._lander.open_output(wanted)
        if output is None:  # trouble with the place, which has been told
            os.close(source)
            return True
        try:
            found = yield from self._copy(source, output)
        except OSError as error:
            self._lander.drop_output(wanted, output, error)
            return True
        except GeneratorExit:
            self._lander.drop_output(wanted, output)
            raise
        finally:
            os.close(source)
        candidates.read(path, found)
        if found != digest:
            self._lander.drop_output(wanted, output)
            return False
        self._lander.moved(wanted, output)
        return True

    def _copy(self, source: int, output: Output) -> Generator[None, None, bytes]:
        """Give ``output`` the content of ``source``; return the digest of what it now holds."""
        if reflink(source, output.fd):
            return (yield from self._read(output.fd, None))
        return (yield from self._read(source, output))

    def _read(self, fd: int, output: Output | None) -> Generator[None, None, bytes]:
        """Return the digest of an open file, and copy it to ``output`` if there is one."""
        hashed = Hashed(fd)
        for start, data in hashed.read_to(os.fstat(fd).st_size):
            if output is not None:
                _copy_part(fd, output, start, memoryview(data), hashed.position)
            self._done += len(data)
            if self._done >= STEP_BYTES:
                yield
        return hashed.digest()


def _copy_part(fd: int, output: Output, start: int, data: memoryview, end: int) -> None:
    """Write what was hashed of an open file from ``start`` up to ``end``, and leave its holes.

    Nothing but what was hashed: the file may have become another since.
    """
    if not data:
        output.leave_hole(start, end - start)
        return
    for extent in extents(fd, start, end):
        part = data[: extent.end - extent.start]
        if extent.is_hole and part == bytes(len(part)):
            output.leave_hole(extent.start, len(part))
        else:
            output.write(part, extent.start)
        start, data = extent.end, data[len(part) :]
    if data:  # the file has been cut meanwhile
        output.write(data, start)
