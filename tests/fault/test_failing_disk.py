"""A disk that fails under a run: that is told, nothing is torn, and a later run makes it right.

F17 to F19, F24 to F26, F28 to F31. Each step that changes a file system fails, alone or with all
behind it, as on a disk that is broken (EIO), full (ENOSPC) or read-only (EROFS). In the ordinary
suite some of the steps, with ``slow`` all.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator

import pytest

from netsync.errors import RootError
from netsync.tree.stage import TEMPORARY_PREFIX
from tests.support.failing import NOT_TRIED, PROBLEMS, Failure, failing
from tests.support.trees import temporaries
from tests.support.upheaval import Upheaval

TROUBLES = [
    pytest.param(errno.EIO, True, id="one EIO"),
    pytest.param(errno.EIO, False, id="EIO"),
    pytest.param(errno.ENOSPC, False, id="ENOSPC"),
    pytest.param(errno.EROFS, False, id="EROFS"),
]


def fail_at(trees: Upheaval, steps: Iterator[int], number: int, *, once: bool) -> int:
    """Fail at each of ``steps``; return how many there were before the run was through."""
    for count, step in enumerate(steps):
        target = trees.fresh()
        code = failing(trees.source, target, trees.options, Failure(number, step, once))
        if code == NOT_TRIED:
            assert trees.facts(target) == trees.done
            return count
        # 0: it was no trouble, as a mark that cannot be made or a stage that cannot be removed.
        assert code in (0, PROBLEMS, RootError.exit_code), (step, code)
        # A file that one error kept from being written does not hold deletes back.
        trees.check(target, deletes_last=code != PROBLEMS)
        if once or number == errno.ENOSPC:
            beside = [each for each in temporaries(target) if each.startswith(TEMPORARY_PREFIX)]
            assert beside == [], step
        trees.goes_on_well(target)
        trees.forget(target)
    raise AssertionError("there are always more steps than it takes")


@pytest.mark.parametrize("upheaval", ["in place"], indirect=True)
@pytest.mark.parametrize(("number", "once"), TROUBLES)
def test_some_steps_fail(upheaval: Upheaval, number: int, *, once: bool) -> None:
    assert fail_at(upheaval, itertools.count(11, 97), number, once=once) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("number", "once"), TROUBLES)
def test_any_step_fails(
    upheaval: Upheaval, number: int, *, once: bool, record_property: Callable[[str, object], None]
) -> None:
    steps = fail_at(upheaval, itertools.count(), number, once=once)
    assert steps > 60
    record_property("cases", steps)
