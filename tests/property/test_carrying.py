"""What is carried over while a basis is signed never shows, however the two threads take turns."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.delta.kernel import UNIT
from netsync.delta.keyed import KeyedDigest
from netsync.delta.ops import Copy, Hole, Literal, Op, patch
from netsync.transfer import carrying
from netsync.transfer.assembling import Assembly
from netsync.transfer.basis import Basis
from netsync.transfer.carrying import CarriedOver
from netsync.tree.output import Output

SEED = 5
BASIS = random.Random(1).randbytes(30 * UNIT + 77)
FRESH = random.Random(2).randbytes(3 * UNIT)

unhurried = settings(deadline=None, derandomize=True, max_examples=100)


class Signed(NamedTuple):
    """So many bytes of the basis are read and signed."""

    length: int


Step = Op | Signed


@pytest.fixture(autouse=True, scope="module")
def small_measures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(carrying, "_ENOUGH", UNIT)
        patched.setattr(carrying, "_RESERVE", UNIT)
        patched.setattr(carrying, "_AHEAD", 9 * UNIT)
        yield


KINDS = [*["sign"] * 3, *["match"] * 5, "move", "fresh", "hole"]


def lengths(units: int) -> st.SearchStrategy[int]:
    return st.integers(1, units).map(lambda n: n * UNIT) | st.integers(1, units * UNIT)


@st.composite
def steps(draw: st.DrawFn, *, forward_only: bool) -> list[Step]:
    """Draw operations, most of them at the shift of the one before, and signing ahead of them."""
    drawn: list[Step] = []
    position = shift = 0
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=4, max_size=16)):
        length = draw(lengths(2))
        if kind == "sign":
            drawn.append(Signed(draw(lengths(8))))
            continue
        if kind == "move":
            shift = draw(st.sampled_from([0, 17, -UNIT, UNIT, -5]))
        if kind in ("match", "move"):
            offset = max(0, position - shift)
            length = min(length, len(BASIS) - offset)
            if length <= 0 or (forward_only and offset < position):
                continue
            drawn.append(Copy(offset, length))
        elif kind == "fresh":
            length = min(length, len(FRESH))
            drawn.append(Literal(FRESH[:length]))
        else:
            drawn.append(Hole(length))
        position += length
    return drawn


def carried_out(sequence: list[Step], *, inplace: bool) -> tuple[bytes, bytes, CarriedOver]:
    """Return the content and the digest of what comes of it."""
    ops = [step for step in sequence if not isinstance(step, Signed)]
    with tempfile.TemporaryDirectory() as name:
        place = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        fd = os.open(b"f", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=place)
        os.write(fd, BASIS)
        os.close(fd)
        output = Output.create(place, b"f", inplace=inplace)
        read = os.open(b"f", os.O_RDONLY, dir_fd=place)
        carried = CarriedOver(SEED, len(BASIS), len(patch(BASIS, ops)))
        assembly = Assembly(output, Basis(-1, 0, os.dup(read)), carried, lambda: output)
        try:
            signed = 0
            for step in sequence:
                if isinstance(step, Signed):
                    carried.take(memoryview(os.pread(read, step.length, signed)), signed)
                    signed += step.length
                elif isinstance(step, Copy):
                    assembly.copy(*step)
                elif isinstance(step, Literal):
                    assembly.literal(memoryview(step.data))
                else:
                    assembly.hole(step.length)
            digest = assembly.digest()
            carried.take(memoryview(b"too late"), 0)
            output.truncate(assembly.position)
            return os.pread(output.fd, 1 << 20, 0), digest, carried
        finally:
            assembly.close()
            output.discard(place)
            os.close(read)
            os.close(place)


def digest_of(ops: list[Op]) -> bytes:
    """Return the digest without holes; with some it is another one, which is not told here."""
    digest = KeyedDigest(SEED)
    digest.update(patch(BASIS, ops))
    return digest.digest()


@given(st.data(), st.booleans())
@unhurried
def test_the_file_and_its_digest_are_what_the_operations_spell(
    data: st.DataObject, inplace: bool
) -> None:
    sequence = data.draw(steps(forward_only=inplace))
    ops = [step for step in sequence if not isinstance(step, Signed)]
    content, digest, _ = carried_out(sequence, inplace=inplace)
    assert content == patch(BASIS, ops)
    plain = carried_out(list(ops), inplace=inplace)[1]
    assert digest == plain
    if not any(isinstance(op, Hole) for op in ops):
        assert digest == digest_of(ops)


@given(steps(forward_only=False))
@unhurried
def test_what_is_carried_in_vain_is_bounded(sequence: list[Step]) -> None:
    carried = carried_out(sequence, inplace=False)[2]
    matched = sum(step.length for step in sequence if isinstance(step, Copy))
    chunk = 8 * UNIT  # the last may go beyond the bound
    assert carried.vain <= matched + 9 * UNIT + chunk + 2 * UNIT
    assert carried.used <= matched
