"""Trying again: what is worth it, how often, how long between, and what the watcher sees."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from netsync.errors import (
    ConnectTimeoutError,
    NetsyncError,
    NetworkError,
    ProtocolError,
    RefusedError,
    RootError,
    StalledError,
)
from netsync.model import Bytes, Change, Item, Report
from netsync.modes.retrying import FIRST_PAUSE, LONGEST_PAUSE, Attempt, pause_before, persist
from netsync.net.channel import memory_channels
from netsync.wire.order import State
from tests.support.transfers import Watch

Work = Callable[[Attempt], Awaitable[Report]]


class Line:
    """Work that fails as told, getting so far each time, and then succeeds."""

    def __init__(self, *failures: tuple[int, NetsyncError]) -> None:
        self.failures = list(failures)
        self.attempts = 0

    async def __call__(self, attempt: Attempt) -> Report:
        await trio.lowlevel.checkpoint()
        self.attempts += 1
        if not self.failures:
            return Report()
        reached, error = self.failures.pop(0)
        attempt.settled(reached)
        raise error


def lost() -> NetsyncError:
    return NetworkError("lost")


@pytest.mark.parametrize("error", [lost(), StalledError("silent"), ConnectTimeoutError("late")])
async def test_a_lost_connection_is_worth_another_attempt(
    error: NetsyncError, autojump_clock: trio.testing.MockClock
) -> None:
    line = Line((0, error))
    said: list[str] = []
    await persist(line, Watch(), 1, said.append)
    assert line.attempts == 2
    assert len(said) == 1
    assert "trying again" in said[0]


@pytest.mark.parametrize("error", [RefusedError("no"), ProtocolError("odd"), RootError("full")])
async def test_what_trying_cannot_mend_is_not_tried(error: NetsyncError) -> None:
    line = Line((0, error))
    with pytest.raises(type(error)):
        await persist(line, Watch(), 9, print)
    assert line.attempts == 1


async def test_without_retries_nothing_is_tried_again_whatever_was_reached() -> None:
    line = Line((100, lost()))
    with pytest.raises(NetworkError):
        await persist(line, Watch(), 0, print)
    assert line.attempts == 1


async def test_only_attempts_in_a_row_without_progress_count(
    autojump_clock: trio.testing.MockClock,
) -> None:
    reached = [5, 5, 3, 6, 6, 6, 7]
    line = Line(*[(each, lost()) for each in reached])
    said: list[str] = []
    await persist(line, Watch(), 2, said.append)
    assert line.attempts == len(reached) + 1
    assert ["it had got on" in each for each in said] == [
        True, False, False, True, False, False, True
    ]  # fmt: skip
    line = Line(*[(each, lost()) for each in [5, 5, 5, 6]])
    with pytest.raises(NetworkError):
        await persist(line, Watch(), 1, said.append)
    assert line.attempts == 3


async def test_pauses_grow_to_a_bound_and_start_anew_after_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    times: list[float] = []
    line = Line(*[(0, lost())] * 10)

    async def work(attempt: Attempt) -> Report:
        times.append(trio.current_time())
        return await line(attempt)

    await persist(work, Watch(), 10, lambda _: None)
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert all(pause <= LONGEST_PAUSE for pause in pauses)
    assert pauses[0] <= FIRST_PAUSE
    assert pauses[-1] >= LONGEST_PAUSE / 2


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_pause_is_between_half_and_all_of_its_bound(chance: float) -> None:
    for retry in (1, 2, 5, 1000):
        whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(retry - 1, 50))
        assert whole / 2 <= pause_before(retry, chance) <= whole


def test_a_run_has_a_token_only_if_it_may_be_repeated() -> None:
    tokens = {Attempt(Watch(), 1).token for _ in range(9)}
    assert len(tokens) == 9
    assert Attempt(Watch(), 0).token == b""


def test_the_watcher_sees_neither_a_line_nor_a_byte_twice() -> None:
    watch = Watch()
    attempt = Attempt(watch, 3)
    first, second = Item(Change.CREATED, b"a"), Item(Change.UPDATED, b"b")
    attempt.begin()
    attempt.settled(100)
    attempt.items([first])
    attempt.begin()
    attempt.settled(60)
    attempt.items([first, second, second])
    assert watch.settled_bytes == 100
    attempt.settled(60)
    attempt.items([second])
    assert watch.settled_bytes == 120
    assert watch.lines == [first, second]


def test_the_wire_is_summed_over_all_attempts() -> None:
    attempt = Attempt(Watch(), 1)
    channel, _ = memory_channels(State.CLIENT_ASKS, State.SERVER_ANSWERS)

    class Counted:
        wire = (10, 3)

    for _ in range(2):
        attempt.carried(Counted())  # type: ignore[arg-type]  # all that is looked at
    attempt.carried(channel)
    report = attempt.with_wire(Report(bytes=Bytes(literal=7)))
    assert report.bytes == Bytes(literal=7, wire_sent=20, wire_received=6)


def test_what_makes_way_and_what_takes_its_place_are_two_lines() -> None:
    """In one message or in two attempts; and neither is told twice."""
    watch = Watch()
    attempt = Attempt(watch, retries=1)
    gone, made = Item(Change.DELETED, b"b", True), Item(Change.CREATED, b"b", False)
    attempt.items([gone, made])
    attempt.items([made])
    attempt.items([gone])
    assert watch.lines == [gone, made]
