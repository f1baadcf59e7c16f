"""Counting: every change in its column, problems bounded, sums over the workers."""

from __future__ import annotations

import errno

import pytest

from netsync.model import Bytes, Change, Files, Item, Problem, Report
from netsync.transfer.tally import (
    PROBLEM_BYTES_MAX,
    PROBLEMS_MAX,
    Tally,
    Unobserved,
    kept_problems,
    total_bytes,
    total_files,
)
from netsync.wire.codec import encode
from netsync.wire.messages import Committed


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (Change.CREATED, "created"),
        (Change.UPDATED, "updated"),
        (Change.METADATA, "metadata"),
        (Change.DELETED, "deleted"),
        (Change.FAILED, "failed"),
    ],
)
def test_a_change_is_counted_in_its_column_alone(change: Change, column: str) -> None:
    tally = Tally()
    tally.change(change, b"p")
    assert total_files([tally]) == Files(**{column: 1})
    assert tally.take_items() == []


def test_itemized_lines_are_kept_until_they_are_taken() -> None:
    tally = Tally(itemize=True)
    tally.change(Change.CREATED, b"a/b", directory=True)
    tally.change(Change.DELETED, b"c")
    assert tally.take_items() == [Item(Change.CREATED, b"a/b", True), Item(Change.DELETED, b"c")]
    assert tally.take_items() == []


def test_a_failure_is_counted_itemized_and_told_in_the_systems_words() -> None:
    tally = Tally(itemize=True)
    tally.fail(b"p", "write", OSError(errno.EACCES, "ignored"))
    tally.fail(b"q", "verify", "in our words")
    assert tally.failed == 2
    assert [item.change for item in tally.take_items()] == [Change.FAILED] * 2
    assert tally.problems == [
        Problem(b"p", "write", "permission denied"),
        Problem(b"q", "verify", "in our words"),
    ]


def test_a_notice_is_said_once() -> None:
    tally = Tally()
    for words in ("a", "b", "a"):
        tally.notice(words)
    assert list(tally.notices) == ["a", "b"]


def test_problems_past_the_bound_are_counted() -> None:
    tallies = [Tally(), Tally()]
    for tally in tallies:
        for number in range(PROBLEMS_MAX + 10):
            tally.problem(Problem(b"%d" % number, "read", "no"))
        assert len(tally.problems) == PROBLEMS_MAX
    kept, omitted = kept_problems(tallies)
    assert (len(kept), omitted) == (PROBLEMS_MAX, PROBLEMS_MAX + 20)
    assert kept[0].path == b"0"


@pytest.mark.parametrize("path", [b"\xff" * 4000, b"x" * 65536])
def test_problems_with_long_paths_still_fit_a_report(path: bytes) -> None:
    tally = Tally()
    for _ in range(PROBLEMS_MAX):
        tally.problem(Problem(path, "read", "\N{BUG}" * 100))
    kept, omitted = kept_problems([tally])
    assert len(kept) + omitted == PROBLEMS_MAX
    assert sum(len(problem.path) for problem in kept) <= PROBLEM_BYTES_MAX
    encode(Committed(Report(problems=kept, problems_omitted=omitted)))


def test_a_short_problem_is_kept_after_one_too_long_to_keep() -> None:
    tally = Tally()
    for path in (b"x" * 65536, b"y" * 65536, b"short"):
        tally.problem(Problem(path, "read", "no"))
    kept, omitted = kept_problems([tally])
    assert (len(kept), omitted) in ((1, 2), (2, 1))
    assert kept[0].path == b"x" * 65536


def test_the_report_is_the_sum_of_the_workers() -> None:
    tallies = [
        Tally(considered=3, created=1, unchanged=2, total=30, literal=10),
        Tally(updated=2, failed=1, matched=5, literal=7),
    ]
    assert total_files(tallies) == Files(considered=3, created=1, updated=2, unchanged=2, failed=1)
    assert total_bytes(tallies) == Bytes(total=30, literal=17, matched=5)
    assert total_files([]) == Files()


def test_nobody_need_watch() -> None:
    nobody = Unobserved()
    nobody.listed(1, 2, complete=True)
    nobody.settled(3)
    nobody.items([Item(Change.CREATED, b"x")])
    assert vars(nobody) == {}
