"""Turns: few sessions need none; of many, so many move bulk data in a pass, in their order."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

from netsync.net.turns import TURNS, Turns

MANY = 5 * TURNS


async def passes(turns: Turns, sessions: int) -> list[int]:
    """Have each session take a turn; return which of them did, in their order."""
    taken: list[int] = []

    async def work(number: int) -> None:
        await turns.wait()
        taken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(sessions):
            nursery.start_soon(work, number)
            if sessions == MANY:
                await trio.testing.wait_all_tasks_blocked()
    return taken


async def test_few_sessions_wait_for_nothing() -> None:
    turns = Turns()
    with contextlib.ExitStack() as stack:
        for _ in range(TURNS):
            stack.enter_context(turns.session())
        with trio.testing.assert_no_checkpoints():
            for _ in range(MANY):
                await turns.wait()


async def test_many_sessions_move_a_few_at_a_time() -> None:
    """Whoever has work that needs no turn is served in between."""
    turns = Turns()
    in_a_pass: list[int] = []

    async def bulk() -> None:
        await turns.wait()
        in_a_pass[-1] += 1

    async def small() -> None:
        while sum(in_a_pass) < MANY:
            in_a_pass.append(0)
            await trio.lowlevel.checkpoint()

    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(turns.session())
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                in_a_pass.append(0)
                nursery.start_soon(small)
                for _ in range(MANY):
                    nursery.start_soon(bulk)
    assert sum(in_a_pass) == MANY
    assert max(in_a_pass) <= 2 * TURNS  # those left over in this pass, and those of the next


async def test_who_is_cancelled_keeps_nobody_waiting() -> None:
    turns = Turns()
    with contextlib.ExitStack() as stack, trio.fail_after(5):
        for _ in range(MANY):
            stack.enter_context(turns.session())
        async with trio.open_nursery() as nursery, trio.open_nursery() as gone:
            for _ in range(2 * TURNS):
                gone.start_soon(turns.wait)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2 * TURNS):
                gone.start_soon(turns.wait)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(turns.wait)
            gone.cancel_scope.cancel()


async def test_who_came_later_takes_no_turn_of_those_who_wait() -> None:
    """Newcomers in every pass, before and after those whose turn it is."""
    turns = Turns()
    order: list[int] = []

    async def work(number: int) -> None:
        await turns.wait()
        order.append(number)

    with contextlib.ExitStack() as stack, trio.fail_after(5):
        for _ in range(MANY):
            stack.enter_context(turns.session())
        async with trio.open_nursery() as nursery:
            for number in range(0, 10 * MANY, 2 * TURNS):
                for each in range(number, number + 2 * TURNS):
                    nursery.start_soon(work, each)
                await trio.lowlevel.checkpoint()
            # Twice as many came in each pass as have a turn: half of them wait.
            assert len(order) < 6 * MANY
    assert sorted(order) == list(range(10 * MANY))
    # Those of one pass come in any order, by trio's choice, and so do the last of one before.
    assert max(abs(place - number) for place, number in enumerate(order)) <= 4 * TURNS


@pytest.mark.parametrize("sessions", [TURNS, MANY])
async def test_each_gets_its_turn(sessions: int) -> None:
    turns = Turns()
    with contextlib.ExitStack() as stack:
        for _ in range(sessions):
            stack.enter_context(turns.session())
        with trio.fail_after(5):
            assert sorted(await passes(turns, sessions)) == list(range(sessions))
