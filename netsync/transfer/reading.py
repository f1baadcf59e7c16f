"""The source's reading of wanted files: small ones in batches, large ones piece by piece.

A small file is sent in a batch if it is still as it was listed; one that is not is read like a
large file. A large file that only grew is sent at the size seen when it was opened. If it changed
otherwise while it was read, the target is told that what arrived is void (``outgoing.py``), and
asks again a few times before it reports the file as changing; ``--changing publish`` has the last
reading taken as it is. Small files with holes are read like large ones. A write changes a file's
time only by the clock's grain, so a file that was written to just now is read a moment later: then
the next write shows. Runs in worker threads, one hop for a frame or two.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from operator import itemgetter
from typing import Final, NamedTuple

from xxhash import xxh3_128_digest

from netsync.delta.holes import Holes
from netsync.errors import reason
from netsync.model import Problem, wire_time
from netsync.transfer.backing import backing_directories
from netsync.transfer.offers import Chunk, InDirectory, Offered
from netsync.transfer.outgoing import LargeFile, Opened, Outgoing, Request, next_frames
from netsync.tree.content import Hashed
from netsync.tree.holes import HOLE_MIN, find_holes
from netsync.tree.native import AS_NOT_LISTED, LESS_THAN_ITS_SIZE, read_listed
from netsync.tree.read import PageBuffers, open_regular
from netsync.tree.roots import SourceRoot
from netsync.wire.batches import batches
from netsync.wire.frames import TAIL_MAX
from netsync.wire.messages import (
    UNSENT_MAX,
    FileHead,
    Files,
    Unsent,
)
from netsync.wire.reuse import Digests

SMALL_MAX: Final = 256 * 1024
"""Bytes up to which a file is sent whole in one frame with others."""
_PROBLEM_BYTES: Final = 64
"""Estimated bytes of a problem beside its path."""
RACY_NS: Final = 10_000_000
"""Nanoseconds in which two writes may leave the same time: file systems' clocks tick every 1 to
10 ms."""
_STEP_BYTES: Final = 64 * 1024 * 1024
"""Bytes hashed in one hop when only a digest is wanted: some 20 ms."""


class ReadError(Exception):
    """A wanted file could not be read as one consistent whole."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.error)
        self.problem = problem


class SmallFiles(NamedTuple):
    """Frames to send, and the files that are not as listed any more: read those as large."""

    frames: list[Outgoing]
    changed: list[Offered]


class Begun(NamedTuple):
    """A large file on its way, its first frames, and those that follow."""

    large: LargeFile
    first: list[Outgoing]
    more: Iterator[Outgoing]


