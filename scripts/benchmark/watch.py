"""Memory and processor time of processes and all that they start, from /proc."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

TICK = os.sysconf("SC_CLK_TCK")
INTERVAL = 0.05


def descendants(pid: int) -> Iterator[int]:
    """The process and, as far as they are still there, all below it."""
    yield pid
    for child in _children(pid):
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    """Those that any of its threads has started; a process or thread may end meanwhile."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/children").read_text()
                found += map(int, text.split())
    return found


def peak_memory(pid: int) -> int:
    """The largest resident size this process has had; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def cpu_seconds(pid: int) -> float:
    """Its own time and that of children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICK


def busy_seconds() -> float:
    """Processor time of the whole machine: all programs, interrupts, and what the host took."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICK


def settle(pids: Iterable[int], seconds: float = 10.0) -> None:
    """Wait until servers have no children left, so that their time is counted."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        while len(list(descendants(pid))) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)


class MemoryWatch:
    """Looks every 50 ms at the peak memory of the processes of each side."""

    def __init__(self, server: Iterable[int], client: Iterable[int]) -> None:
        self.client = list(client)
        self.server = list(server)
        self.peak_client = 0
        self.peak_server = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        self.peak_client = max(self.peak_client, _largest(self.client))
        self.peak_server = max(self.peak_server, _largest(self.server))


def _largest(roots: Iterable[int]) -> int:
    return max((peak_memory(pid) for root in list(roots) for pid in descendants(root)), default=0)
