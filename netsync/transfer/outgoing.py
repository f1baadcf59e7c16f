"""A large file on its way out: read, and sent in pieces, whole or as a delta against one signature.

What was read is one whole if the file is unchanged at the end, or has only grown; else the target
is told that what arrived is void. Holes are neither read nor sent, only told. Runs in worker
threads, one hop for a frame or two.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from xxhash import xxh3_128

from netsync.delta.digest import Hasher, OpDigest
from netsync.delta.holes import Holes
from netsync.delta.keyed import KeyedDigest
from netsync.delta.match import Matcher
from netsync.delta.ops import Hole, Literal, Op, pack
from netsync.delta.signature import Signature
from netsync.errors import reason
from netsync.model import Problem, wire_time
from netsync.transfer.catching_up import CatchingUp
from netsync.transfer.offers import Offered
from netsync.tree.read import PageBuffers, fill
from netsync.wire.codec import Buffer
from netsync.wire.frames import TAIL_MAX
from netsync.wire.messages import FileEnd, Message, Piece, Unsent

READ_BYTES: Final = 2 * 1024 * 1024
"""Bytes of data read for one frame."""
_NEAR_BYTES: Final = 512 * 1024
"""Bytes read and hashed at a time: they stay in a processor's second-level cache in between, which
spares a fifth of both."""
_PIECE_OPS: Final = 8192
"""Operations in one frame; two numbers of at most nine bytes each keep it below its limit."""
_STEP_FRAMES: Final = 2
"""Frames made in one step."""
CHANGED: Final = "changed while it was read"


class Outgoing(NamedTuple):
    """A message ready to be sent, with its raw tail."""

    message: Message
    tail: Sequence[Buffer] = ()


def next_frame(frames: Iterator[Outgoing]) -> Outgoing | None:
    """Return the next frame, or None at the end: one step of work for a worker thread."""
    return next(frames, None)


def next_frames(frames: Iterator[Outgoing]) -> list[Outgoing]:
    """Return the next frame of a ``LargeFile``, and one more if it is no full one: one step too.

    So a file of one piece ends in the step that begins it. Two at most: what matched, or is only
    hashed again, has no bytes in its frame, and takes as long.
    """
    taken: list[Outgoing] = []
    for frame in frames:
        taken.append(frame)
        if len(taken) == _STEP_FRAMES or sum(map(len, frame.tail)) >= READ_BYTES:
            break
    return taken


class DeltaRequest(NamedTuple):
    """A target's signature, and whether matches may only point forward (``--inplace``)."""

    signature: Signature
    forward_only: bool


class RestRequest(NamedTuple):
    """Where a target wants a file from, whose beginning it believes to have."""

    offset: int


Request = DeltaRequest | RestRequest
"""What a large file may be sent against."""


class ShrunkError(Exception):
    """The file is shorter than when it was opened."""


class Opened(NamedTuple):
    """A file opened to be read: as it was, before its holes were looked for; what to read into."""

    fd: int
    before: os.stat_result
    holes: Holes
    buffers: PageBuffers


class LargeFile:
    """One large file on its way: take frames from ``frames()``, then ``close``.

    ``offset`` is how far it is read. The digest is keyed where matches may be used, else
    xxh3_128; the rest of a file has its own (``CatchingUp``).
    """

    def __init__(
        self,
        offered: Offered,
        opened: Opened,
        request: Request | None,
        *,
        take_changed: bool,
    ) -> None:
        self._offered = offered
        self._take_changed = take_changed
        self._fd, self._before, self._holes, self._buffers = opened
        self.offset = 0
        self._digest: OpDigest[Hasher] = OpDigest(xxh3_128)
        self._matcher: Matcher | None = None
        self._catching_up: CatchingUp | None = None
        if isinstance(request, DeltaRequest):
            signature = request.signature
            self._matcher = Matcher(signature, forward_only=request.forward_only)
            self._digest = OpDigest(functools.partial(KeyedDigest, signature.seed))
        elif request is not None:
            self.offset = request.offset
            self._catching_up = CatchingUp(self._fd)

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._fd)

    def frames(self) -> Iterator[Outgoing]:
        """Yield the frames of this file; each step reads at most 2 MiB."""
        size = self._before.st_size
        try:
            if self.offset > size:
                raise ShrunkError
            yield from self._contents(size)
            while self._catching_up is not None and not self._catching_up.step(size):
                yield Outgoing(Piece(self._offered.number, []))
        except ShrunkError:
            yield self._void(CHANGED, retry=True)
        except OSError as error:
            yield self._void(reason(error))
        else:
            yield self._last()

    def _contents(self, size: int) -> Iterator[Outgoing]:
        """Yield pieces, of many extents where these are small."""
        ops: list[Op] = []
        room = self._buffers.room(self.offset, READ_BYTES)
        for extent in self._holes.extents(self.offset, size):
            while self.offset < extent.end:
                if extent.is_hole and os.fstat(self._fd).st_size >= extent.end:
                    ops += self._skip(extent.end - self.offset)
                elif data := self._read_on(room[: extent.end - self.offset]):
                    ops += self._feed(data)
                    room = room[len(data) :]
                elif self._take_changed:
                    size = self.offset
                    break
                else:
                    raise ShrunkError
                if not room or len(ops) >= _PIECE_OPS:
                    yield from self._pieces(ops)
                    ops, room = [], self._buffers.room(self.offset, READ_BYTES)
            if self.offset == size:
                break
        if self._matcher is not None:
            ops += self._matcher.finish()
        yield from self._pieces(ops)

    def _read_on(self, room: memoryview) -> memoryview:
        """Fill ``room`` with what comes next, and hash it; return less at the end of the file."""
        got = missing = 0
        while got < len(room) and not missing:
            part = room[got : got + _NEAR_BYTES]
            read = fill(self._fd, part, self.offset + got)
            if self._catching_up is None:
                self._digest.update(part[:read])
            got += read
            missing = len(part) - read
        return room[:got]

    def _feed(self, data: memoryview) -> Sequence[Op]:
        self.offset += len(data)
        if self._catching_up is not None:
            self._catching_up.passed(len(data), self.offset)
        return [Literal(data)] if self._matcher is None else self._matcher.feed(data)

    def _skip(self, length: int) -> Sequence[Op]:
        self.offset += length
        self._digest.skip(length)
        return [Hole(length)] if self._matcher is None else self._matcher.skip(length)

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
        if not good and _version(after) != _version(before):
            return self._void(CHANGED, retry=True)
        hashed = self._catching_up
        digest = hashed.digest(self.offset) if hashed is not None else self._digest.digest()
        return Outgoing(
            FileEnd(self._offered.number, self.offset, wire_time(before.st_mtime_ns), digest)
        )

    def _void(self, error: str, *, retry: bool = False) -> Outgoing:
        problem = Problem(self._offered.path, "read", error)
        return Outgoing(Unsent([self._offered.number], [problem], retry))


def _version(status: os.stat_result) -> tuple[int, int, int]:
    """Return what no write leaves as it was: who puts size and time back changes the last."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
