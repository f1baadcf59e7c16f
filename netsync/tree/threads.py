"""Blocking work on files in worker threads, so many at a time for whoever it is done for.

A call into a disk that hangs (a network file system whose server is gone) does not come back, and
nothing can cancel it. trio lends a program so many threads in all; sessions that touch such a disk
would soon have them, and those of every other disk would wait behind. So who serves a module or
carries out a job says with ``working_within`` in which limiter its work counts, its own and that of
the tasks it starts: threads that never come back are missing there and nowhere else. Work that
touches nobody's files (compressing, netsync's own state) stays within trio's own limiter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final, TypeVar, TypeVarTuple

import trio

THREADS: Final = 40
"""Threads for each module, and for each job: as many as trio has for all."""

Result = TypeVar("Result")
Given = TypeVarTuple("Given")

_limiter: Final = ContextVar[trio.CapacityLimiter | None]("limiter", default=None)


def threads() -> trio.CapacityLimiter:
    """Return a limiter for one module or job."""
    return trio.CapacityLimiter(THREADS)


@contextlib.contextmanager
def working_within(limiter: trio.CapacityLimiter | None) -> Iterator[None]:
    """Count the body's threads in ``limiter``, and those of tasks that are started in it."""
    token = _limiter.set(limiter)
    try:
        yield
    finally:
        _limiter.reset(token)


async def in_thread(work: Callable[[*Given], Result], *given: *Given) -> Result:
    """Return what ``work`` returns in a thread. A cancelled caller waits for it all the same."""
    return await trio.to_thread.run_sync(work, *given, limiter=_limiter.get())
