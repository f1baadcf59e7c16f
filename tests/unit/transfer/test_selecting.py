"""What takes part, between the two roles: paths of peers, moments of change, racy times."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from netsync.model import Options, Rule
from netsync.modes.outcome import Outcome, outcome_of
from netsync.transfer import reading
from netsync.transfer.reading import RACY_NS, let_settle
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.support.transfers import Meddle, Sent, Transfer, transfer, without_digests
from tests.support.trees import make_tree, read_tree, temporaries

PLAIN = Options(fsync=False)
LONG = b"content of a file " * 300_000
LONGER = random.Random(1).randbytes(16 << 20)
"""Eight frames, of which no more than half are read before the first goes out."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_tree(tmp_path / "outside", {"secret": b"secret"})
    return make_tree(tmp_path / "source", {"f": b"1", "d": {"g": b"2"}, "out": "../outside"})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "target", {})


def at_each(kind: type[Message], act: Callable[[], object]) -> Meddle:
    def meddle(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, kind):
            act()
        return [(message, tail)]

    return meddle


@pytest.mark.parametrize(
    "path",
    [b"../outside/secret", b"d/../../outside/secret", b"out/secret", b"..", b"d/../../outside/"],
)
async def test_no_path_of_a_peer_leads_out_of_the_source(
    source: Path, target: Path, path: bytes
) -> None:
    options = Options(fsync=False, paths=(path, b"d/g"))
    report = await transfer(source, target, options)
    assert read_tree(target) == {"d": {"g": b"2"}}
    assert [problem.path for problem in report.problems] == [path]
    assert outcome_of(report) is Outcome.PARTIAL


async def test_a_restricted_listing_deletes_nothing_even_if_a_peer_says_so(
    source: Path, target: Path
) -> None:
    make_tree(target, {"other": b"3", "d": {"other": b"4"}})
    await transfer(source, target, Options(fsync=False, delete=True, paths=(b"d/g",)))
    assert read_tree(target) == {"other": b"3", "d": {"g": b"2", "other": b"4"}}


async def test_only_what_is_named_is_looked_at(source: Path, target: Path) -> None:
    """A restricted walk reads no directory: watching a tree must not cost the tree."""
    make_tree(source, {f"x{n}": b"" for n in range(2000)})
    run = Transfer(source, target, Options(fsync=False, paths=(b"d/g", b"f")))
    report = await run.run()
    assert report.files.considered == 3
    listed = [each for each in run.sent_by_source if isinstance(each, m.List)]
    assert sum(each.cost for each in listed) < 10


async def test_a_directory_that_vanished_at_depth_is_told_and_protected(
    source: Path, target: Path
) -> None:
    """Exit 24, no crash, and what the target has of it stays although the rest is deleted."""
    make_tree(source, {"a": {"b": {"c": {"deep": {"f": b"1"}}}}, **{
        f"{n:04}{'x' * 200}": b"" for n in range(400)}})  # fmt: skip
    make_tree(target, {"a": {"b": {"c": {"deep": {"old": b"2"}, "gone": b"3"}}}})
    deep = source / "a" / "b" / "c" / "deep"

    def vanish() -> None:
        if deep.exists():
            (deep / "f").unlink()
            deep.rmdir()

    options = Options(fsync=False, delete=True)
    report = await transfer(
        source, target, options, from_source=at_each(m.List, vanish), from_target=without_digests
    )
    assert outcome_of(report) in (Outcome.VANISHED, Outcome.OK)
    kept = read_tree(target)["a"]
    assert kept in ({"b": {"c": {"deep": {"old": b"2"}}}}, {"b": {"c": {}}})


async def test_a_directory_that_became_a_link_is_not_followed(source: Path, target: Path) -> None:
    make_tree(source, {f"{n:04}{'x' * 200}": b"" for n in range(400)} | {"z": {"f": b"1"}})

    def swap() -> None:
        if not (source / "z").is_symlink():
            (source / "z" / "f").unlink()
            (source / "z").rmdir()
            (source / "z").symlink_to("../outside")

    report = await transfer(source, target, PLAIN, from_source=at_each(m.List, swap))
    assert read_tree(target)["z"] in ({}, "../outside")
    assert outcome_of(report) in (Outcome.PARTIAL, Outcome.OK)


def rewriting(path: Path) -> Callable[[], None]:
    """Return a function that changes ``path`` to other content and another time at each call."""
    times = itertools.count(1)

    def rewrite() -> None:
        number = next(times)
        with path.open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"%010d" % number)
        os.utime(path, ns=(0, number))

    return rewrite


