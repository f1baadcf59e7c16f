"""A run that dies anywhere: each name is old or new, and the next run makes it right.

F01, F02, F05 to F09, F51. A target is killed before each step that changes a file system; a
connection ends after each message of either side, which is all that a target sees of a source that
is killed, and the other way round. In the ordinary suite some of the steps, with ``slow`` all.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trio

from netsync.errors import NetsyncError
from netsync.model import Options
from netsync.tree import stage
from tests.support.killing import KILLED, in_memory, killed_before
from tests.support.severing import severed
from tests.support.transfers import transfer
from tests.support.trees import temporaries
from tests.support.upheaval import BACKUP, Upheaval, changes


@dataclass(frozen=True)
class Way:
    """One way to run: its options, and whether it is the first copy."""

    options: Options
    first: bool = False
    two_levels: bool = False


WAYS: Final = {
    "first": Way(Options(), first=True),
    "update": Way(Options()),
    "delete": Way(Options(delete=True)),
    "delete before": Way(Options(delete=True, delete_before=True)),
    "backup": Way(Options(delete=True, backup_dir=BACKUP)),
    "in place": Way(Options(delete=True, inplace=True, backup_dir=BACKUP)),
    "whole": Way(Options(delete=True, whole_file=True, checksum=True)),
    "two levels": Way(Options(delete=True), two_levels=True),
}


@pytest.fixture(params=WAYS)
def upheaval(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upheaval]:
    """Trees in memory, where a flush costs nothing."""
    if os.geteuid() != 0:
        pytest.skip("sets owners and makes devices")
    way = WAYS[request.param]
    with tempfile.TemporaryDirectory(dir=in_memory(tmp_path)) as base:
        trees = Upheaval(Path(base), way.options, way.first, way.two_levels)
        target = trees.fresh()
        rerun(trees, target, expects_changes=True)
        trees.done = trees.facts(target)
        yield trees


def rerun(trees: Upheaval, target: Path, *, expects_changes: bool = False) -> None:
    """Run to the end; it says that all is well."""
    report = trio.run(transfer, trees.source, target, trees.options)
    assert not report.problems
    assert not expects_changes or report.files.created


def goes_on_well(trees: Upheaval, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run ends as if nothing had happened, and the one after it does nothing."""
    rerun(trees, target)
    with monkeypatch.context() as later:  # a minute later: a link's temporary cannot be locked
        later.setattr(stage, "UNLOCKED_SECONDS", -1.0)
        rerun(trees, target)
    assert temporaries(target) == []
    assert trees.facts(target) == trees.done
    before = changes(target)
    report = trio.run(transfer, trees.source, target, trees.options)
    files = report.files
    assert (files.created, files.updated, files.metadata, files.deleted) == (0, 0, 0, 0)
    assert report.bytes.literal == 0
    assert changes(target) == before


def die_at(
    trees: Upheaval, steps: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Kill the target before each of ``steps``; return how many there were before it ended."""
    for count, step in enumerate(steps):
        target = trees.fresh()
        code = killed_before(trees.source, target, trees.options, step)
        assert code in (KILLED, 0)
        if code == 0:
            assert trees.facts(target) == trees.done
            return count
        trees.check(target)
        goes_on_well(trees, target, monkeypatch)
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
    outside = [name for name in temporaries(target) if name.startswith(stage.TEMPORARY_PREFIX)]
    assert outside == []
    return True


def part_at(
    trees: Upheaval, sender: str, messages: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Cut after each of ``messages``; return how many there were before the run was whole."""
    for count, after in enumerate(messages):
        target = trees.fresh()
        if not trio.run(cut_off, trees, target, sender, after):
            return count
        goes_on_well(trees, target, monkeypatch)
        trees.forget(target)
    raise AssertionError("there are always more messages than it takes")


def test_killed_before_some_steps(
    upheaval: Upheaval, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert die_at(upheaval, itertools.count(5, 43), monkeypatch) > 1


@pytest.mark.parametrize("sender", ["source", "target"])
def test_cut_after_some_messages(
    upheaval: Upheaval, sender: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part_at(upheaval, sender, itertools.count(3, 5), monkeypatch) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_before_any_step(
    upheaval: Upheaval, monkeypatch: pytest.MonkeyPatch, record_property: object
) -> None:
    steps = die_at(upheaval, itertools.count(), monkeypatch)
    assert steps > 60


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sender", ["source", "target"])
def test_cut_after_any_message(
    upheaval: Upheaval, sender: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part_at(upheaval, sender, itertools.count(), monkeypatch) > 4
