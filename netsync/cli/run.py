"""Running a command's work in trio, with signals as an orderly end."""

from __future__ import annotations

import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from netsync.errors import InterruptedBySignal, unwrapped

Result = TypeVar("Result")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def collect() -> None:
    """Let the collector work again, which rests while a command is found: what is there stays."""
    gc.freeze()
    gc.enable()


def run_until_signal(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run ``work`` to its end. A signal cancels it: what is staged is dropped, nothing is torn.

    Raises ``InterruptedBySignal`` then, and else what ``work`` raises.
    """
    caught: list[signal.Signals] = []

    async def watch(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                caught.append(signal.Signals(number))
                scope.cancel()

    async def supervise() -> Result:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, nursery.cancel_scope)
            result = await work()
            nursery.cancel_scope.cancel()
            return result
        raise InterruptedBySignal(f"interrupted by {caught[0].name}", hint="run again to go on")

    collect()
    with unwrapped():
        return trio.run(supervise)
    raise AssertionError("unreachable: the body returns or raises")
