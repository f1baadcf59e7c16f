"""The source's delta of a large file, matched at two levels while its signature arrives.

Three things go on at once. The target signs the basis; the scanner follows behind through the new
file; and each window of it that is scanned has its fine signature asked for, is refined when that
has arrived, and goes out. ``_AHEAD`` windows may wait for their fine signatures, so that neither
end stands still for a round trip. Everything is sent in order, and nothing is sent twice.

``Arriving`` is what the receiving task and the worker thread share: the one appends, the other
takes. A hop ends with a frame to send, with ``Pause.SIGNATURE`` when only the target can help, or
with ``Pause.BREATH`` after a while of scanning.
"""

from __future__ import annotations

import enum
import functools
from collections import deque
from collections.abc import Iterator
from typing import Final

import trio

from netsync.delta.coarse import Scanner
from netsync.delta.digest import Hasher, OpDigest
from netsync.delta.fine import Refiner, Window
from netsync.delta.holes import Cutter
from netsync.delta.keyed import KeyedDigest
from netsync.delta.levels import Basis, Layout, check_layout, fine_entries
from netsync.delta.ops import Copy, Hole, Literal, Op
from netsync.delta.search import Budget
from netsync.delta.signature import ENTRY_SIZE, entries_size
from netsync.errors import ProtocolError, reason
from netsync.transfer.offers import Offered
from netsync.transfer.outgoing import CHANGED, LargeFile, Opened, Outgoing, ShrunkError
from netsync.transfer.reading import Reader
from netsync.transfer.tally import Observer
from netsync.tree.read import PageBuffer, fill
from netsync.tree.threads import in_thread
from netsync.wire.fine import FineSignature, WantFine
from netsync.wire.frames import TAIL_MAX
from netsync.wire.messages import FileEnd, Signature, Unsent, WantDelta

_AHEAD: Final = 3
"""Windows whose fine signatures may be under way: 2.5 MiB of entries at most."""
_FIRST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the first window: the sooner the target hears of a match, the more of what it signs is
carried over (``carrying.py``) and need not be read again."""
_AHEAD_BYTES: Final = 512 * 1024
"""Bytes read and hashed at a time for the scanner, whose blocks are smaller: fewer calls, and all
of it stays in a processor's second-level cache until it was looked at."""
_BREATH_BYTES: Final = 64 * 1024 * 1024
"""Bytes scanned in one hop: some hundredths of a second, after which progress shows."""


class Pause(enum.Enum):
    """Why a hop ended without a frame."""

    SIGNATURE = enum.auto()
    BREATH = enum.auto()


class Arriving:
    """A two-level signature while it arrives. Raises ``ProtocolError`` for what cannot be.

    ``held`` counts the bytes of coarse entries that the file holds, until it ``is_served``. What
    arrives after that was under way, and is only counted: ``is_over`` when nothing more can come.
    """

    def __init__(self, want: WantDelta, offered: Offered) -> None:
        self.want = want
        self.offered = offered
        self.held = 0
        self.is_served = False
        self._layout = Layout(want.block_size, want.fine_size)
        try:
            self._missing = entries_size(want.basis_size, want.block_size)
            check_layout(want.basis_size, self._layout)
        except ValueError as error:
            raise ProtocolError(f"a signature is malformed: {error}", op="receive") from error
        self._fine_missing = 0
        self._came = trio.Event()
        self.coarse: deque[bytes] = deque()
        self.fine: deque[bytes] = deque()

    def add(self, message: Signature | FineSignature, entries: memoryview) -> int:
        """Take the next entries; return how many bytes more are held until the file is served."""
        fine = isinstance(message, FineSignature)
        if fine:
            self._fine_missing -= len(entries)
        else:
            self._missing -= len(entries)
        if min(self._missing, self._fine_missing) < 0 or len(entries) % ENTRY_SIZE:
            raise ProtocolError("a signature is longer than its file", op="receive")
        if self.is_served:
            return 0
        (self.fine if fine else self.coarse).append(bytes(entries))
        self._came.set()
        if fine:  # bounded by the questions
            return 0
        self.held += len(entries)
        return len(entries)

    def ask(self, ranges: list[tuple[int, int]]) -> tuple[WantFine, int]:
        """Return the question for these runs of coarse blocks, and the bytes of its answer."""
        want, layout = self.want, self._layout
        count = sum(fine_entries(want.basis_size, layout, *each) for each in ranges)
        self._fine_missing += count * ENTRY_SIZE
        return WantFine(want.number, [n for each in ranges for n in each]), count * ENTRY_SIZE

    @property
    def is_over(self) -> bool:
        """Tell whether all has come and nothing of it is used any more."""
        return self.is_served and not self._missing and not self._fine_missing

    async def news(self) -> None:
        """Return when entries have come that nobody took yet."""
        while not self.coarse and not self.fine:
            self._came = trio.Event()
            await self._came.wait()


