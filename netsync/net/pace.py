"""``--bwlimit``: a token bucket that spreads what is sent evenly over time."""

from __future__ import annotations

from typing import Final

import trio

BURST_SECONDS: Final = 0.1
"""How much of a second's allowance may go out at once: short enough to look even to a router."""
SLICE_MIN: Final = 1024
"""Bytes: below this the cost of a call outweighs an even flow."""


class Pace:
    """Bytes per second that may be spent; 0 means no limit."""

    def __init__(self, rate: int = 0) -> None:
        self.rate = rate
        self._free_at = 0.0

    def slice(self, most: int) -> int:
        """Return how many bytes to send in one go, at most ``most``."""
        if not self.rate:
            return most
        return max(SLICE_MIN, min(most, int(self.rate * BURST_SECONDS)))

    async def spend(self, count: int) -> None:
        """Wait until ``count`` bytes more may be sent."""
        if not self.rate:
            return
        now = trio.current_time()
        start = max(now, self._free_at)
        self._free_at = start + count / self.rate
        await trio.sleep_until(start)
