"""Telling a monitor elsewhere what a job does, without the job waiting for it.

Each job has a queue of its own, so that what is told arrives in order. A monitor that does not
answer costs an event; one that is slow costs pings, never a run.
"""

from __future__ import annotations

from typing import Final

import trio

from netsync.errors import NetworkError
from netsync.modes.record import Record
from netsync.net.ping import ping, url_for

_WAITING_MAX: Final = 8
"""Pings that wait for slow ones; more are dropped."""
_LAST_SECONDS: Final = 5.0
"""How long the last pings of a job that ends may take."""


class Pinger:
    """Tells ``url``; an empty one is nobody."""

    def __init__(self, url: str, record: Record) -> None:
        self._url = url
        self._record = record
        self._sender, self._receiver = trio.open_memory_channel[str](_WAITING_MAX)
        self._failing = False

    def tell(self, phase: str) -> None:
        """Tell of a phase: ``start``, ``fail``, or nothing for a good end."""
        if self._url:
            try:
                self._sender.send_nowait(phase)
            except trio.WouldBlock:
                self._failing = True

    def close(self) -> None:
        """Tell of nothing more; ``work`` returns when all is told."""
        self._sender.close()

    async def work(self) -> None:
        """Tell, until closed."""
        async for phase in self._receiver:
            try:
                await trio.to_thread.run_sync(
                    ping, url_for(self._url, phase), abandon_on_cancel=True
                )
            except NetworkError as error:
                if not self._failing:
                    await self._record.note("ping", str(error))
                self._failing = True
            else:
                self._failing = False


def told(pinger: Pinger, nursery: trio.Nursery) -> None:
    """Close a pinger that works in ``nursery``, and give it a moment for what it has to tell."""
    pinger.close()
    nursery.cancel_scope.deadline = trio.current_time() + _LAST_SECONDS
