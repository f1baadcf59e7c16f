"""The live display on a terminal: files, bytes, rate, and an ETA that never runs backwards.

While the source is still listing, the total is not known and no percentage is shown; after that
neither percentage nor remaining time ever goes the wrong way, because a display that takes a
promise back is worse than none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from netsync.cli.report import print_items
from netsync.model import Item

REFRESH_PER_SECOND: Final = 5
WARM_UP_SECONDS: Final = 2.0
"""No estimate before: the first bytes only fill buffers, and would promise too much."""
_UNIT: Final = 1024.0


class Estimate:
    """Remaining seconds from bytes still to settle; no answer is more than the one before.

    ``clock`` returns seconds. When the rate drops the last answer is held until it is true again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._least: float | None = None

    def remaining(self, done: int, total: int) -> float | None:
        """Return seconds left, or None while nothing can be said."""
        elapsed = self._clock() - self._started
        if done <= 0 or elapsed < WARM_UP_SECONDS:
            return None
        left = (total - done) * elapsed / done
        self._least = left if self._least is None else min(left, self._least)
        return self._least


class Display:
    """An observer that prints itemized lines and, if ``live``, shows progress on stderr."""

    def __init__(self, *, live: bool, itemize: bool) -> None:
        self._itemize = itemize
        self._files = 0
        self._total = 0
        self._settled = 0
        self._under_way = 0
        self._done = 0
        self._complete = False
        self._percent = 0
        self._started = time.monotonic()
        self._estimate: Estimate | None = None
        self._live = (
            Live(
                get_renderable=self.render,
                console=Console(file=sys.stderr),
                refresh_per_second=REFRESH_PER_SECOND,
                transient=sys.stderr.isatty(),
            )
            if live
            else None
        )

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        """Take how much is known to exist."""
        self._files, self._total = files, size
        if complete and not self._complete:
            self._complete = True
            self._estimate = Estimate()

    def settled(self, size: int) -> None:
        """Take how much more is as it should be."""
        self._settled += size

    def under_way(self, size: int) -> None:
        """Take how far the large file is that is being sent."""
        self._under_way = size

    def items(self, items: Sequence[Item]) -> None:
        """Print itemized lines as they come."""
        if self._itemize:
            print_items(items)

    def render(self) -> Text:
        """Return the line as it is now."""
        # A file that has gone over but is not settled yet must not make the display fall back.
        self._done = max(self._done, min(self._settled + self._under_way, self._total))
        elapsed = time.monotonic() - self._started
        rate = self._done / elapsed if elapsed > 0 else 0.0
        parts = [f"{self._files:,} entries", f"{in_units(self._done)} of {in_units(self._total)}"]
        if self._complete and self._total:
            self._percent = max(self._percent, min(100, self._done * 100 // self._total))
            parts.append(f"{self._percent} %")
        parts.append(f"{in_units(int(rate))}/s")
        parts.append(self._time_left() if self._complete else "listing")
        return Text("  ".join(parts))

    def _time_left(self) -> str:
        assert self._estimate is not None
        left = self._estimate.remaining(self._done, self._total)
        if left is None:
            return "ETA unknown"
        minutes, seconds = divmod(round(left), 60)
        return f"ETA {minutes // 60}:{minutes % 60:02}:{seconds:02}"


def in_units(size: int) -> str:
    """Return ``size`` bytes for a reader: three digits and a unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _UNIT:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _UNIT
    return f"{value:.1f} TiB"
