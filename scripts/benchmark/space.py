"""Where the targets live: a tmpfs and an ext4 of our own, gone at the end."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prepare.processes import StepError, run, say

from benchmark.model import MIB, Job

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a private directory is made in it
PIECE = bytes(MIB)


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A private tmpfs when this may mount, else a directory in /dev/shm."""
    if _can_mount():
        # As many inodes as wanted: the usual bound is half of the pages of memory.
        how = ["-t", "tmpfs", "-o", "size=90%,nr_inodes=0,mode=700"]
        with (
            tempfile.TemporaryDirectory(prefix="netsync-bench-") as place,
            mounted([*how, "netsync-bench", place], Path(place)),
        ):
            yield Path(place)
    elif SHARED_MEMORY.is_dir():
        with tempfile.TemporaryDirectory(prefix="netsync-bench-", dir=SHARED_MEMORY) as place:
            yield Path(place)
    else:
        raise StepError("no tmpfs to copy to: run as root, or mount one at /dev/shm")


@contextmanager
def disk_directory(cache: Path, entries: int, size: int) -> Iterator[Path]:
    """An ext4 with room for so much in an image in the cache directory; flushing reaches its disk.

    Raises StepError where that cannot be mounted: only root may, and a container may lack loop
    devices.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="disk-", dir=cache) as folder:
        image, place = Path(folder) / "image", Path(folder) / "mounted"
        place.mkdir()
        # Each entry may leave most of a block empty; the journal and tables want some as well.
        room = size + entries * 4096 + 512 * MIB
        run(["fallocate", "-l", str(room), image])
        # All tables are written now: ext4 would do it in the background, during the first runs.
        eager = "lazy_itable_init=0,lazy_journal_init=0"
        inodes = ["-N", str(entries + 10_000)]
        run(["mkfs.ext4", "-q", "-F", "-m", "0", *inodes, "-E", eager, image])
        with mounted(["-o", "loop", "-t", "ext4", str(image), str(place)], place):
            yield place


@contextmanager
def mounted(how: list[str], place: Path) -> Iterator[None]:
    """`mount` with these words; unmounted at the end, also by force."""
    try:
        run(["mount", *how])
        yield
    finally:
        if os.path.ismount(place):
            run(["umount", place], accept=range(256))
        if os.path.ismount(place):
            run(["umount", "-l", place])


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
    if job.flushed:
        os.sync()  # what this wrote must not wait for the run's flushing


def warm_memory(size: int) -> None:
    """Touch as much memory as a copy of `size` bytes may need.

    A virtual machine may have handed its free memory back to the host; fetching it again costs
    seconds for 2 GiB, and would fall on whichever program runs after a pause.
    """
    if size < MIB:
        return
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size - MIB + 1, MIB):
            memory[start : start + MIB] = PIECE


def warn_if_short(needed: int) -> None:
    """Sources in the page cache and targets in tmpfs must fit into memory together."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) << 10
    if available < needed:
        say(f"warning: {available >> 20} MiB of memory are free, {needed >> 20} MiB are wanted;")
        say("         the figures will include waiting for the disk (try --quick or --size)")
