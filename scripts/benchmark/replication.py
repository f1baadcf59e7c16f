"""What scripts/watch-bench measures: two daemons over loopback, real TLS, files on a disk.

*Latency*: files are created or written anew at a steady rate. For each it is told how long after
its ``close()`` it is seen at the standby; beside that a barrier is asked for again and again, whose
answer means durable: that span is an upper bound of what the files written just before took.
*Burst*: so many files are created and deleted again as fast as one process can, and some stay; then
it is told how long it takes until both trees are equal. Nothing is asserted but that.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trio
from inotify_simple import INotify, flags
from prepare.processes import say

from netsync.net.control import AwaitJob, ask
from tests.support.places import differences
from tests.support.watching import JOB, WatchedPair

_DIRECTORIES = 20
_SIZE = 4096
_BARRIERS_PER_SECOND = 5.0


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/watch-bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of writing")
    parser.add_argument("--rate", type=float, default=200.0, help="files a second")
    parser.add_argument("--burst", type=int, default=100_000, help="files created and deleted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="netsync-watch-") as base:
        pair = WatchedPair(Path(base))
        with pair.both():
            latency(pair, options.seconds, options.rate)
            burst(pair, options.burst)
    return 0


def latency(pair: WatchedPair, seconds: float, rate: float) -> None:
    """Write files at a rate; tell how soon they are there."""
    for number in range(_DIRECTORIES):
        (pair.source / f"d{number}").mkdir()
    pair.barrier()
    seen: dict[str, float] = {}
    closed: dict[str, float] = {}
    barriers: list[float] = []
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_look, args=(pair.target, seen, stopping)),
        threading.Thread(target=_ask, args=(pair.base / "primary-state", barriers, stopping)),
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    data = os.urandom(_SIZE)
    for number in range(int(seconds * rate)):
        while (wait := began + number / rate - time.monotonic()) > 0:
            time.sleep(wait)
        name = f"d{number % _DIRECTORIES}/f{number}"
        with (pair.source / name).open("wb") as file:
            file.write(data)
        closed[name] = time.monotonic()
    wrote = time.monotonic() - began
    pair.barrier(120)
    time.sleep(0.5)
    stopping.set()
    for thread in threads:
        thread.join()
    spans = [seen[name] - closed[name] for name in closed if name in seen]
    say(f"wrote {len(closed)} files in {wrote:.1f} s, {len(closed) / wrote:.0f} a second")
    _tell("seen at the standby after close()", spans)
    _tell("durable there (barrier asked to answered)", barriers)


def _look(target: Path, seen: dict[str, float], stopping: threading.Event) -> None:
    """Note when files get their names."""
    inotify = INotify(nonblocking=True)
    places = {
        inotify.add_watch(target / f"d{number}", flags.MOVED_TO | flags.CREATE): f"d{number}"
        for number in range(_DIRECTORIES)
    }
    while not stopping.is_set():
        for event in inotify.read(timeout=50):
            seen.setdefault(f"{places[event.wd]}/{event.name}", time.monotonic())
    inotify.close()


def _ask(state: Path, spans: list[float], stopping: threading.Event) -> None:
    """Ask for barriers, one after the other."""

    async def once() -> None:
        began = trio.current_time()
        answer = await ask(state, AwaitJob(JOB), lambda _: None)
        if answer.code == 0:
            spans.append(trio.current_time() - began)
        else:
            say(f"barrier: {answer.code} {answer.words}")
        await trio.sleep(max(0.0, 1 / _BARRIERS_PER_SECOND - (trio.current_time() - began)))

    async def again() -> None:
        while not stopping.is_set():
            await once()

    trio.run(again)


def burst(pair: WatchedPair, count: int) -> None:
    """Create and delete files as fast as can be; tell how long it takes until all is equal."""
    place = pair.source / "burst"
    place.mkdir()

    def storm() -> None:
        for number in range(count):
            with (place / f"f{number}").open("wb") as file:
                file.write(b"x" * (number % 100))
            if number % 10:
                (place / f"f{number - 1}").unlink(missing_ok=True)

    took = _timed(storm)
    converged = _timed(lambda: pair.barrier(600))
    left = len(os.listdir(place))
    assert differences(pair.source, pair.target) == ""
    say(
        f"burst: {count} created, {count - left} deleted, {left} left, in {took:.1f} s; "
        f"equal and durable {converged:.1f} s later; compared whole {pair.looks()} times so far"
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _tell(what: str, spans: Sequence[float]) -> None:
    ordered = sorted(spans)
    if not ordered:
        say(f"{what}: nothing measured")
        return
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    say(
        f"{what}: {len(ordered)} measured, median {statistics.median(ordered) * 1000:.0f} ms, "
        f"p99 {worst * 1000:.0f} ms, worst {ordered[-1] * 1000:.0f} ms"
    )
