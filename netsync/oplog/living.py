"""Saying again and again how a mirror is, for ``status`` and metrics, as long as it lives."""

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


async def tell_live(directory: Path, look: Callable[[], CopyLive | PrimaryLive | None]) -> None:
    """Say in ``directory`` what ``look`` finds whenever it is new, until it finds nothing."""
    told: CopyLive | PrimaryLive | None = None
    while (live := look()) is not None:
        if live != told:
            with contextlib.suppress(StateError):  # nothing depends on it
                await trio.to_thread.run_sync(write_live, directory, live)
            told = live
        await trio.sleep(LIVE_SECONDS)