class _Scanned:
    """A window that waits for its fine entries."""

    def __init__(self, window: Window, missing: int) -> None:
        self.window = window
        self.missing = missing
        self.entries = bytearray()


class MatchedFile(LargeFile):
    """One large file on its way as a two-level delta: take ``steps()``, then ``close``."""

    def __init__(self, opened: Opened, arriving: Arriving) -> None:
        # Whole files are asked for the last time.
        super().__init__(arriving.offered, opened, None, take_changed=False)
        want = arriving.want
        self._arriving = arriving
        self._size = self._before.st_size
        layout = Layout(want.block_size, want.fine_size)
        self._basis = Basis(want.basis_size, layout, want.seed, want.forward_only)
        self.budget = Budget()
        self._digest: OpDigest[Hasher] = OpDigest(functools.partial(KeyedDigest, want.seed))
        self._hashed = 0
        self._cutter = Cutter(self._holes)
        self._scan_buffer = PageBuffer(_AHEAD_BYTES)
        self._ahead, self._ahead_at = memoryview(b""), 0
        self._gap_buffer = PageBuffer()
        self._scanner = Scanner(self._scan, self._size, self._basis, self.budget, self._holes)

    def steps(self) -> Iterator[Outgoing | Pause]:
        """Yield the frames of this file, and pauses."""
        try:
            yield from self._matched()
        except ShrunkError:
            yield self._void(CHANGED, retry=True)
        except OSError as error:
            yield self._void(reason(error))
        else:
            self._hash(memoryview(b""), self._size)  # it may end with a hole
            self.offset = self._size
            yield self._last()

    def _matched(self) -> Iterator[Outgoing | Pause]:
        spans = self._scanner.spans()
        waiting: deque[_Scanned] = deque()
        window, breath, more = Window(self._basis, _FIRST_BYTES), _BREATH_BYTES, True
        while more or waiting:
            self._absorb(waiting)
            if waiting and not waiting[0].missing:
                yield from self._refined(waiting.popleft())
                continue
            if not more or len(waiting) >= _AHEAD:
                yield Pause.SIGNATURE
                continue
            span = next(spans, _END)
            if span is None:
                yield Pause.SIGNATURE
                continue
            more = not isinstance(span, _End)
            if not isinstance(span, _End):
                window.add(span)
                self.offset = self._scanner.at
            if window.is_full or not more:
                yield from self._asked(window, waiting)
                window = Window(self._basis)
            if self._scanner.at >= breath:
                breath = self._scanner.at + _BREATH_BYTES
                yield Pause.BREATH

    def _asked(self, window: Window, waiting: deque[_Scanned]) -> Iterator[Outgoing]:
        missing = 0
        if ranges := window.wanted():
            question, missing = self._arriving.ask(ranges)
            yield Outgoing(question)
        waiting.append(_Scanned(window, missing))

    def _absorb(self, waiting: deque[_Scanned]) -> None:
        """Take what has arrived; fine entries come in the order of the questions."""
        arriving = self._arriving
        while arriving.coarse:
            self._scanner.extend(arriving.coarse.popleft())
        while arriving.fine:
            entries = arriving.fine.popleft()
            scanned = next(each for each in waiting if each.missing)
            if len(entries) > scanned.missing:
                raise ProtocolError("an answer is longer than its question", op="receive")
            scanned.entries += entries
            scanned.missing -= len(entries)

    def _refined(self, scanned: _Scanned) -> Iterator[Outgoing | Pause]:
        refiner = Refiner(
            self._read_gap, lambda: self._scanner.whole, scanned.window, scanned.entries,
            self._basis, self.budget,
        )  # fmt: skip
        ops: list[Op] = []
        literal = 0
        for op in refiner.ops(self._size):
            if op is None:
                yield Pause.SIGNATURE
                while self._arriving.coarse:
                    self._scanner.extend(self._arriving.coarse.popleft())
                continue
            for part in self._cutter.cut((op,)):
                _append(ops, part)
                literal += len(part.data) if isinstance(part, Literal) else 0
            if literal >= TAIL_MAX:
                yield from self._pieces(ops)
                ops, literal = [], 0
        yield from self._pieces(ops)

    def _scan(self, at: int, count: int) -> memoryview:
        """Return ``count`` bytes for the scanner, and what was read ahead behind them.

        What is read for the first time is hashed.
        """
        start = at - self._ahead_at
        if start < 0 or start + count > len(self._ahead):
            start, self._ahead_at = 0, at
            self._ahead = self._scan_buffer.room(at, max(count, min(_AHEAD_BYTES, self._size - at)))
            self._read_into(self._ahead, at)
            self._hash(self._ahead, at)
        return self._ahead[start:]

    def _hash(self, view: memoryview, at: int) -> None:
        """Hash what ``view`` shows from ``at`` on for the first time, and the holes before it."""
        end = at + len(view)
        for extent in self._holes.extents(self._hashed, end):
            if extent.is_hole:
                self._digest.skip(extent.end - extent.start)
            else:
                self._digest.update(view[extent.start - at : extent.end - at])
        self._hashed = max(self._hashed, end)

    def _read_gap(self, at: int, count: int) -> memoryview:
        view = self._gap_buffer.room(at, count)
        self._read_into(view, at)
        return view

    def _read_into(self, view: memoryview, at: int) -> None:
        if fill(self._fd, view, at) < len(view):
            raise ShrunkError


