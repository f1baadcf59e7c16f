"""Large files as two-level deltas, through both roles, and what may go wrong on the way."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from netsync.delta.levels import FINE, TWO_LEVELS_FROM
from netsync.errors import ProtocolError
from netsync.model import Options
from netsync.transfer.signing import FINE_QUESTIONS
from netsync.wire import messages as m
from netsync.wire.fine import FineSignature, WantFine
from netsync.wire.messages import Message
from tests.support.transfers import Sent, Transfer, transfer
from tests.support.trees import make_tree, temporaries

PLAIN = Options(fsync=False)
IN_PLACE = Options(fsync=False, inplace=True)
OLD = random.Random(1).randbytes(TWO_LEVELS_FROM + 100_001)


def edited(count: int) -> bytes:
    new = bytearray(OLD)
    for page in random.Random(2).sample(range(len(OLD) // FINE), count):
        new[page * FINE : page * FINE + FINE] = random.Random(page).randbytes(FINE)
    return bytes(new)


CASES: dict[str, tuple[bytes, int]] = {
    "unchanged but for its time": (OLD, 0),
    "pages": (edited(50), 50 * FINE),
    "front": (b"seventeen bytes!!" + OLD, 17),
    "middle": (OLD[:20_000_000] + b"middle" + OLD[20_000_000:], FINE + 6),
    "cut": (OLD[:20_000_000], FINE),
    "beginning lost": (OLD[10_000_000:], FINE),
    "grown": (OLD + bytes(range(256)) * 1000, 256_000 + FINE),
    "swapped": (OLD[9_000_000:] + OLD[:9_000_000], 2 * FINE),
    "short": (OLD[:20_000], 20_000),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", {})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "target", {"f": OLD})


@pytest.mark.parametrize(("new", "literal"), CASES.values(), ids=CASES)
async def test_only_what_is_new_is_sent(
    source: Path, target: Path, new: bytes, literal: int
) -> None:
    make_tree(source, {"f": new})
    report = await transfer(source, target, PLAIN)
    assert (target / "f").read_bytes() == new
    assert report.bytes.literal <= literal
    assert report.bytes.literal + report.bytes.matched == len(new)
    assert temporaries(target) == []


@pytest.mark.parametrize("name", ["pages", "middle", "beginning lost", "swapped", "cut"])
async def test_in_place_the_result_is_right_and_the_inode_stays(
    source: Path, target: Path, name: str
) -> None:
    new, literal = CASES[name]
    make_tree(source, {"f": new})
    inode = (target / "f").stat().st_ino
    report = await transfer(source, target, IN_PLACE)
    assert (target / "f").read_bytes() == new
    assert (target / "f").stat().st_ino == inode
    if name in ("pages", "beginning lost", "cut"):  # the others need what is overwritten
        assert report.bytes.literal <= literal


async def test_fine_entries_are_asked_for_only_where_blocks_differ(
    source: Path, target: Path
) -> None:
    make_tree(source, {"f": edited(3)})
    run = Transfer(source, target, PLAIN)
    await run.run()
    (question,) = (each for each in run.sent_by_source if isinstance(each, WantFine))
    assert sum(question.ranges[1::2]) == 3


async def test_a_block_size_asked_for_means_one_level(source: Path, target: Path) -> None:
    make_tree(source, {"f": edited(3)})
    run = Transfer(source, target, Options(fsync=False, block_size=1 << 16))
    await run.run()
    (want,) = (each for each in run.sent_by_target if isinstance(each, m.WantDelta))
    assert (want.block_size, want.fine_size) == (1 << 16, 0)
    assert not any(isinstance(each, WantFine) for each in run.sent_by_source)


def once(kind: type[Message], act: Callable[[], object]) -> Callable[[Message, bytes], list[Sent]]:
    """Do something when the first message of this kind is on its way."""
    done: list[object] = []

    def meddle(message: Message, tail: bytes) -> list[Sent]:
        if isinstance(message, kind) and not done:
            done.append(act())
        return [(message, tail)]

    return meddle


@pytest.mark.parametrize("kind", [m.WantDelta, m.Signature, FineSignature])
@pytest.mark.parametrize("what", ["gone", "shorter", "other"])
async def test_a_basis_that_changes_meanwhile_costs_a_resend_at_most(
    source: Path, target: Path, kind: type[Message], what: str
) -> None:
    new = edited(50)
    make_tree(source, {"f": new})
    path = target / "f"
    acts: dict[str, Callable[[], object]] = {
        "gone": path.unlink,
        "shorter": lambda: os.truncate(path, 1_000_000),
        "other": lambda: path.write_bytes(OLD[::-1]),
    }
    await transfer(source, target, PLAIN, from_target=once(kind, acts[what]))
    assert path.read_bytes() == new
    assert temporaries(target) == []


async def test_a_source_that_shrinks_is_asked_again(source: Path, target: Path) -> None:
    make_tree(source, {"f": edited(50)})
    path = source / "f"
    shrink = once(m.Signature, lambda: os.truncate(path, 30_000_000))
    await transfer(source, target, PLAIN, from_target=shrink)
    assert (target / "f").read_bytes() == path.read_bytes()


async def test_a_source_that_vanishes_is_a_problem(source: Path, target: Path) -> None:
    make_tree(source, {"f": edited(50), "g": b"other"})
    vanish = once(m.Wants, (source / "f").unlink)
    report = await transfer(source, target, PLAIN, from_target=vanish)
    assert [problem.vanished for problem in report.problems] == [True]
    assert (target / "f").read_bytes() == OLD
    assert (target / "g").read_bytes() == b"other"


async def test_a_forged_fine_signature_costs_a_resend(source: Path, target: Path) -> None:
    """Entries of other data match what they should not; the digest of the whole finds out."""
    new = edited(50)
    make_tree(source, {"f": new})
    zeros: list[Sent] = []

    def forge(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, FineSignature):
            tail = tail[12:] + tail[:12]
            zeros.append((message, tail))
        return [(message, tail)]

    report = await transfer(source, target, PLAIN, from_target=forge)
    assert zeros
    assert (target / "f").read_bytes() == new
    assert report.bytes.literal + report.bytes.matched == len(new)


QUESTIONS = {
    "outside": [0, 300],
    "not rising": [5, 1, 4, 1],
    "twice": [5, 2, 6, 1],
    "nothing": [5, 0],
    "half": [5, 1, 7],
}


@pytest.mark.parametrize("ranges", QUESTIONS.values(), ids=QUESTIONS)
async def test_a_question_outside_the_basis_ends_the_session(
    source: Path, target: Path, ranges: list[int]
) -> None:
    make_tree(source, {"f": edited(3)})

    def lie(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, WantFine):
            message = WantFine(message.number, ranges)
        return [(message, tail)]

    with pytest.raises(ProtocolError, match="fine blocks"):
        await transfer(source, target, PLAIN, from_source=lie)
    assert (target / "f").read_bytes() == OLD


async def test_questions_are_bounded(source: Path, target: Path) -> None:
    make_tree(source, {"f": edited(3)})

    def ask_often(message: Message, tail: bytes) -> Sequence[Sent]:
        often = isinstance(message, WantFine)
        return [(message, tail)] * (20 * FINE_QUESTIONS if often else 1)

    with pytest.raises(ProtocolError):
        await transfer(source, target, PLAIN, from_source=ask_often)
