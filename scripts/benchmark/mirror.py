"""`scripts/bench mirror`: a mirror's mount beside a directory that is not mirrored, and commits.

Backing directory and standby lie on an ext4 of their own each, on loop devices; the standby's
server is on loopback. Each figure is measured on a directory beside the backing one (what is
written into that behind the mirror's back does not fit its log), and then on the mount, so that a
noisy minute meets both. Flushes are measured with the images on the disk, bulk data once more with
images in memory: three copies of it go to one disk, so a machine with one would measure that.
"""

import argparse
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from prepare import debian, venv
from prepare.processes import Process, StepError, run, say

from benchmark import netsync
from benchmark.model import MIB
from benchmark.options import default_cache
from benchmark.space import disk_directory, memory_directory

TOOLS = {"fusermount3": "fuse3", "pkg-config": "pkg-config"}
WRITERS = 16
WRITER = Path(__file__).with_name("writer.py")
COMMITS = 50


@dataclass(frozen=True)
class Figure:
    """One measurement of both, and what is asked of it."""

    name: str
    unit: str
    directory: float
    mount: float
    asked: str
    holds: bool


def main(words: list[str]) -> None:
    """Measure and print; the exit code does not judge."""
    parser = argparse.ArgumentParser(prog="scripts/bench mirror", description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR")
    parser.add_argument("--netsync", default="", metavar="COMMAND", help="use this one")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each rate")
    parser.add_argument("--size", type=int, default=512, metavar="MIB", help="written at once")
    options = parser.parse_args(words)
    if os.geteuid() != 0:
        raise StepError("only root may mount what is measured")
    program = options.netsync.split() or _installed(options.cache.resolve())
    with _opened(program, options.cache.resolve(), options.size) as place:
        rates = _rates(place, options.seconds)
        say(f"\nimages on the disk\n{_table([*rates, *_bulk(place, options.size * MIB)])}")
        _commits(program, place)
    with memory_directory() as memory, _opened(program, memory, options.size) as place:
        say(f"\nimages in memory\n{_table(list(_bulk(place, options.size * MIB, asked=True)))}")


def _installed(cache: Path) -> list[str]:
    """netsync in the benchmark's environment, with what a mount needs."""
    debian.ensure(debian.packages_for(TOOLS), "to mount", required=True)
    program = netsync.installed(cache)
    python = venv.python_of(cache / "venv")
    try:
        run([python, "-c", "import pyfuse3"])
    except StepError:
        debian.ensure(["libfuse3-dev"], "to compile pyfuse3", required=True)
        venv.pip_install(python, "pyfuse3>=3.4")
    return program


@dataclass(frozen=True)
class Place:
    """Where things are: a directory beside the mirrored one, the mount, the standby's disk.

    `address` and `identity` are for a client of the standby, `work` is for files that are not
    measured.
    """

    direct: Path
    mount: Path
    far: Path
    address: str
    identity: Path
    work: Path


@contextmanager
def _opened(program: Sequence[str], images: Path, size: int) -> Iterator[Place]:
    """A mirror at work, with both disks as images in `images` that have room for `size` MiB."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netsync-bench-")))
        room = (1000, 4 * size * MIB)
        near = stack.enter_context(disk_directory(images, *room))
        far = stack.enter_context(disk_directory(images, *room))
        yield stack.enter_context(_mirrored(program, near, far, work))


@contextmanager
def _mirrored(program: Sequence[str], near: Path, far: Path, work: Path) -> Iterator[Place]:
    """A standby on `far`, and a mirror of a directory on `near`, mounted."""
    standby, primary = ["--identity", f"{work}/standby"], ["--identity", f"{work}/primary"]
    for each in (near / "backing", near / "direct", far / "module", work / "mount"):
        each.mkdir()
    run([*program, "cert", "init", *standby, "--name", "standby1", "--host", "127.0.0.1"])
    run([*program, "cert", "issue", *standby, "primary1", "--out", f"{work}/primary"])
    serve = [*program, "serve", *standby, "--state", f"{far}/state", "--listen", "127.0.0.1:0"]
    with Process([*serve, "--module", f"bench={far}/module"], work / "serve.said") as server:
        listens = server.wait_for(r"listening on (\S+)").group(1)
        address = f"netsync://{listens}/bench"
        words = [*program, "mirror", *primary, "--state", f"{near}/state", f"{near}/backing"]
        words += [f"{address}/copy", "--mount", f"{work}/mount"]
        with Process(words, work / "mirror.said") as mirror:
            mirror.wait_for(r"mounted on ", 60)
            yield Place(near / "direct", work / "mount", far, address, work / "primary", work)


def _both(place: Place, measure: Callable[[Path], float]) -> tuple[float, float]:
    return measure(place.direct), measure(place.mount)


def _rates(place: Place, seconds: float) -> Iterator[Figure]:
    """Measure what waits for flushes, one thing after the other."""

    def both(measure: Callable[[Path], float]) -> tuple[float, float]:
        return _both(place, measure)

    one = both(lambda place: sync_rate(place, seconds))
    remote = sync_rate(place.far, seconds)
    bound = min(one[0], 1 / (_round_trip() + 1 / remote))
    yield Figure("4-KiB write + fsync, 1 writer", "/s", *one,
                 f"at least {bound / 2:,.0f}", one[1] >= bound / 2)  # fmt: skip
    dd = both(lambda place: dd_rate(place, seconds))
    yield Figure("dd bs=4k oflag=dsync", "/s", *dd, "", True)
    many = both(lambda place: sync_rate(place, seconds, WRITERS))
    yield Figure(f"the same, {WRITERS} writers", "/s", *many,
                 f"at least {5 * one[1]:,.0f}", many[1] >= 5 * one[1])  # fmt: skip


def _bulk(place: Place, size: int, *, asked: bool = False) -> Iterator[Figure]:
    """Measure a sequential write and reading it; with `asked` they are held to what is."""
    (direct, direct_safe), (mount, mount_safe) = (
        sequential(each, size) for each in (place.direct, place.mount)
    )
    wanted = "at least 300" if asked else ""
    yield Figure("sequential write", " MB/s", direct, mount, wanted, mount >= 300)
    yield Figure("the same with its fsync", " MB/s", direct_safe, mount_safe, "", True)
    read = _both(place, lambda place: warm_reads(place, size))
    yield Figure("warm reads of 1 MiB", " MB/s", *read,
                 f"at least {read[0] / 2:,.0f}", read[1] >= read[0] / 2)  # fmt: skip


def sync_rate(place: Path, seconds: float, writers: int = 1) -> float:
    """Writes of 4 KiB with an fsync each, a second, of all writers together: processes."""
    words = [sys.executable, str(WRITER), str(place), str(seconds)]
    processes = [
        subprocess.Popen([*words, str(number)], stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
        for number in range(writers)
    ]
    return sum(float(process.communicate()[0]) for process in processes)


def dd_rate(place: Path, seconds: float) -> float:
    """What dd does a second, each block with O_DSYNC."""
    count = max(50, int(200 * seconds))
    target = f"of={place}/dd"
    words = ["dd", "if=/dev/zero", target, "bs=4k", f"count={count}", "oflag=dsync"]
    begin = time.monotonic()
    run(words)
    return count / (time.monotonic() - begin)


def sequential(place: Path, size: int) -> tuple[float, float]:
    """MB a second of one writer, in blocks of 1 MiB: until written, and until flushed as well."""
    block = os.urandom(MIB)
    fd = os.open(place / "sequential", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    begin = time.monotonic()
    for _ in range(size // MIB):
        os.write(fd, block)
    passed = time.monotonic() - begin
    os.fsync(fd)
    flushed = time.monotonic() - begin
    os.close(fd)
    return size / passed / 1e6, size / flushed / 1e6


def warm_reads(place: Path, size: int) -> float:
    """MB a second read in blocks of 1 MiB from what was just written, opened anew each time."""
    buffer = mmap.mmap(-1, MIB)
    best = 0.0
    for _ in range(3):
        fd = os.open(place / "sequential", os.O_RDONLY)
        begin = time.monotonic()
        for at in range(0, size, MIB):
            os.preadv(fd, [buffer], at)
        best = max(best, size / (time.monotonic() - begin) / 1e6)
        os.close(fd)
    return best


def _round_trip() -> float:
    """Seconds that a byte takes to another process on loopback and back."""
    import socket  # noqa: PLC0415 - for this alone
    import threading  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := peer.recv(1):
                    peer.sendall(data)

        thread = threading.Thread(target=echo)
        thread.start()
        times = []
        with socket.create_connection(listener.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(300):
                begin = time.monotonic()
                client.sendall(b"x")
                client.recv(1)
                times.append(time.monotonic() - begin)
        thread.join()
    return statistics.median(times)


def _table(figures: Sequence[Figure]) -> str:
    lines = [
        f"\n{'':<32}{'directory':>14}{'mount':>14}  asked of the mount",
        *(
            f"{each.name:<32}{each.directory:>12,.0f}{each.unit:<5}"[:49].ljust(46)
            + f"{each.mount:>12,.0f}{each.unit:<6}"
            + (f"{each.asked}: {'yes' if each.holds else 'NO'}" if each.asked else "")
            for each in figures
        ),
    ]
    return "\n".join(lines)


def _commits(program: Sequence[str], place: Place) -> None:
    """Time `netsync commit`, whole commands, of a small file and of a segment of 16 MiB."""
    say(f"\nnetsync commit, medians of {COMMITS} and {COMMITS // 5} whole commands")
    work = place.work
    state = ["--state", f"{work}/commits", "--identity", str(place.identity)]
    for name, size in (("16 KiB", 16 << 10), ("16 MiB", 16 << 20)):
        file = work / f"file-{size}"
        file.write_bytes(os.urandom(size))
        for way, flags, count in (
            ("a session each", ["--no-resident"], COMMITS // 5), ("with a helper", [], COMMITS)
        ):  # fmt: skip
            times = []
            for number in range(-2, count):
                target = f"{place.address}/commits/{size}-{len(flags)}-{number}"
                begin = time.monotonic()
                run([*program, "commit", *state, *flags, str(file), target])
                if number >= 0:  # the first ones start the helper, and are not counted
                    times.append(time.monotonic() - begin)
                else:
                    time.sleep(1)
            middle = statistics.median(times)
            say(f"{name:<10}{way:<18}{middle * 1e3:>8.1f} ms{1 / middle:>8.1f}/s")
    _end_helpers(work / "commits")


def _end_helpers(state: Path) -> None:
    """End the helpers of our own state directory: they would wait for five minutes."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(state) in words and b"netsync.cli.resident" in words:
            os.kill(int(entry.name), 15)
