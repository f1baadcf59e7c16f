"""The source's reading of wanted files: small ones in batches, large ones piece by piece.

A small file is sent in a batch if it is still as it was listed; one that is not is read like a
large file. A large file that only grew is sent at the size seen when it was opened. If it changed
otherwise while it was read, the target is told that what arrived is void, and asks again a few
times before it reports the file as changing; ``--changing publish`` has the last reading taken as
it is. A write changes a file's time only by the clock's grain, so a file that was written to just
now is read a moment later: then the next write shows. Runs in worker threads, one hop a frame.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

from blake3 import blake3
from xxhash import xxh3_128, xxh3_128_digest

from netsync.delta.match import Matcher
from netsync.delta.ops import Literal, Op, pack
from netsync.delta.signature import Signature
from netsync.errors import reason
from netsync.model import Problem, wire_time
from netsync.transfer.backing import backing_directories
from netsync.transfer.catching_up import CatchingUp
from netsync.transfer.offers import Offered
from netsync.tree.native import AS_NOT_LISTED, read_listed
from netsync.tree.read import open_regular, read_fully
from netsync.tree.roots import SourceRoot
from netsync.wire.batches import batches
from netsync.wire.codec import Buffer
from netsync.wire.frames import TAIL_MAX
from netsync.wire.messages import (
    UNSENT_MAX,
    FileEnd,
    FileHead,
    Files,
    Message,
    Piece,
    Unsent,
)
from netsync.wire.reuse import Digests

SMALL_MAX: Final = 256 * 1024
"""Bytes up to which a file is sent whole in one frame with others."""
_PROBLEM_BYTES: Final = 64
"""Estimated bytes of a problem beside its path."""
READ_BYTES: Final = 2 * 1024 * 1024
RACY_NS: Final = 10_000_000
"""Nanoseconds in which two writes may leave the same time: file systems' clocks tick every 1 to
10 ms."""
_STEP_BYTES: Final = 64 * 1024 * 1024
"""Bytes hashed in one hop when only a digest is wanted: some 20 ms."""
_PIECE_OPS: Final = 8192
"""Operations in one frame; two numbers of at most nine bytes each keep it below its limit."""


class Hasher(Protocol):
    """What BLAKE3 and xxh3_128 have in common."""

    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


CHANGED: Final = "changed while it was read"


class Outgoing(NamedTuple):
    """A message ready to be sent, with its raw tail."""

    message: Message
    tail: Sequence[Buffer] = ()


def next_frame(frames: Iterator[Outgoing]) -> Outgoing | None:
    """Return the next frame, or None at the end: one step of work for a worker thread."""
    return next(frames, None)


class DeltaRequest(NamedTuple):
    """A target's signature, and whether matches may only point forward (``--inplace``)."""

    signature: Signature
    forward_only: bool


class RestRequest(NamedTuple):
    """Where a target wants a file from, whose beginning it believes to have."""

    offset: int


Request = DeltaRequest | RestRequest
"""What a large file may be sent against."""


class ReadError(Exception):
    """A wanted file could not be read as one consistent whole."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.error)
        self.problem = problem


class SmallFiles(NamedTuple):
    """Frames to send, and the files that are not as listed any more: read those as large."""

    frames: list[Outgoing]
    changed: list[Offered]


class Reader:
    """Opens and reads offered files; used by one thread at a time."""

    def __init__(self, roots: Sequence[SourceRoot]) -> None:
        self._directories = backing_directories(roots)

    def close(self) -> None:
        """Let go of all descriptors but the roots'."""
        for directories in self._directories:
            directories.close()

    def small_files(self, wanted: Sequence[Offered]) -> SmallFiles:
        """Read small files side by side into one buffer, which is the frame's tail."""
        for offered in wanted:
            let_settle(offered.entry.mtime_ns)
        heads: list[FileHead] = []
        changed: list[Offered] = []
        failed: list[tuple[int, Problem]] = []
        parts: list[memoryview] = []
        room = memoryview(bytearray(sum(offered.entry.size for offered in wanted)))
        used = start = 0  # what lies between them is as listed, and not among the parts yet
        for offered, result in self._read(wanted, room):
            entry = offered.entry
            position, used = used, used + entry.size
            if result == 0:
                digest = xxh3_128_digest(room[position:used])
                heads.append(FileHead(offered.number, entry.size, entry.mtime_ns, digest))
                continue
            parts.append(room[start:position])
            start = used
            if result == AS_NOT_LISTED:
                changed.append(offered)
            else:
                failed.append((offered.number, _problem(offered, _error(result))))
        parts.append(room[start:used])
        frames = [Outgoing(Files(heads), [part for part in parts if part])] if heads else []
        return SmallFiles([*frames, *_unsent(failed)], changed)

    def _read(self, wanted: Sequence[Offered], room: memoryview) -> Iterator[tuple[Offered, int]]:
        """Read files one behind the other, neighbours in one directory with one call."""
        places = [offered.located for offered in wanted]
        start = 0
        for (root, directory), group in itertools.groupby(places, itemgetter(0, 1)):
            names = [place.name for place in group]
            files = wanted[start : start + len(names)]
            start += len(names)
            sizes = [offered.entry.size for offered in files]
            times = [offered.entry.mtime_ns for offered in files]
            try:
                fd = self._directories[root].fd(directory)
                results = read_listed(fd, names, sizes, times, room)
            except OSError as error:
                results = [error.errno or errno.EIO] * len(files)
            room = room[sum(sizes) :]
            yield from zip(files, results, strict=True)

    def digests(self, wanted: Sequence[Offered]) -> Iterator[Sequence[Outgoing]]:
        """Yield the frame with the digests of ``wanted``, after a step for each 64 MiB read."""
        digests: list[bytes] = []
        done = 0
        for offered in wanted:
            hasher = blake3()
            position = 0
            with contextlib.suppress(ReadError):
                for data in self._as_listed(offered):
                    hasher.update(data)
                    position += len(data)
                    done += len(data)
                    if done >= _STEP_BYTES:
                        done = 0
                        yield ()
            whole = position == offered.entry.size
            digests.append(hasher.digest() if whole else b"")
        yield [Outgoing(Digests([offered.number for offered in wanted], digests))]

    def _as_listed(self, offered: Offered) -> Iterator[bytes]:
        """Yield the content of a file, as far as it is as it was listed."""
        root, directory, name = offered.located
        try:
            fd = open_regular(self._directories[root].fd(directory), name)
        except OSError as error:
            raise ReadError(_problem(offered, error)) from error
        listed = (offered.entry.size, offered.entry.mtime_ns)
        try:
            position = 0
            while position < offered.entry.size:
                data = read_fully(fd, READ_BYTES, position)
                status = os.fstat(fd)
                if not data or (status.st_size, wire_time(status.st_mtime_ns)) != listed:
                    return
                position += len(data)
                yield data
        except OSError as error:
            raise ReadError(_problem(offered, error)) from error
        finally:
            os.close(fd)

    def large_file(
        self, offered: Offered, request: Request | None, *, take_changed: bool = False
    ) -> LargeFile:
        """Open a file to be sent in pieces, against a signature, from an offset, or whole.

        With ``take_changed`` it is sent as it was read, whatever happens to it meanwhile.
        """
        return LargeFile(offered, self.open(offered), request, take_changed=take_changed)

    def open(self, offered: Offered) -> int:
        """Return a descriptor to read the file from. Raises ``ReadError``."""
        root, directory, name = offered.located
        try:
            fd = open_regular(self._directories[root].fd(directory), name)
        except OSError as error:
            raise ReadError(_problem(offered, error)) from error
        let_settle(os.fstat(fd).st_mtime_ns)
        return fd


