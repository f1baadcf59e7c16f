"""Signing a basis: what the target has of a file, as checksums the source can match against.

The seed of the strong checksums is fresh and secret for each file, so nobody can prepare two
blocks that pass for each other. A large basis is signed coarsely, and again finely where the
source asks for it. Once a signature is announced all of it is sent: what cannot be read any more
is signed as zeros, and the digest of the result decides. Runs in worker threads, one frame a hop.
"""

from __future__ import annotations

import functools
import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

from netsync.delta.holes import Holes
from netsync.delta.levels import TWO_LEVELS_FROM, Layout, fine_entries, layout_for
from netsync.delta.signature import SIGNATURE_MAX, block_size_for, entries_size, sign
from netsync.errors import ProtocolError
from netsync.model import Options
from netsync.transfer.basis import Basis, open_basis
from netsync.transfer.carrying import CarriedOver
from netsync.transfer.outgoing import Outgoing
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.read import PageBuffer
from netsync.wire.fine import FineSignature, WantFine
from netsync.wire.messages import Signature, WantDelta

FRAME_BYTES: Final = 32 * 1024 * 1024
"""Basis bytes signed in one hop, and bytes that the source is behind: ten milliseconds. A frame for
each 8 MiB costs both ends a tenth more."""
FRAME_BLOCKS: Final = 2048
"""Blocks signed in one hop: 24 KiB of entries."""
_READ_BYTES: Final = 1024 * 1024
"""Bytes read and signed at a time: they stay in a processor's second-level cache between reading
and summing."""
_HOLE_ENTRIES: Final = 4096
"""Blocks of a hole signed in one hop: 48 KiB of entries."""
_NO_HOLES: Final = Holes()
FINE_ENTRIES: Final = 80 * 1024
"""Fine entries the source may ask for at once."""
FINE_QUESTIONS: Final = 16
"""Questions for fine entries that may wait."""
_Read = Callable[[int, int], memoryview]
"""Returns so many bytes of a basis from an offset on, valid until the next call."""