class Reader:
    """Opens and reads offered files, with their holes if so asked; used by one thread at a time."""

    def __init__(self, roots: Sequence[SourceRoot], *, sparse: bool) -> None:
        self._directories = backing_directories(roots)
        self._sparse = sparse
        self._buffers = PageBuffers()

    def close(self) -> None:
        """Let go of all descriptors but the roots'."""
        for directories in self._directories:
            directories.close()

    def batches(self, batches: Sequence[Sequence[Chunk]]) -> list[SmallFiles]:
        """Read small files in batches of a frame each; empty ones are left out."""
        return [self.small_files(wanted) for wanted in batches if wanted]

    def small_files(self, wanted: Sequence[Chunk]) -> SmallFiles:
        """Read small files side by side into one buffer, which is the frame's tail."""
        heads: list[FileHead] = []
        changed: list[Offered] = []
        failed: list[tuple[int, Problem]] = []
        parts: list[memoryview] = []
        room = self._buffers.room(0, TAIL_MAX)
        used = start = 0  # what lies between them is as listed, and not among the parts yet
        for files in wanted:
            results = self._read(files, room[used:])
            if not any(results):
                heads += _heads(files, room[used:])
                used += sum([entry.size for entry in files.entries])
                continue
            for number, entry, result in zip(count(files.first), files.entries, results):
                position, used = used, used + entry.size
                if result == 0 or (
                    result == LESS_THAN_ITS_SIZE and not self._has_holes(files.offered(number))
                ):
                    digest = xxh3_128_digest(room[position:used])
                    heads.append(FileHead(number, entry.size, entry.mtime_ns, digest))
                    continue
                parts.append(room[start:position])
                start = used
                offered = files.offered(number)
                if result in (AS_NOT_LISTED, LESS_THAN_ITS_SIZE):
                    changed.append(offered)
                else:
                    failed.append((number, _problem(offered, _error(result))))
        parts.append(room[start:used])
        frames = [Outgoing(Files(heads), [part for part in parts if part])] if heads else []
        return SmallFiles([*frames, *_unsent(failed)], changed)

    def _read(self, files: Chunk, room: memoryview) -> list[int]:
        """Read files one behind the other, neighbours in one real directory with one call.

        Returns for each what ``read_listed`` does.
        """
        sizes = [entry.size for entry in files.entries]
        times = [entry.mtime_ns for entry in files.entries]
        if max(times) > time.time_ns() - RACY_NS:
            for mtime_ns in times:
                let_settle(mtime_ns)
        results: list[int] = []
        for (root, directory), names in _places(files):
            these = slice(len(results), len(results) + len(names))
            try:
                fd = self._directories[root].fd(directory)
                results += read_listed(fd, names, sizes[these], times[these], room)
            except OSError as error:
                results += [error.errno or errno.EIO] * len(names)
            room = room[sum(sizes[these]) :]
        return results

    def _has_holes(self, offered: Offered) -> bool:
        """Tell whether a small file should be sent like a large one, which may have holes."""
        if not self._sparse or offered.entry.size < HOLE_MIN:
            return False
        with contextlib.suppress(OSError):  # it was read: it can be sent
            root, directory, name = offered.located
            fd = open_regular(self._directories[root].fd(directory), name)
            try:
                return bool(find_holes(fd, offered.entry.size))
            finally:
                os.close(fd)
        return False

    def digests(self, wanted: Sequence[Offered]) -> Iterator[Sequence[Outgoing]]:
        """Yield the frame with the digests of ``wanted``, after a step for each 64 MiB read."""
        digests: list[bytes] = []
        done = 0
        for offered in wanted:
            digest = b""
            with contextlib.suppress(OSError):  # it has none then, and its data is asked for
                for step in self._as_listed(offered):
                    digest = step.digest
                    done += step.read
                    if done >= _STEP_BYTES:
                        done = 0
                        yield ()
            digests.append(digest)
        yield [Outgoing(Digests([offered.number for offered in wanted], digests))]

    def _as_listed(self, offered: Offered) -> Iterator[_Step]:
        """Yield steps of hashing a file, the last with its digest if it is as it was listed."""
        root, directory, name = offered.located
        fd = open_regular(self._directories[root].fd(directory), name)
        listed = (offered.entry.size, offered.entry.mtime_ns)
        try:
            changed_ns = os.fstat(fd).st_ctime_ns
            hashed = Hashed(fd)
            for _, data in hashed.read_to(offered.entry.size):
                yield _Step(len(data))
            status = os.fstat(fd)
            is_listed = (status.st_size, wire_time(status.st_mtime_ns)) == listed
            if is_listed and status.st_ctime_ns == changed_ns:
                yield _Step(0, hashed.digest())
        finally:
            os.close(fd)

    def large_file(
        self, offered: Offered, request: Request | None, *, take_changed: bool = False
    ) -> LargeFile:
        """Open a file to be sent in pieces, against a signature, from an offset, or whole.

        With ``take_changed`` it is sent as it was read, whatever happens to it meanwhile.
        """
        return LargeFile(offered, self.open(offered), request, take_changed=take_changed)

    def begin_large(
        self, offered: Offered, request: Request | None, *, take_changed: bool
    ) -> Begun:
        """Open a file like ``large_file``, and read the first of it in the same step."""
        large = self.large_file(offered, request, take_changed=take_changed)
        try:
            frames = large.frames()
            return Begun(large, next_frames(frames), frames)
        except BaseException:
            large.close()
            raise

    def open(self, offered: Offered) -> Opened:
        """Open a file to be read, with the holes that are to be kept. Raises ``ReadError``."""
        root, directory, name = offered.located
        try:
            fd = open_regular(self._directories[root].fd(directory), name)
            try:
                status = os.fstat(fd)
                let_settle(status.st_mtime_ns)
                let_settle(status.st_ctime_ns)  # which nobody can set
                before = os.fstat(fd)  # so that whatever is written into a hole from now on shows
                holes = find_holes(fd, before.st_size) if self._sparse else Holes()
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise ReadError(_problem(offered, error)) from error
        return Opened(fd, before, holes, self._buffers)


def _heads(files: Chunk, room: memoryview) -> list[FileHead]:
    """Return what is said of files that lie one behind the other in ``room``, all as listed."""
    ends = accumulate([entry.size for entry in files.entries])
    return [
        FileHead(
            number, size := entry.size, entry.mtime_ns, xxh3_128_digest(room[end - size : end])
        )
        for number, entry, end in zip(count(files.first), files.entries, ends)
    ]


def _places(files: Chunk) -> Iterator[tuple[tuple[int, bytes], list[bytes]]]:
    """Yield real directories, and the names in them that are neighbours."""
    locate = files.locate
    if isinstance(locate, InDirectory):
        yield (locate.root, locate.directory), [entry.name for entry in files.entries]
        return
    places = [locate(entry.name) for entry in files.entries]
    for where, group in itertools.groupby(places, itemgetter(0, 1)):
        yield where, [place.name for place in group]


class _Step(NamedTuple):
    read: int
    digest: bytes = b""


def let_settle(mtime_ns: int) -> None:
    """Wait until a write to a file last written at ``mtime_ns`` would show in its time."""
    age = time.time_ns() - mtime_ns
    if abs(age) < RACY_NS:
        time.sleep((RACY_NS - age) / 1e9)


def _unsent(failed: Sequence[tuple[int, Problem]]) -> Iterator[Outgoing]:
    for part in batches(failed, lambda each: len(each[1].path) + _PROBLEM_BYTES, UNSENT_MAX):
        yield Outgoing(Unsent([number for number, _ in part], [problem for _, problem in part]))


def _error(number: int) -> OSError:
    words = "is no longer a regular file" if number == errno.ESTALE else os.strerror(number)
    return OSError(number, words)


def _problem(offered: Offered, error: OSError) -> Problem:
    vanished = isinstance(error, FileNotFoundError)
    words = str(error.strerror) if error.errno == errno.ESTALE else reason(error)
    return Problem(offered.path, "read", words, vanished)
