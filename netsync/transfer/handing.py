"""Handing values from task to task without a visit to the scheduler where there is room."""

from __future__ import annotations

from typing import TypeVar

import trio

Value = TypeVar("Value")


async def hand_on(to: trio.MemorySendChannel[Value], value: Value) -> None:
    """Send ``value`` like ``to.send``; what finds room goes at once, and is no checkpoint.

    The queue's bound sees to it that whoever takes has its turn.
    """
    try:
        to.send_nowait(value)
    except trio.WouldBlock:
        await to.send(value)
