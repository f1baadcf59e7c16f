"""Files put together from matched and sent bytes, staged, cloned and in place."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from netsync.delta.keyed import KeyedDigest
from netsync.transfer.assembling import Assembly
from netsync.transfer.basis import Basis
from netsync.transfer.carrying import CarriedOver
from netsync.tree.output import Output

MIB = 1 << 20
BASIS = random.Random(1).randbytes(5 * MIB + 77)
FRESH = random.Random(2).randbytes(MIB)
SEED = 77
Ops = list[tuple[int, int] | bytes]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "f").write_bytes(BASIS)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def keyed(data: bytes) -> bytes:
    digest = KeyedDigest(SEED)
    digest.update(data)
    return digest.digest()


def no_other() -> Output:
    raise AssertionError("no other output was needed")


def assembled(place: int, ops: Ops, *, inplace: bool) -> tuple[bytes, bytes]:
    """Return the content and the digest of what the operations make of the basis."""
    output = Output.create(place, b"f", inplace=inplace)
    basis = Basis(-1, 0, os.open(b"f", os.O_RDONLY, dir_fd=place))
    assembly = Assembly(output, basis, CarriedOver(SEED, 0, 0), no_other)
    try:
        for op in ops:
            if isinstance(op, bytes):
                assembly.literal(memoryview(op))
            else:
                assembly.copy(*op)
        digest = assembly.digest()
        output.truncate(assembly.position)
        return os.pread(output.fd, 16 * MIB, 0), digest
    finally:
        assembly.close()
        output.discard(place)


def spelled(ops: Ops) -> bytes:
    return b"".join(op if isinstance(op, bytes) else BASIS[op[0] : sum(op)] for op in ops)


SAME: Ops = [(0, len(BASIS))]
EDITS: Ops = [(0, 2 * MIB), FRESH[:4096], (2 * MIB + 4096, 3 * MIB - 4096 + 77)]
FORWARD: Ops = [(17, 3 * MIB), FRESH[:10], (4 * MIB, MIB)]
SHIFTED: Ops = [FRESH[:17], (0, len(BASIS)), FRESH, (5, 9)]
MANY: Ops = [each for at in range(0, 4 * MIB, 9000) for each in ((at, 8990), FRESH[:10])]


@pytest.mark.parametrize("ops", [[], SAME, EDITS, FORWARD, SHIFTED, MANY, [FRESH]])
def test_a_staged_file_is_what_its_operations_spell(place: int, ops: Ops) -> None:
    content, digest = assembled(place, ops, inplace=False)
    assert content == spelled(ops)
    assert digest == keyed(content)


@pytest.mark.parametrize("ops", [[], SAME, EDITS, FORWARD, MANY, [FRESH]])
def test_in_place_reading_stays_ahead_of_writing(place: int, ops: Ops) -> None:
    content, digest = assembled(place, ops, inplace=True)
    assert content == spelled(ops)
    assert digest == keyed(content)


def test_a_basis_that_became_shorter_makes_another_digest(place: int, tmp_path: Path) -> None:
    os.truncate(tmp_path / "f", 3 * MIB)
    _, digest = assembled(place, SAME, inplace=False)
    assert digest != keyed(BASIS)


@pytest.mark.parametrize("start", [0, 2 * MIB])
def test_trouble_while_reading_reaches_the_caller(place: int, tmp_path: Path, start: int) -> None:
    output = Output.create(place, b"f", inplace=False)
    basis = Basis(-1, 0, os.open(tmp_path / "f", os.O_WRONLY))
    assembly = Assembly(output, basis, CarriedOver(SEED, 0, 0), no_other)
    assembly.literal(memoryview(FRESH * 2)[:start])
    assembly.copy(0, 1000)
    try:
        with pytest.raises(OSError, match="descriptor"):
            assembly.digest()
    finally:
        assembly.close()
        assembly.close()
        output.discard(place)


def test_a_helper_that_cannot_be_started_is_not_waited_for(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no more threads are allowed, say."""

    def refused(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refused)
    output = Output.create(place, b"f", inplace=False)
    basis = Basis(-1, 0, os.open(b"f", os.O_RDONLY, dir_fd=place))
    assembly = Assembly(output, basis, CarriedOver(SEED, 0, 0), no_other)
    try:
        with pytest.raises(RuntimeError, match="new thread"):
            assembly.copy(0, 3 * MIB)
    finally:
        assembly.close()
        output.discard(place)
