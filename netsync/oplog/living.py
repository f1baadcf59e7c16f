"""Saying again and again how a mirror is, for ``status`` and metrics, as long as it lives.

And once more at its end, since what was said last may be older than what was acknowledged last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from netsync.errors import StateError
from netsync.state.live import CopyLive, PrimaryLive, write_live

LIVE_SECONDS: Final = 1.0
"""How often it is looked whether there is something new to say."""
LAST_SECONDS: Final = 2.0
"""How long an end waits for what is said last: a disk that hangs does not hold it up."""


async def tell_live(directory: Path, look: Callable[[], CopyLive | PrimaryLive | None]) -> None:
    """Say in ``directory`` what ``look`` finds whenever it is new, until it finds nothing.

    Cancelled, it says how things are then.
    """
    told: CopyLive | PrimaryLive | None = None
    try:
        while (live := look()) is not None:
            if live != told:
                await _say(directory, live)
                told = live
            await trio.sleep(LIVE_SECONDS)
    finally:
        last = look()
        if last is not None and last != told:
            with trio.move_on_after(LAST_SECONDS, shield=True):
                await _say(directory, last, abandon=True)


async def _say(directory: Path, live: CopyLive | PrimaryLive, *, abandon: bool = False) -> None:
    with contextlib.suppress(StateError):  # nothing depends on it
        await trio.to_thread.run_sync(write_live, directory, live, abandon_on_cancel=abandon)