class Signer:
    """Signs bases below the root of ``directories`` and answers questions about them."""

    def __init__(self, directories: Directories, options: Options) -> None:
        self._directories = directories
        self._options = options
        self._begun: dict[int, tuple[Wanted, WantDelta]] = {}
        self._questions: deque[WantFine] = deque()
        self._buffer = PageBuffer(_READ_BYTES)

    @property
    def asked(self) -> bool:
        """Tell whether a question waits to be answered."""
        return bool(self._questions)

    @property
    def has_begun(self) -> bool:
        """Tell whether there is anything to forget."""
        return bool(self._begun)

    def forget(self, number: int) -> None:
        """Nothing more will be asked about this file."""
        if number in self._begun and all(each.number != number for each in self._questions):
            del self._begun[number]

    def ask(self, question: WantFine) -> None:
        """Take a question. Raises ``ProtocolError`` for one that may not be asked."""
        number, ranges = question.number, question.ranges
        if number not in self._begun or not self._begun[number][1].fine_size:
            raise ProtocolError(f"fine blocks of file {number}, which has none", op="receive")
        want = self._begun[number][1]
        blocks = entries_size(want.basis_size, want.block_size) // entries_size(1, want.block_size)
        behind = asked = 0
        for first, count in zip(ranges[::2], ranges[1::2], strict=False):
            if first < behind or not count or first + count > blocks:
                raise ProtocolError("fine blocks outside the basis", op="receive")
            behind = first + count
            asked += fine_entries(want.basis_size, _layout(want), first, count)
        if len(ranges) % 2 or asked > FINE_ENTRIES or len(self._questions) >= FINE_QUESTIONS:
            raise ProtocolError("too many fine blocks at once", op="receive")
        self._questions.append(question)

    def frames(self, wanted: Wanted) -> Generator[Outgoing, None, None]:
        """Yield ``WantDelta`` and the ``Signature`` frames for ``wanted``.

        Sets ``wanted.basis_size`` and ``wanted.carried`` before the first frame. Raises ``OSError``
        before it, if at all.
        """
        basis = open_basis(self._directories, wanted)
        try:
            size = basis.size
            layout = self._choose(basis)
            seed = secrets.randbits(63)  # what fits a signed integer on the wire
            carried = wanted.carried = CarriedOver(seed, size, wanted.entry.size)
            wanted.basis_size = size
            want = WantDelta(
                wanted.number, size, layout.block, seed, self._options.inplace, layout.fine
            )
            self._begun[wanted.number] = wanted, want
            yield Outgoing(want)
            holes = basis.find_holes()
            read = functools.partial(self._read, basis, carried)
            for start, end in _frames(size, holes, layout.block):
                entries = self._sign(read, (start, end), layout.block, seed, holes)
                yield Outgoing(Signature(wanted.number), entries)
        finally:
            basis.close()

    def answers(self) -> Iterator[Outgoing]:
        """Yield the ``FineSignature`` frames that answer the oldest question."""
        question = self._questions.popleft()
        wanted, want = self._begun[question.number]
        try:
            basis = open_basis(self._directories, wanted)
        except OSError:  # gone: signed as zeros, see above
            basis = Basis(-1, 0, -1)
        entries: list[bytes] = []
        signed = 0
        read = functools.partial(self._read, basis, None)
        try:
            for start, end in _parts(question.ranges, want):
                entries += self._sign(read, (start, end), want.fine_size, want.seed)
                signed += end - start
                if signed >= _frame_bytes(want.fine_size):
                    yield Outgoing(FineSignature(question.number), entries)
                    entries, signed = [], 0
            if entries:
                yield Outgoing(FineSignature(question.number), entries)
        finally:
            basis.close()

    def _choose(self, basis: Basis) -> Layout:
        """Return the block sizes for a basis; one with a partial, which may go, has one level."""
        size = basis.size
        if asked := self._options.block_size:
            fits = entries_size(size, asked) <= SIGNATURE_MAX
            return Layout(asked if fits else block_size_for(size), 0)
        if basis.block_size:
            return Layout(max(basis.block_size, block_size_for(size)), 0)
        if size >= TWO_LEVELS_FROM and not basis.seam:
            return layout_for(size)
        return Layout(block_size_for(size), 0)

    def _sign(
        self, read: _Read, part: tuple[int, int], block: int, seed: int, holes: Holes = _NO_HOLES
    ) -> list[bytes]:
        """Return the entries of a part of the basis, which is not read where it has holes."""
        start, end = part
        step = max(block, _READ_BYTES)
        entries: list[bytes] = []
        while start < end:
            blocks = min(holes.left_of(start), end - start) // block
            if blocks:
                entries.append(sign(bytes(block), block, seed) * blocks)
                start += blocks * block
                continue
            view = read(start, min(step, end - start))
            entries.append(sign(view, block, seed))
            start += len(view)
        return entries

    def _read(
        self, basis: Basis, carried: CarriedOver | None, offset: int, count: int
    ) -> memoryview:
        """Return bytes of the basis, zeros where it has none; carry over what it has."""
        kept = carried.room(offset, count) if carried is not None else None
        view = kept if kept is not None else self._buffer.room(offset, count)
        got = _read_or_zero(basis, view, offset)
        if carried is not None and kept is not None:
            carried.take(kept[:got], offset)
        return view


def _layout(want: WantDelta) -> Layout:
    return Layout(want.block_size, want.fine_size)


def _frame_bytes(block: int) -> int:
    """Return how many bytes of a basis to sign in one hop: whole blocks, at least one."""
    return max(block, min(FRAME_BYTES, FRAME_BLOCKS * block) // block * block)


def _frames(size: int, holes: Holes, block: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a basis whose signatures fill a frame each: holes are soon signed."""
    step = _frame_bytes(block)
    most = _HOLE_ENTRIES * block
    start = 0
    while start < size:
        hole = min(holes.left_of(start), most) // block * block
        end = min(size, start + max(step, hole))
        yield start, end
        start = end


def _parts(ranges: Sequence[int], want: WantDelta) -> Iterator[tuple[int, int]]:
    """Yield what runs of coarse blocks are in bytes, in parts for a frame or of one block."""
    block = want.block_size
    step = max(1, _frame_bytes(want.fine_size) // block)
    for first, count in zip(ranges[::2], ranges[1::2], strict=True):
        for number in range(first, first + count, step):
            end = min(number + step, first + count) * block
            yield number * block, min(want.basis_size, end)


def _read_or_zero(basis: Basis, view: memoryview, offset: int) -> int:
    """Fill ``view`` from the basis, then with zeros; return how much there was to read."""
    try:
        got = basis.read_into(view, offset)
    except OSError:
        got = 0
    view[got:] = bytes(len(view) - got)
    return got
