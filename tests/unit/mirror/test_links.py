"""The link to a standby: how soon it tries again."""

from __future__ import annotations

from itertools import pairwise

from netsync.mirror.links import HOPELESS_PAUSE, LONGEST_PAUSE, Pauses


def test_a_standby_that_restarts_is_found_at_once_and_one_that_is_down_soon() -> None:
    pauses = Pauses()
    taken = [pauses.after(0.01, retryable=True) for _ in range(20)]
    assert taken[0] < 0.5
    assert all(one <= other for one, other in pairwise(taken))
    assert taken[-1] == LONGEST_PAUSE
    assert pauses.after(LONGEST_PAUSE + 1, retryable=True) < 0.5, "it was there"


def test_what_looks_hopeless_is_tried_soon_at_first() -> None:
    """A copy that did not fit the log is mended by the next attempt."""
    pauses = Pauses()
    taken = [pauses.after(0.01, retryable=False) for _ in range(20)]
    assert sum(taken[:3]) < 1
    assert taken[-1] == HOPELESS_PAUSE


def test_comparisons_that_fail_leave_half_of_the_time_to_writers() -> None:
    pauses = Pauses()
    assert pauses.after(20, retryable=False) == 20
    assert pauses.after(600, retryable=False) == HOPELESS_PAUSE
