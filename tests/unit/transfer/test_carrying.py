"""What of a basis is carried over while it is signed: how much, and where two threads meet."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from netsync.delta.keyed import KeyedDigest
from netsync.transfer import carrying
from netsync.transfer.assembling import Assembly
from netsync.transfer.basis import Basis
from netsync.transfer.carrying import CarriedOver
from netsync.tree.output import Output

MIB = 1 << 20
BASIS = random.Random(1).randbytes(6 * MIB + 77)
SEED = 7
REST = 256 * 1024 + 2 * 4096
"""Bytes at the end that are never carried, and units at both ends that are not whole."""


def nothing(position: int) -> None:
    """What is done before a write, unless a test says otherwise."""


class Watched(Output):
    """An output that counts what is written, and does something before."""

    written: int = 0
    before: Callable[[int], None] = nothing

    @classmethod
    def of(cls, output: Output) -> Watched:
        """Take over ``output``."""
        return cls(output.fd, output._staged)

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        self.before(position)
        self.written += len(data)
        super().write(data, position)


class Bench:
    """A basis, an output and what is carried between them."""

    def __init__(self, place: int, *, inplace: bool, new_size: int = len(BASIS) + 17) -> None:
        self.place = place
        self.output = Watched.of(Output.create(place, b"f", inplace=inplace))
        self.carried = CarriedOver(SEED, len(BASIS), new_size)
        self.reads = 0
        basis = Basis(-1, 0, os.open(b"f", os.O_RDONLY, dir_fd=place))
        self.assembly = Assembly(self.output, basis, self.carried, lambda: self.output)
        read_into = basis.read_into

        def counted(view: memoryview, offset: int) -> int:
            self.reads += len(view)
            return read_into(view, offset)

        basis.read_into = counted  # type: ignore[method-assign]  # to count without a subclass

    def sign(self, start: int, end: int) -> None:
        """Sign what there is; what comes of it is written when this returns."""
        self.carried.take(memoryview(BASIS)[start:end], start)
        self.carried.settle()

    @property
    def content(self) -> bytes:
        return os.pread(self.output.fd, 16 * MIB, 0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    (tmp_path / "f").write_bytes(BASIS)
    place = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    made: list[Bench] = []

    def make(*, inplace: bool = False, new_size: int = len(BASIS) + 17) -> Bench:
        made.append(Bench(place, inplace=inplace, new_size=new_size))
        return made[-1]

    yield make
    for each in made:
        each.assembly.close()
        each.output.discard(place)
    os.close(place)


def keyed(data: bytes) -> bytes:
    digest = KeyedDigest(SEED)
    digest.update(data)
    return digest.digest()


def test_bytes_that_did_not_move_are_read_once_and_written_once(
    bench: Callable[..., Bench],
) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(MIB, 6 * MIB)
    it.assembly.copy(MIB, 5 * MIB + 77)
    assert it.assembly.digest() == keyed(BASIS)
    assert it.content == BASIS
    assert it.reads <= MIB + REST
    assert it.output.written <= len(BASIS) + 4096
    assert it.carried.used >= 5 * MIB - REST


def test_bytes_that_all_moved_by_as_much_are_too(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.assembly.literal(memoryview(b"seventeen bytes!!"))
    it.assembly.copy(0, MIB)
    for start in range(MIB, 6 * MIB, MIB // 2):
        it.sign(start, start + MIB // 2)
    it.assembly.copy(MIB, 5 * MIB + 77)
    assert it.assembly.digest() == keyed(b"seventeen bytes!!" + BASIS)
    assert it.content == b"seventeen bytes!!" + BASIS
    assert it.reads <= MIB + REST


def test_in_place_nothing_is_written_and_little_read(bench: Callable[..., Bench]) -> None:
    it = bench(inplace=True, new_size=len(BASIS))
    it.assembly.copy(0, MIB)
    it.sign(MIB, 6 * MIB)
    it.assembly.copy(MIB, 5 * MIB + 77)
    assert it.assembly.digest() == keyed(BASIS)
    assert (it.output.written, it.content) == (0, BASIS)
    assert it.reads <= MIB + REST


def test_nothing_is_carried_before_matches_say_where_to(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.sign(0, MIB)
    it.assembly.copy(0, 4096)
    it.sign(MIB, 2 * MIB)
    assert it.output.written == 0
    assert not it.carried.wrote


def test_a_block_found_elsewhere_does_not_lead_astray(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(MIB, 2 * MIB)
    it.assembly.copy(5 * MIB, 4096)
    it.sign(2 * MIB, 3 * MIB)
    it.assembly.copy(MIB + 4096, 2 * MIB - 4096)
    assert it.carried.used == 2 * MIB - 4096
    new = BASIS[:MIB] + BASIS[5 * MIB : 5 * MIB + 4096] + BASIS[MIB + 4096 : 3 * MIB]
    assert it.assembly.digest() == keyed(new)
    assert it.content == new


def test_what_lies_behind_the_end_is_cut_off(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(MIB, 5 * MIB)
    it.assembly.close()
    assert it.content == BASIS[:MIB]


def test_the_stage_stays_shorter_than_the_basis_and_the_new_file(
    bench: Callable[..., Bench],
) -> None:
    for it, most in ((bench(), len(BASIS) - 256 * 1024), (bench(new_size=2 * MIB), 2 * MIB)):
        it.assembly.copy(0, MIB)
        it.sign(MIB, len(BASIS))
        assert len(it.content) == most


def test_trouble_while_carrying_is_left_to_the_assembly(bench: Callable[..., Bench]) -> None:
    """A disk may be full for what is only perhaps needed, or have room again."""
    it = bench()
    it.assembly.copy(0, MIB)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    it.output.before = full
    it.sign(MIB, 2 * MIB)
    it.sign(2 * MIB, 3 * MIB)
    it.output.before = lambda _: None
    it.assembly.copy(MIB, 5 * MIB + 77)
    assert it.assembly.digest() == keyed(BASIS)
    assert it.content == BASIS
    assert it.carried.used == 0


def test_no_more_is_carried_than_the_bound_ahead(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "_AHEAD", MIB)
    it = bench()
    it.assembly.copy(0, MIB)
    for start in range(MIB, 5 * MIB, MIB // 2):
        it.sign(start, start + MIB // 2)
    assert it.output.written <= 2 * MIB
    it.assembly.copy(MIB, 4 * MIB)
    it.sign(5 * MIB, 5 * MIB + MIB // 2)  # and goes on when the assembly has come nearer
    it.assembly.copy(5 * MIB, MIB + 77)
    assert it.assembly.digest() == keyed(BASIS)
    assert it.carried.used >= MIB + MIB // 2


def test_the_assembly_waits_for_what_is_being_carried_where_it_goes(
    bench: Callable[..., Bench],
) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    begun, go_on = Event(), Event()

    def slow(position: int) -> None:
        if position == 2 * MIB:
            begun.set()
            assert go_on.wait(60)

    it.output.before = slow
    signing = Thread(target=it.sign, args=(2 * MIB, 3 * MIB))
    signing.start()
    assert begun.wait(60)
    fresh = b"x" * (3 * MIB)
    assembling = Thread(target=it.assembly.literal, args=(memoryview(fresh),))
    assembling.start()
    assembling.join(0.05)
    assert assembling.is_alive()
    go_on.set()
    for thread in (signing, assembling):
        thread.join(60)
    assert it.assembly.digest() == keyed(BASIS[:MIB] + fresh)
    assert it.content == BASIS[:MIB] + fresh


def test_what_was_not_carried_in_between_is_not_passed_over(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(MIB, 2 * MIB)
    it.sign(3 * MIB, 4 * MIB)  # a hole lay before, say
    it.assembly.copy(MIB, 5 * MIB + 77)
    assert it.assembly.digest() == keyed(BASIS)
    assert it.content == BASIS
    assert it.carried.used == 2 * MIB


def test_another_shift_makes_vain_what_was_carried_at_the_first(
    bench: Callable[..., Bench],
) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(2 * MIB, 3 * MIB)
    it.assembly.literal(memoryview(b"seventeen bytes!!"))
    it.assembly.copy(MIB, MIB)
    assert it.carried.vain == MIB
    it.sign(4 * MIB, 5 * MIB)
    it.assembly.copy(2 * MIB, 4 * MIB + 77)
    new = BASIS[:MIB] + b"seventeen bytes!!" + BASIS[MIB:]
    assert it.assembly.digest() == keyed(new)
    assert it.content == new
    assert it.carried.used >= MIB - 2 * 4096


def test_shifts_that_take_turns_are_soon_not_followed_any_more(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "_ENOUGH", 64 * 1024)
    it = bench()
    step = 64 * 1024
    for turn in range(50):
        it.assembly.literal(memoryview(b"+"))
        it.assembly.copy(turn * step, step)
        it.sign((turn + 8) * step, (turn + 9) * step)
    assert it.carried.vain <= 10 * step


def test_nothing_is_carried_any_more_where_all_is_new(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(2 * MIB, 3 * MIB)
    it.assembly.literal(memoryview(bytes(MIB)))
    written = it.output.written
    it.sign(3 * MIB, 4 * MIB)
    assert it.output.written == written


@pytest.mark.parametrize("length", [MIB + 5, 2 * MIB])
def test_a_basis_that_became_shorter_makes_another_digest(
    bench: Callable[..., Bench], tmp_path: Path, length: int
) -> None:
    """Also where what is lacking ends within a unit, and what was carried follows."""
    it = bench()
    it.assembly.copy(0, MIB)
    it.sign(3 * MIB, 4 * MIB)
    os.truncate(tmp_path / "f", length)
    it.assembly.copy(MIB, 5 * MIB + 77)
    assert it.assembly.digest() != keyed(BASIS)


def test_a_writer_that_cannot_be_started_is_not_waited_for(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no more threads are allowed, say: signing ends, and the assembly with it."""

    def refused(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    it = bench()
    it.assembly.copy(0, MIB)
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", refused)
        with pytest.raises(RuntimeError, match="new thread"):
            it.sign(MIB, 2 * MIB)
    it.assembly.literal(memoryview(bytes(2 * MIB)))
    assert it.assembly.digest() == keyed(BASIS[:MIB] + bytes(2 * MIB))
