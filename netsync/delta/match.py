"""Finds the blocks of a basis in a new file, as the new file streams by.

The matcher is in one of two states. *In step*, the last match (at first, the beginning of both
files) says which block should come next, and the strong checksum alone decides: an unchanged
file runs at the speed of the hash. When one block differs, the block after it is tried in its
place before anything is rolled: a page changed in place is by far the most common change, and
what a detour within one lost block could save is not worth its cost. *Searching*, after two
misses in a row, the kernel rolls the weak checksum byte by byte to the next hit, which the
strong checksum must confirm; a confirmed hit brings the matcher back in step, at any shift.

What must hold, for any input and any cutting of it into chunks:

* the operations spell the new file exactly if strong checksums do not lie;
* memory: one fed chunk and three blocks;
* work (bytes hashed or rolled, counted in ``work``) is linear in the input. A match pays for
  its block, for the two blocks read when its successors miss, and for the first window of
  the search that follows. Hits that are not confirmed, or may not be used, are paid from a
  budget that grows with the input; once spent, the matcher skips to where the next block would
  be in step.

It knows no files, frames or kernels by name; matches are claims until a digest confirms them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netsync.delta.kernel import WEAK_SIZE, count_repeated, make_table
from netsync.delta.ops import Copy, Hole, Literal, Op
from netsync.delta.signature import ENTRY_SIZE, Signature, strong_sum

if TYPE_CHECKING:
    from netsync.delta.kernel import Buffer, WeakTable

LITERAL_MAX: Final = 256 << 10
"""Bytes in one literal: four fit in a data frame, and none waits long for its fellows."""

BUDGET: Final = 4
"""Bytes of vain hashing allowed for each byte passed. Chance alone needs one per TiB of basis;
hashing is some 20 times faster than rolling, so four cost a fifth of the search they serve."""

ALLOWANCE: Final = 16
"""Blocks of vain hashing allowed before any byte has passed, so that small files may match."""

GATHER: Final = 3
"""Blocks gathered before work begins. Up to two wait between chunks (in step, a miss needs the
block after it), so each round consumes at least one and no byte is moved more than thrice."""


class Matcher:
    """Turns a stream of new bytes into operations on the signed basis.

    Literals are views of the fed buffers: send or copy them before writing to those again.
    ``matched`` and ``literal`` count the new file's bytes by where they come from, complete
    after ``finish``; ``work`` counts the bytes hashed or rolled.

    With ``forward_only`` a copy refers only to basis bytes at or beyond its own place in the
    new file, so that a file can be rewritten in place from front to back.
    """

    def __init__(
        self, signature: Signature, *, forward_only: bool = False, table: WeakTable | None = None
    ) -> None:
        """Build the lookup table (some 50 ns a block) unless ``table`` brings one."""
        self._size = signature.block_size
        self._seed = signature.seed
        self._entries = signature.entries
        self._full = signature.full_blocks
        self._short = signature.short_length
        self._forward_only = forward_only
        if table is None:
            full = memoryview(signature.entries)[: self._full * ENTRY_SIZE]
            table = make_table(full, ENTRY_SIZE)
        self._table = table
        self.matched = 0
        self.literal = 0
        self.work = 0
        self._wasted = 0
        self._skipped = 0
        self._carry = bytearray()
        self._view = memoryview(b"")
        self._base = 0  # place in the new file of the view's first byte
        self._at = 0  # index in the view of the first byte not decided yet
        self._unsent = 0  # index in the view of the first literal byte not emitted yet
        self._shift = 0  # basis offset minus place in the new file, of the last match
        self._in_step = True
        self._state: int | None = None  # of the window before ``_at``, when it was just rolled
        self._copy = Copy(0, 0)  # the last match, kept back because it may grow
        self._ops: list[Op] = []

    def feed(self, data: Buffer) -> list[Op]:
        """Take the next bytes of the new file; return the operations now known."""
        view = memoryview(data).cast("B")
        if self._carry or len(view) < GATHER * self._size:
            self._carry += view
            if len(self._carry) < GATHER * self._size:
                return []
            self._view = memoryview(self._carry)
        else:
            self._view = view
        self._run(final=False)
        self._emit_literal(self._at)
        # A search resumes by rolling out the byte before its next window: keep that byte.
        kept = self._at - (self._state is not None)
        self._carry = bytearray(self._view[kept:])
        self._view = memoryview(b"")
        self._base += kept
        self._at -= kept
        self._unsent = self._at
        return self._taken()

    def skip(self, length: int) -> list[Op]:
        """Leave ``length`` bytes out, a hole; return the operations up to behind it.

        What comes next is taken to be in step.
        """
        self._decide_carried()
        self._ops.append(Hole(length))
        self._base += len(self._view) + length
        self._skipped += length
        self._view, self._carry = memoryview(b""), bytearray()
        self._at = self._unsent = 0
        self._state = None
        self._in_step = not (self._base + self._shift) % self._size
        return self._taken()

    def finish(self) -> list[Op]:
        """Return the last operations. Call once, after the last ``feed``."""
        self._decide_carried(last=True)
        return self._taken()

    def _decide_carried(self, *, last: bool = False) -> None:
        """Decide all bytes that wait for more; ``last`` if the file ends with them."""
        self._view = memoryview(self._carry)
        self._run(final=True)
        if last:
            self._match_short_block()
        self._emit_literal(len(self._view))
        self._emit_copy()

    def _run(self, *, final: bool) -> None:
        more = True
        while more:
            more = self._follow(final=final) if self._in_step else self._search()

    def _follow(self, *, final: bool) -> bool:
        """Match in step until two misses in a row; return False when bytes are lacking."""
        size, start = self._size, self._at
        block = (self._base + start + self._shift) // size
        run = self._confirmed(block, start)
        while True:
            if run:
                self._match(start, block * size, run * size)
                block += run
            if block >= self._full:
                break
            left = len(self._view) - self._at
            if left < size or (left < 2 * size and not final):
                return False
            # This block differs: is the next one in its place?
            start, block = self._at + size, block + 1
            run = self._confirmed(block, start)
            if not run:
                break
        self._in_step = False
        return True

    def _search(self) -> bool:
        """Roll to the next hit and weigh it; return False when bytes are lacking."""
        size, start, last = self._size, self._at, len(self._view) - self._size
        if start > last:
            return False
        resumed = self._state is not None
        hit, state = self._table.find(self._view, start, last, size, self._state)
        self._at = last + 1 if hit < 0 else hit
        self._state = state
        if state is not None:
            self.work += self._at - start + (0 if resumed else size)
        if hit < 0 or state is None:
            return False
        block = self._choose(hit, state)
        if block >= 0:
            self._shift = block * size - (self._base + hit)
            self._step()
            self._match(hit, block * size, size)
        elif self._wasted <= BUDGET * (self._base + hit - self._skipped) + ALLOWANCE * size:
            self._at = hit + 1
        else:
            # From here to the next place in step: at least one byte, at most a block.
            self._at = hit + size - (self._base + hit + self._shift) % size
            self._step()
        return True

    def _step(self) -> None:
        self._in_step = True
        self._state = None

    def _choose(self, at: int, state: int) -> int:
        """Return the block to copy for the window at ``at``, -1 for none, and pay for looking.

        Among equal blocks the one in step with the last match wins, then the one in the same
        place in both files, then the first: the choice that most likely grows.
        """
        place = self._base + at
        first = -(-place // self._size) if self._forward_only else 0
        candidates = self._table.candidates(state, first)
        if not candidates:
            self._wasted += self._size
            return -1
        strong = strong_sum(self._view[at : at + self._size], self._seed)
        self.work += self._size
        for offset in (place + self._shift, place):
            block, odd = divmod(offset, self._size)
            if not odd and first <= block < self._full and self._is(block, strong):
                return block
        for block in candidates:
            if self._is(block, strong):
                return block
        self._wasted += self._size
        return -1

    def _confirmed(self, block: int, at: int) -> int:
        """Count the basis blocks, from ``block`` on, that the view repeats from ``at`` on.

        All that an unchanged file costs is this.
        """
        size = self._size
        most = min(self._full - block, (len(self._view) - at) // size)
        if most <= 0:
            return 0
        blocks = self._view[at : at + most * size]
        place = block * ENTRY_SIZE + WEAK_SIZE
        count = count_repeated(blocks, size, self._seed, self._entries, place, ENTRY_SIZE)
        self.work += size * (count + (count < most))
        return count

    def _is(self, block: int, strong: bytes) -> bool:
        return self._entries.startswith(strong, block * ENTRY_SIZE + WEAK_SIZE)

    def _match_short_block(self) -> None:
        """Match the basis's short last block where alone it can be: at the new file's end."""
        at, offset = len(self._view) - self._short, self._full * self._size
        if not self._short or at < self._unsent:
            return
        if self._forward_only and offset < self._base + at:
            return
        self.work += self._short
        if self._is(self._full, strong_sum(self._view[at:], self._seed)):
            self._match(at, offset, self._short)

    def _match(self, at: int, offset: int, length: int) -> None:
        """Record that the view's bytes from ``at`` are the basis's from ``offset``."""
        self._emit_literal(at)
        if self._copy.offset + self._copy.length == offset and self._copy.length:
            self._copy = Copy(self._copy.offset, self._copy.length + length)
        else:
            self._emit_copy()
            self._copy = Copy(offset, length)
        self.matched += length
        self._at = self._unsent = at + length

    def _emit_copy(self) -> None:
        if self._copy.length:
            self._ops.append(self._copy)
            self._copy = Copy(0, 0)

    def _emit_literal(self, end: int) -> None:
        """Emit the literal bytes up to ``end``, after the copy that they put an end to."""
        if end <= self._unsent:
            return
        self._emit_copy()
        for start in range(self._unsent, end, LITERAL_MAX):
            self._ops.append(Literal(self._view[start : min(end, start + LITERAL_MAX)]))
        self.literal += end - self._unsent
        self._unsent = end

    def _taken(self) -> list[Op]:
        ops, self._ops = self._ops, []
        return ops