class _End:
    pass


_END: Final = _End()


def _append(ops: list[Op], op: Op) -> None:
    """Append ``op``, to the last one if that goes on where it ends."""
    last = ops[-1] if ops else None
    if isinstance(op, Copy) and isinstance(last, Copy) and last.offset + last.length == op.offset:
        ops[-1] = Copy(last.offset, last.length + op.length)
    elif isinstance(op, Hole) and isinstance(last, Hole):
        ops[-1] = Hole(last.length + op.length)
    else:
        ops.append(op)


def next_step(steps: Iterator[Outgoing | Pause]) -> Outgoing | Pause | None:
    """Return the next step, or None at the end: work for a worker thread."""
    return next(steps, None)


def _open(reader: Reader, arriving: Arriving) -> MatchedFile:
    return MatchedFile(reader.open(arriving.offered), arriving)


async def send_matched(
    reader: Reader,
    arriving: Arriving,
    send: trio.MemorySendChannel[Outgoing],
    observer: Observer,
) -> None:
    """Send one file as a two-level delta. Raises ``ReadError`` when it cannot be opened."""
    file = await in_thread(_open, reader, arriving)
    try:
        steps = file.steps()
        while (step := await in_thread(next_step, steps)) is not None:
            if isinstance(step, Outgoing):
                # Before the target can have heard of it, and ask again.
                arriving.is_served = isinstance(step.message, FileEnd | Unsent)
                await send.send(step)
            elif step is Pause.SIGNATURE:
                await arriving.news()
            observer.under_way(file.offset)
    finally:
        file.close()
        observer.under_way(0)