class LargeFile:
    """One large file on its way: take frames from ``frames()``, then ``close``.

    ``offset`` is how far it is read. The digest is BLAKE3 where matches may be used, else
    xxh3_128.
    """

    def __init__(
        self, offered: Offered, fd: int, request: Request | None, *, take_changed: bool
    ) -> None:
        self._offered = offered
        self._take_changed = take_changed
        self._fd = fd
        self._before = os.fstat(fd)
        self.offset = 0
        self._hasher: Hasher = blake3() if request else xxh3_128()
        self._matcher: Matcher | None = None
        self._catching_up: CatchingUp | None = None
        if isinstance(request, DeltaRequest):
            self._matcher = Matcher(request.signature, forward_only=request.forward_only)
        elif request is not None:
            self.offset = request.offset
            self._catching_up = CatchingUp(fd)

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._fd)

    def frames(self) -> Iterator[Outgoing]:
        """Yield the frames of this file; each step reads at most 2 MiB."""
        size = self._before.st_size
        if self.offset > size:
            yield self._void(CHANGED, retry=True)
            return
        while self.offset < size:
            try:
                data = read_fully(self._fd, min(READ_BYTES, size - self.offset), self.offset)
            except OSError as error:
                yield self._void(reason(error))
                return
            if not data:
                if self._take_changed:
                    break
                yield self._void(CHANGED, retry=True)
                return
            self._hash(data)
            self.offset += len(data)
            if self._matcher is None:
                yield Outgoing(Piece(self._offered.number, [-1, len(data)]), [data])
            else:
                yield from self._pieces(self._matcher.feed(data))
        if self._matcher is not None:
            yield from self._pieces(self._matcher.finish())
        try:
            while self._catching_up is not None and not self._catching_up.step(size):
                yield Outgoing(Piece(self._offered.number, []))
        except OSError as error:
            yield self._void(reason(error))
            return
        yield self._last()

    def _hash(self, data: bytes) -> None:
        if self._catching_up is not None:
            self._catching_up.passed(data, self.offset)
        else:
            self._hasher.update(data)

    def _pieces(self, ops: Sequence[Op]) -> Iterator[Outgoing]:
        """Pack operations into frames that keep the limits."""
        group: list[Op] = []
        literal = 0
        for op in ops:
            size = len(op.data) if isinstance(op, Literal) else 0
            if group and (literal + size > TAIL_MAX or len(group) >= _PIECE_OPS):
                numbers, tail = pack(group)
                yield Outgoing(Piece(self._offered.number, numbers), tail)
                group, literal = [], 0
            group.append(op)
            literal += size
        if group:
            numbers, tail = pack(group)
            yield Outgoing(Piece(self._offered.number, numbers), tail)

    def _last(self) -> Outgoing:
        """End the file if what was read is one whole: unchanged, or only grown since opened.

        It gets the time it had before: if it changed, the next run finds it different.
        """
        before, after = self._before, os.fstat(self._fd)
        good = self._take_changed or after.st_size > before.st_size
        if not good and (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            return self._void(CHANGED, retry=True)
        hasher = self._hasher
        digest = self._catching_up.digest(self.offset) if self._catching_up else hasher.digest()
        return Outgoing(
            FileEnd(self._offered.number, self.offset, wire_time(before.st_mtime_ns), digest)
        )

    def _void(self, error: str, *, retry: bool = False) -> Outgoing:
        problem = Problem(self._offered.path, "read", error)
        return Outgoing(Unsent([self._offered.number], [problem], retry))


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
