"""The source's reading of wanted files: small ones in batches, large ones piece by piece.

A file may change while it is read. What was read is sent only if the file's size and time were
the same before and after; otherwise it is read again a few times, and then reported as changing.
A large file is already under way when the change shows: the target is told that what arrived is
void, and asks again if it has patience left. Runs in worker threads, one hop a frame.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from blake3 import blake3
from xxhash import xxh3_128, xxh3_128_digest

from netsync.delta.match import Matcher
from netsync.delta.ops import Literal, Op, pack
from netsync.delta.signature import Signature
from netsync.errors import reason
from netsync.model import Problem
from netsync.transfer.offers import Offered
from netsync.tree.directories import Directories
from netsync.tree.read import OPEN_FILE, open_regular, read_fully
from netsync.tree.roots import SourceRoot
from netsync.wire.codec import Buffer
from netsync.wire.frames import TAIL_MAX
from netsync.wire.messages import FileEnd, FileHead, Files, Message, Piece, Unsent

SMALL_MAX: Final = 256 * 1024
"""Bytes up to which a file is sent whole in one frame with others."""
BATCH_FILES: Final = 256
"""Files in one frame: enough to share a thread hop, few enough to keep both ends busy."""
READS_MAX: Final = 3
"""Times a changing small file is read before it is reported."""
READ_BYTES: Final = 1024 * 1024
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


class ReadError(Exception):
    """A wanted file could not be read as one consistent whole."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.error)
        self.problem = problem


class _Tail:
    """The buffer that small files are read into, and what did not fit because files grew."""

    def __init__(self, size: int) -> None:
        self._memory = memoryview(bytearray(size))
        self._used = 0
        self._overflow: list[memoryview] = []

    def room(self, size: int) -> memoryview:
        """Return memory for the next file; it counts only once it is kept."""
        if self._overflow or self._used + size > len(self._memory):
            return memoryview(bytearray(size))
        return self._memory[self._used : self._used + size]

    def keep(self, room: memoryview) -> None:
        """Take the memory that ``room`` returned last as the next file's bytes."""
        if self._overflow or room.obj is not self._memory.obj:
            self._overflow.append(room)
        else:
            self._used += len(room)

    def parts(self) -> list[Buffer]:
        """Return all that was kept, in order."""
        return [self._memory[: self._used], *self._overflow]


class Reader:
    """Opens and reads offered files; used by one thread at a time."""

    def __init__(self, roots: Sequence[SourceRoot]) -> None:
        self._directories = [Directories(root.fd) for root in roots]

    def close(self) -> None:
        """Let go of all descriptors but the roots'."""
        for directories in self._directories:
            directories.close()

    def small_files(self, wanted: Sequence[Offered]) -> list[Outgoing]:
        """Return the frames for small files, and one for those that could not be read.

        The files are read side by side into one buffer, which is the frame's tail.
        """
        heads: list[FileHead] = []
        tail = _Tail(sum(offered.entry.size for offered in wanted))
        numbers: list[int] = []
        problems: list[Problem] = []
        for offered in wanted:
            try:
                mtime_ns, data = self._read_small(offered, tail)
            except ReadError as error:
                numbers.append(offered.number)
                problems.append(error.problem)
                continue
            heads.append(FileHead(offered.number, len(data), mtime_ns, xxh3_128_digest(data)))
        outgoing = [Outgoing(Files(heads), tail.parts())] if heads else []
        if numbers:
            outgoing.append(Outgoing(Unsent(numbers, problems)))
        return outgoing

    def _read_small(self, offered: Offered, tail: _Tail) -> tuple[int, Buffer]:
        """Read one small file into ``tail``; return its modification time and its bytes."""
        root, directory, name = offered.located
        size, mtime_ns = offered.entry.size, offered.entry.mtime_ns
        try:
            for _ in range(READS_MAX):
                fd = os.open(name, OPEN_FILE, dir_fd=self._directories[root].fd(directory))
                try:
                    room = tail.room(size)
                    count = os.readv(fd, [room]) if size else 0
                    status = os.fstat(fd)
                finally:
                    os.close(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.ESTALE, "is no longer a regular file")
                if count == size == status.st_size and status.st_mtime_ns == mtime_ns:
                    tail.keep(room)
                    return mtime_ns, room
                if status.st_size > SMALL_MAX:
                    break
                size, mtime_ns = status.st_size, status.st_mtime_ns
        except OSError as error:
            raise ReadError(_problem(offered, error)) from error
        raise ReadError(Problem(offered.path, "read", CHANGED))

    def large_file(self, offered: Offered, signature: DeltaRequest | None) -> LargeFile:
        """Open a file to be sent in pieces, against a signature or whole."""
        root, directory, name = offered.located
        try:
            fd = open_regular(self._directories[root].fd(directory), name)
        except OSError as error:
            raise ReadError(_problem(offered, error)) from error
        return LargeFile(offered, fd, signature)


class LargeFile:
    """One large file on its way: take frames from ``frames()``, then ``close``.

    The digest is BLAKE3 where matches may be used, else xxh3_128.
    """

    def __init__(self, offered: Offered, fd: int, request: DeltaRequest | None) -> None:
        self._offered = offered
        self._fd = fd
        self._before = os.fstat(fd)
        self._offset = 0
        self._hasher: Hasher = blake3() if request else xxh3_128()
        self._matcher = (
            Matcher(request.signature, forward_only=request.forward_only) if request else None
        )

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._fd)

    def frames(self) -> Iterator[Outgoing]:
        """Yield the frames of this file; each step reads at most 1 MiB."""
        while True:
            try:
                data = read_fully(self._fd, READ_BYTES, self._offset)
            except OSError as error:
                yield self._void(reason(error))
                return
            if not data:
                break
            self._offset += len(data)
            self._hasher.update(data)
            if self._matcher is None:
                yield Outgoing(Piece(self._offered.number, [-1, len(data)]), [data])
            else:
                yield from self._pieces(self._matcher.feed(data))
        if self._matcher is not None:
            yield from self._pieces(self._matcher.finish())
        yield self._last()

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
        after = os.fstat(self._fd)
        same = (after.st_size, after.st_mtime_ns) == (
            self._before.st_size,
            self._before.st_mtime_ns,
        )
        if not same or self._offset != after.st_size:
            return self._void(CHANGED)
        digest = self._hasher.digest()
        return Outgoing(FileEnd(self._offered.number, self._offset, after.st_mtime_ns, digest))

    def _void(self, error: str) -> Outgoing:
        problem = Problem(self._offered.path, "read", error)
        return Outgoing(Unsent([self._offered.number], [problem]))


def _problem(offered: Offered, error: OSError) -> Problem:
    vanished = isinstance(error, FileNotFoundError)
    words = str(error.strerror) if error.errno == errno.ESTALE else reason(error)
    return Problem(offered.path, "read", words, vanished)
