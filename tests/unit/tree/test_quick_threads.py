"""Threads of one's own: results and errors come back, work is waited for, and all of it ends."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from netsync.tree.quick_threads import QuickThreads
from tests.support.processes import wait_until

NAME = "netsync test"


def running() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


@pytest.fixture
def threads() -> Iterator[QuickThreads]:
    before = len(os.listdir("/proc/self/fd"))
    made = QuickThreads(NAME, 2)
    yield made
    made.close()
    wait_until(lambda: running() == 0, "the threads have ended", 20)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_is_done_in_a_thread_comes_back_and_so_does_what_fails(
    threads: QuickThreads,
) -> None:
    assert await threads.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(lambda: 7) == 7
    assert running() == 1, "one after the other needs one"


async def test_there_are_so_many_and_who_comes_then_waits(threads: QuickThreads) -> None:
    let_go = threading.Semaphore(0)
    entered = threading.Semaphore(0)
    done: list[int] = []

    async def work(number: int) -> None:
        def block() -> int:
            entered.release()
            assert let_go.acquire(timeout=50)
            return number

        done.append(await threads.run(block))

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(work, number)
            for _ in range(2):
                await trio.to_thread.run_sync(lambda: entered.acquire(timeout=50))
            assert not entered.acquire(blocking=False)
            assert running() == 2
            let_go.release(5)
    assert sorted(done) == [0, 1, 2, 3, 4]


async def test_a_cancelled_caller_waits_until_the_work_is_done(threads: QuickThreads) -> None:
    """It uses what the caller would close."""
    let_go = threading.Event()
    ended = False

    def work() -> None:
        nonlocal ended
        let_go.wait(50)
        ended = True

    with trio.fail_after(50), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(threads.run, work)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                assert not ended
                let_go.set()
    assert ended
    assert await threads.run(lambda: 1) == 1, "the thread is there for others"


async def test_who_is_cancelled_before_begins_nothing(threads: QuickThreads) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run(lambda: pytest.fail("nobody waits for it"))
    assert scope.cancelled_caught


async def test_one_that_is_at_work_when_all_are_closed_ends_after_that(
    threads: QuickThreads,
) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        assert let_go.wait(timeout=50)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, block)
        await trio.to_thread.run_sync(entered.wait)
        threads.close()
        let_go.set()


async def test_without_a_descriptor_left_trio_lends_a_thread(threads: QuickThreads) -> None:
    """That there is none is no failure of the work."""
    await trio.to_thread.run_sync(os.getpid)  # trio has a thread
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert await threads.run(lambda: 7) == 7
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert running() == 0