@pytest.mark.parametrize("basis", [b"", LONGER[: 1 << 20]], ids=["whole", "delta"])
async def test_a_file_that_changes_each_time_is_published_on_demand(
    source: Path, target: Path, basis: bytes
) -> None:
    """It is asked for three times as ever, and what was read last is taken, without failure."""
    make_tree(source, {"f": LONGER})
    make_tree(target, {"f": basis})
    run = Transfer(source, target, Options(fsync=False, changing="publish"))
    run.from_source = at_each(m.Piece, rewriting(source / "f"))
    report = await run.run()
    assert outcome_of(report) is Outcome.OK
    assert report.files.failed == 0
    assert sum(isinstance(each, m.Unsent) for each in run.sent_by_source) == 2
    assert (target / "f").stat().st_size == len(LONGER)
    assert (target / "f").stat().st_mtime_ns != (source / "f").stat().st_mtime_ns
    assert temporaries(target) == []
    await transfer(source, target, PLAIN)
    assert read_tree(target) == read_tree(source)


async def test_a_file_that_is_cut_short_each_time_is_published_as_it_was_read(
    source: Path, target: Path
) -> None:
    path = source / "f"
    make_tree(source, {"f": LONG})
    lengths = itertools.count(2_000_000, -400_000)
    shorten = at_each(m.Piece, lambda: os.truncate(path, max(next(lengths), 1_000_000)))
    options = Options(fsync=False, changing="publish")
    report = await transfer(source, target, options, from_source=shorten)
    assert outcome_of(report) is Outcome.OK
    copied = (target / "f").read_bytes()
    assert copied == LONG[: len(copied)]
    assert len(copied) >= 1_000_000


class Clock:
    """A clock that only sleeping moves on (nanoseconds)."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.slept = 0

    def time_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += round(seconds * 1e9)
        self.now += round(seconds * 1e9)


NOON = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("age", "slept"),
    [
        (0, RACY_NS), (RACY_NS - 1, 1), (RACY_NS, 0), (10**15, 0),
        (-1, RACY_NS + 1), (-RACY_NS, 0), (-(10**15), 0),
    ],
)  # fmt: skip
def test_a_file_written_just_now_is_read_when_the_next_write_would_show(
    monkeypatch: pytest.MonkeyPatch, age: int, slept: int
) -> None:
    """The wait is bounded at two grains, and a time of long ago or far ahead costs none."""
    clock = Clock(NOON)
    monkeypatch.setattr(reading, "time", clock)
    let_settle(NOON - age)
    assert abs(clock.slept - slept) <= 1


@pytest.mark.parametrize("content", [b"small", LONG], ids=["small", "large"])
async def test_a_write_in_the_same_tick_as_the_one_before_is_not_missed(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """The second write leaves size and time as they were: only waiting before reading finds it."""
    make_tree(source, {"f": content})
    os.utime(source / "f", ns=(NOON, NOON))
    later = b"x" * len(content)
    clock = Clock(NOON)

    def write_again(seconds: float) -> None:
        if not clock.slept:
            (source / "f").write_bytes(later)
            os.utime(source / "f", ns=(NOON, NOON))
        Clock.sleep(clock, seconds)

    monkeypatch.setattr(clock, "sleep", write_again)
    monkeypatch.setattr(reading, "time", clock)
    await transfer(source, target, PLAIN)
    assert clock.slept
    assert (target / "f").read_bytes() == later


async def test_rules_of_the_tree_cross_with_its_listing(source: Path, target: Path) -> None:
    """They are told before the directory's end, once, and the target need not have the file."""
    make_tree(source, {"d": {".netsyncignore": b"*.o\n!k.o\n", "e": {"x.o": b"1", "k.o": b"2"}}})
    make_tree(target, {"d": {"e": {"y.o": b"3", "z": b"4"}}})
    run = Transfer(source, target, Options(fsync=False, delete=True))
    await run.run()
    told = [
        listing.rules
        for each in run.sent_by_source if isinstance(each, m.List)
        for listing in each.listings if listing.rules
    ]  # fmt: skip
    assert told == [[Rule(True, b"*.o", 1), Rule(False, b"k.o", 1)]]
    below = read_tree(target)["d"]
    assert below == {".netsyncignore": b"*.o\n!k.o\n", "g": b"2",
                     "e": {"k.o": b"2", "y.o": b"3"}}  # fmt: skip
