"""A run that dies anywhere: each name is old or new, and the next run makes it right.

F01, F02, F05 to F09, F51. A target is killed before each step that changes a file system; a
connection ends after each message of either side, which is all that a target sees of a source that
is killed, and the other way round. In the ordinary suite some of the steps, with ``slow`` all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from netsync.errors import NetsyncError
from netsync.tree.stage import TEMPORARY_PREFIX
from tests.support.killing import KILLED, killed_before
from tests.support.severing import severed
from tests.support.trees import temporaries
from tests.support.upheaval import Upheaval


def die_at(trees: Upheaval, steps: Iterator[int]) -> int:
    """Kill the target before each of ``steps``; return how many there were before it ended."""
    for count, step in enumerate(steps):
        target = trees.fresh()
        code = killed_before(trees.source, target, trees.options, step)
        assert code in (KILLED, 0)
        if code == 0:
            assert trees.facts(target) == trees.done
            return count
        trees.check(target)
        trees.goes_on_well(target)
        trees.forget(target)
    raise AssertionError("there are always more steps than it takes")


async def cut_off(trees: Upheaval, target: Path, sender: str, after: int) -> bool:
    """Cut after a message of the ``sender``; both ends notice, and leave partials alone."""
    was_cut, outcomes = await severed(
        trees.source, target, trees.options, sender=sender, after=after
    )
    if not was_cut:
        assert not [each for each in outcomes.values() if isinstance(each, NetsyncError)]
        return False
    assert isinstance(outcomes[sender], NetsyncError)
    # A source that hears nothing of the commit does not call it one. A target has committed
    # before it says so, and may be right in its report.
    assert isinstance(outcomes["source"], NetsyncError)
    trees.check(target)
    outside = [name for name in temporaries(target) if name.startswith(TEMPORARY_PREFIX)]
    assert outside == []
    return True


def part_at(trees: Upheaval, sender: str, messages: Iterator[int]) -> int:
    """Cut after each of ``messages``; return how many there were before the run was whole."""
    for count, after in enumerate(messages):
        target = trees.fresh()
        if not trio.run(cut_off, trees, target, sender, after):
            return count
        trees.goes_on_well(target)
        trees.forget(target)
    raise AssertionError("there are always more messages than it takes")


@pytest.mark.parametrize("upheaval", ["first", "delete", "in place"], indirect=True)
def test_killed_before_some_steps(upheaval: Upheaval) -> None:
    assert die_at(upheaval, itertools.count(5, 61)) > 1


@pytest.mark.parametrize("upheaval", ["delete", "in place"], indirect=True)
@pytest.mark.parametrize("sender", ["source", "target"])
def test_cut_after_some_messages(upheaval: Upheaval, sender: str) -> None:
    assert part_at(upheaval, sender, itertools.count(3, 7)) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_before_any_step(
    upheaval: Upheaval, record_property: Callable[[str, object], None]
) -> None:
    steps = die_at(upheaval, itertools.count())
    assert steps > 60
    record_property("cases", steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sender", ["source", "target"])
def test_cut_after_any_message(
    upheaval: Upheaval, sender: str, record_property: Callable[[str, object], None]
) -> None:
    messages = part_at(upheaval, sender, itertools.count())
    assert messages > 4
    record_property("cases", messages)
