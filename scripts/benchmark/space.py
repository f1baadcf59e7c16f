"""Where the targets live: a tmpfs of our own, gone at the end."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prepare.processes import StepError, run, say

from benchmark.model import Job

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a private directory is made in it


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A private tmpfs when this may mount, else a directory in /dev/shm."""
    if _can_mount():
        with tempfile.TemporaryDirectory(prefix="netsync-bench-") as place:
            run(["mount", "-t", "tmpfs", "-o", "size=90%,mode=700", "netsync-bench", place])
            try:
                yield Path(place)
            finally:
                run(["umount", place], accept=range(256))
                if os.path.ismount(place):
                    run(["umount", "-l", place])
    elif SHARED_MEMORY.is_dir():
        with tempfile.TemporaryDirectory(prefix="netsync-bench-", dir=SHARED_MEMORY) as place:
            yield Path(place)
    else:
        raise StepError("no tmpfs to copy to: run as root, or mount one at /dev/shm")


def _can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory(prefix="netsync-bench-") as place:
        try:
            run(["mount", "-t", "tmpfs", "netsync-bench", place])
        except StepError:
            return False
        run(["umount", place])
    return True


def reset(job: Job) -> None:
    """The target as it was before every run: empty, or holding the old version."""
    keep = job.target if job.basis and job.basis.is_dir() else None
    for path in job.module.iterdir():
        if path != keep:
            run(["rm", "-rf", "--", path])
    if job.basis and not job.target.exists():
        run(["cp", "-a", "--sparse=never", "--reflink=never", "--", job.basis, job.target])


def warm_memory(job: Job) -> None:
    """Touch as much memory as a copy may need.

    A virtual machine may have handed its free memory back to the host; fetching it again costs
    seconds for 2 GiB, and would fall on whichever program runs after a pause.
    """
    filler = job.module / "filler"
    zeros = bytes(1 << 20)
    with filler.open("wb", buffering=0) as file:
        for _ in range(job.size >> 20):
            file.write(zeros)
    filler.unlink()


def warn_if_short(needed: int) -> None:
    """Sources in the page cache and targets in tmpfs must fit into memory together."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) << 10
    if available < needed:
        say(f"warning: {available >> 20} MiB of memory are free, {needed >> 20} MiB are wanted;")
        say("         the figures will include waiting for the disk (try --quick or --size)")
