"""patch(match(sign(basis), new)) == new, whatever the edits, the chunks and the kernel."""

from __future__ import annotations

import importlib
import os
import random
from itertools import pairwise
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.choice import VARIABLE
from netsync.delta import pure
from netsync.delta.kernel import Kernel
from netsync.delta.match import Matcher
from netsync.delta.ops import LITERAL, Copy, Hole, Literal, Op, pack, patch, unpack
from netsync.delta.signature import ENTRY_SIZE, Signature, sign

B = 512
SEED = 99

unhurried = settings(deadline=None, derandomize=True)
"""The same examples in every run, and no clock: a busy machine is no failure."""

other = cast(
    "Kernel",
    pure
    if os.environ.get(VARIABLE) == "pure"
    else importlib.import_module("netsync.delta._kernel"),
)


@st.composite
def bases(draw: st.DrawFn) -> bytes:
    """Draw random, repeated and empty stretches of up to eight blocks in all."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        length = draw(st.integers(1, 5 * B // 2))
        kind = draw(st.sampled_from(["random", "zeros", "period", "few letters"]))
        chance = random.Random(draw(st.integers(0, 9)))
        if kind == "random":
            parts.append(chance.randbytes(length))
        elif kind == "zeros":
            parts.append(bytes(length))
        elif kind == "period":
            pattern = chance.randbytes(draw(st.sampled_from([1, 2, 3, B - 1, B, B + 1])))
            parts.append((pattern * (length // len(pattern) + 1))[:length])
        else:
            parts.append(bytes(chance.choices(b"ab", k=length)))
    return b"".join(parts)


@st.composite
def edits(draw: st.DrawFn, basis: bytes) -> bytes:
    """Draw an edited copy: insertions, deletions, overwriting, moves and repetitions."""
    new = basis
    for _ in range(draw(st.integers(0, 4))):
        begin, end = sorted(draw(st.tuples(*[st.integers(0, len(new))] * 2)))
        part = new[begin:end]
        fresh = draw(st.binary(max_size=20)) * draw(st.sampled_from([1, 1, 40]))
        at = draw(st.integers(0, len(new)))
        edit = draw(st.sampled_from(["insert", "delete", "overwrite", "move", "repeat"]))
        if edit == "insert":
            new = new[:at] + fresh + new[at:]
        elif edit == "delete":
            new = new[:begin] + new[end:]
        elif edit == "overwrite":
            new = new[:at] + fresh + new[at + len(fresh) :]
        elif edit == "move":
            rest = new[:begin] + new[end:]
            new = rest[:at] + part + rest[at:]
        else:
            new = (new[:end] + part + new[end:])[: 16 * B]
    return new


@st.composite
def cases(draw: st.DrawFn) -> tuple[bytes, bytes, list[bytes]]:
    """Draw a basis, a new file made from it, and that file in chunks of any size."""
    basis = draw(bases())
    new = draw(edits(basis))
    cuts = sorted(draw(st.lists(st.integers(0, len(new)), max_size=6)))
    ends = [*cuts, len(new)]
    return basis, new, [new[a:b] for a, b in zip([0, *cuts], ends, strict=True)]


def match(
    basis: bytes, chunks: list[bytes], kernel: Kernel, *, forward_only: bool = False
) -> list[Op]:
    signature = Signature(len(basis), B, SEED, sign(basis, B, SEED))
    full = signature.entries[: signature.full_blocks * ENTRY_SIZE]
    matcher = Matcher(
        signature, forward_only=forward_only, table=kernel.WeakTable(full, ENTRY_SIZE)
    )
    ops: list[Op] = []
    for chunk in chunks:
        ops += matcher.feed(chunk)
    return ops + matcher.finish()


def plain(ops: list[Op]) -> list[Copy | Hole | bytes]:
    return [bytes(op.data) if isinstance(op, Literal) else op for op in ops]


@unhurried
@given(cases())
def test_patching_the_basis_with_the_match_gives_the_new_bytes(
    case: tuple[bytes, bytes, list[bytes]],
) -> None:
    basis, new, chunks = case
    assert patch(basis, match(basis, chunks, other)) == new


@unhurried
@given(cases(), st.booleans())
def test_both_kernels_give_the_same_operations(
    case: tuple[bytes, bytes, list[bytes]], forward_only: bool
) -> None:
    basis, _, chunks = case
    reference = match(basis, chunks, cast("Kernel", pure), forward_only=forward_only)
    assert plain(match(basis, chunks, other, forward_only=forward_only)) == plain(reference)


@unhurried
@given(cases())
def test_forward_only_can_be_applied_in_place(case: tuple[bytes, bytes, list[bytes]]) -> None:
    basis, new, chunks = case
    file, at = bytearray(basis), 0
    for op in match(basis, chunks, other, forward_only=True):
        if isinstance(op, Copy):
            assert op.offset >= at
            part = bytes(file[op.offset : op.offset + op.length])
        else:
            assert isinstance(op, Literal)
            part = bytes(op.data)
        file[at : at + len(part)] = part
        at += len(part)
    assert bytes(file[:at]) == new


@unhurried
@given(cases())
def test_operations_survive_the_wire(case: tuple[bytes, bytes, list[bytes]]) -> None:
    basis, new, chunks = case
    numbers, buffers = pack(match(basis, chunks, other))
    tail = b"".join(buffers)
    rebuilt, used = b"", 0
    for offset, length in unpack(numbers, len(tail), basis_size=len(basis), room=len(new)):
        if offset == LITERAL:
            rebuilt += tail[used : used + length]
            used += length
        else:
            rebuilt += basis[offset : offset + length]
    assert rebuilt == new


@unhurried
@given(cases())
def test_neighbouring_copies_that_continue_each_other_are_one(
    case: tuple[bytes, bytes, list[bytes]],
) -> None:
    basis, _, chunks = case
    ops = match(basis, chunks, other)
    for one, two in pairwise(ops):
        if isinstance(one, Copy) and isinstance(two, Copy):
            assert one.offset + one.length != two.offset
