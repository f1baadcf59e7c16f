"""Threads of one's own, for work that often takes no longer than the hop to a thread.

``trio.to_thread`` serves everybody: each time it counts the thread in a limiter, copies context
variables, names the thread, and has a task of trio's say that it has done. That takes more than a
fast disk's flush: 125 microseconds of the processor, where a thread of one's own takes 45. The task
that waits is woken by the kernel itself, which watches a counter of each thread. What must hold:
work that has begun is waited for, cancelled or not, since it uses what the caller would close.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeVar, cast

import outcome
import trio

from netsync.tree.threads import in_thread

Result = TypeVar("Result")
_EVENT: Final = os.EFD_CLOEXEC | os.EFD_NONBLOCK


class _Thread:
    """One thread, and one piece of work at a time."""

    def __init__(self, name: str) -> None:
        self._done = os.eventfd(0, _EVENT)
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._result: outcome.Outcome[object] | None = None
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except BaseException:
            os.close(self._done)
            raise

    async def do(self, work: Callable[[], object]) -> outcome.Outcome[object]:
        """Return what came of it."""
        self._work.put(work)
        try:
            await self._until_done()
        except trio.Cancelled:  # it comes again at the caller's next checkpoint
            with trio.CancelScope(shield=True):
                await self._until_done()
        result, self._result = self._result, None
        assert result is not None
        return result

    async def _until_done(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._done)
            try:
                os.eventfd_read(self._done)
            except BlockingIOError:
                continue  # trio may wake in vain
            return

    def end(self) -> None:
        """Nothing more will come."""
        self._work.put(None)
        os.close(self._done)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            self._result = outcome.capture(work)
            del work  # while we wait nothing of it is held
            os.eventfd_write(self._done, 1)


class QuickThreads:
    """Up to ``most`` threads, begun when they are needed. ``close`` ends them; nobody waits then.

    Whoever comes when all are busy waits for one.
    """

    def __init__(self, name: str, most: int = 1) -> None:
        self._name = name
        self._idle: list[_Thread] = []
        self._free = trio.Semaphore(most)
        self._closed = False

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns in a thread. A cancelled caller waits for it, too."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            await self._free.acquire()
        try:
            thread = self._thread()
            if thread is None:
                return await in_thread(work)
            result = await thread.do(work)
            if self._closed:
                thread.end()
            else:
                self._idle.append(thread)
        finally:
            self._free.release()
        return cast("Result", result.unwrap())

    def _thread(self) -> _Thread | None:
        """Return a thread that is free; None if the system has nothing left to make one of."""
        if self._idle:
            return self._idle.pop()
        try:
            return _Thread(self._name)
        except (OSError, RuntimeError):
            return None  # trio may have one still; that it is so is no failure of the work

    def close(self) -> None:
        """End the threads, what is at work once it has done."""
        self._closed = True
        while self._idle:
            self._idle.pop().end()
