"""What the ratios do not show: memory that grows with the tree, cliffs, and long lines.

A study copies data made to be hard, with netsync alone, and compares the time with that for data
of the same size that is not: the figure is a quotient, so the machine's speed hardly matters. Its
data are made in memory, and removed when it ends.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prepare.processes import run, say

from benchmark import corpora
from benchmark.measure import Case, alternate
from benchmark.model import MIB, Finding, Job, Result, Workload
from benchmark.netsync import DistantNetsync, Netsync

ROUND_TRIP = 0.05
"""Seconds of the long line."""

QUICK = 50
"""The quick size is this part of the full one."""


@dataclass(frozen=True)
class Ground:
    """Where studies take place: a tmpfs, a directory for what programs need, how much and often."""

    program: Sequence[str]
    memory: Path
    place: Path
    runs: int
    quick: bool

    @property
    def netsync(self) -> Netsync:
        return Netsync(self.program, self.place, [])

    def part(self, count: int) -> int:
        return count // QUICK if self.quick else count

    def source(self, name: str) -> Path:
        folder = self.memory / "sources"
        folder.mkdir(exist_ok=True)
        return folder / name

    def job(self, title: str, source: Path, basis: Path | None = None) -> Job:
        """Copy the source, over the basis if one is given."""
        module = self.memory / "module"
        module.mkdir(exist_ok=True)
        size = 0 if source.is_dir() else source.stat().st_size
        return Job(Workload(title, title, title), source, size, module, basis)

    def results(self, cases: Sequence[Case], runs: int | None = None) -> dict[str, Result]:
        """Alternating runs of all cases, by the names of their workloads."""
        results = alternate(cases, runs or self.runs, self.place)
        return {case[1].workload.name: result for case, result in zip(cases, results, strict=True)}

    def clear(self) -> None:
        for path in self.memory.iterdir():
            run(["rm", "-rf", "--", path])


def _slower(study: str, results: Mapping[str, Result], usual: str) -> list[Finding]:
    """How often the usual data's time each of the others took: twice is allowed."""
    median = {name: statistics.median(run.seconds for run in r.runs) for name, r in results.items()}
    return [
        Finding(study, f"{name} / {usual}", seconds / median[usual], "times as long", 2.0)
        for name, seconds in median.items()
        if name != usual
    ]


def memory(ground: Ground) -> list[Finding]:
    """A million empty files: the largest process, and what one more file costs it."""
    half, whole = ground.part(500_000), ground.part(1_000_000)
    folders = ground.part(1_000)
    peaks: dict[int, tuple[int, int]] = {}
    for count in (half, whole):
        source = ground.source(f"files-{count}")
        corpora.files(source, count, folders)
        title = f"{count:,} empty files"
        result = ground.results([(ground.netsync, ground.job(title, source))], 1)[title]
        middle = result.median()
        peaks[count] = middle.client_rss, middle.server_rss
        ground.clear()
    largest = Finding("memory", f"{whole:,} empty files", max(peaks[whole]) / MIB, "MiB", 250.0)
    growth = [
        Finding("memory", f"each further file, {side}", (after - before) / (whole - half), "bytes")
        for side, before, after in zip(("client", "server"), peaks[half], peaks[whole], strict=True)
    ]
    return [largest, *growth]


def zeros(ground: Ground) -> list[Finding]:
    """Equal blocks everywhere: each block of zeros is found in any other."""
    size = ground.part(1024) * MIB
    old, new, plain, changed = map(ground.source, ("noise", "noise-edit", "zeros", "zeros-edit"))
    corpora.noise(old, size, 1)
    corpora.edited(new, old)
    corpora.level(plain, size, 0)
    corpora.edited(changed, plain)
    jobs = (
        ground.job("random", new, old),
        ground.job("zeros to edited zeros", changed, plain),
        ground.job("edited zeros to zeros", plain, changed),
    )
    return _slower("zeros", ground.results([(ground.netsync, job) for job in jobs]), "random")


def collisions(ground: Ground) -> list[Finding]:
    """Blocks that all have one weak checksum, against data that have it at every offset."""
    size = ground.part(1024) * MIB
    old, new, crafted, other, level = map(
        ground.source, ("noise-1", "noise-2", "colliding-1", "colliding-2", "level")
    )
    corpora.noise(old, size, 1)
    corpora.noise(new, size, 2)
    corpora.collisions(crafted, size)
    corpora.collisions(other, size, size // corpora.UNIT)
    corpora.level(level, size, corpora.LEVEL)
    jobs = (
        ground.job("random", new, old),
        ground.job("collision at every offset", level, crafted),
        ground.job("collision in every block", other, crafted),
    )
    return _slower("collisions", ground.results([(ground.netsync, job) for job in jobs]), "random")


def flat(ground: Ground) -> list[Finding]:
    """Half a million files in one directory, against the same in a thousand."""
    count = ground.part(500_000)
    spread, single = ground.source("spread"), ground.source("single")
    corpora.files(spread, count, ground.part(1_000))
    corpora.files(single, count, 1)
    jobs = ground.job("many directories", spread), ground.job("one directory", single)
    results = ground.results([(ground.netsync, job) for job in jobs])
    return _slower("flat", results, "many directories")


def deep(ground: Ground) -> list[Finding]:
    """A thousand levels, against a thousand directories beside each other."""
    wide, narrow = ground.source("wide"), ground.source("deep")
    corpora.files(wide, 1_000, 1_000, 5)
    corpora.deep(narrow, 1_000)
    jobs = ground.job("side by side", wide), ground.job("1,000 levels", narrow)
    results = ground.results([(ground.netsync, job) for job in jobs])
    return _slower("deep", results, "side by side")


def latency(ground: Ground) -> list[Finding]:
    """Small files over a long line: waiting for one answer after the other would show."""
    count = ground.part(20_000)
    source = ground.source("small")
    corpora.files(source, count, max(1, count // 100), 1_000)
    cases: list[Case] = []
    for title, delay in (("0 ms", 0.0), (f"{1000 * ROUND_TRIP:.0f} ms", ROUND_TRIP)):
        far = DistantNetsync(ground.program, ground.place, delay)
        cases.append((far, ground.job(title, source)))
    return _slower("latency", ground.results(cases), "0 ms")


STUDIES: dict[str, Callable[[Ground], list[Finding]]] = {
    "memory": memory,
    "zeros": zeros,
    "collisions": collisions,
    "flat": flat,
    "deep": deep,
    "latency": latency,
}
CLIFF = ("zeros", "collisions", "flat", "deep")


def investigate(ground: Ground, names: Sequence[str]) -> list[Finding]:
    """The findings of these studies, one study after the other."""
    findings: list[Finding] = []
    for name in names:
        study = STUDIES[name]
        say(f"\n{name}: {(study.__doc__ or '').splitlines()[0]}")
        try:
            findings += study(ground)
        finally:
            ground.clear()
    return findings
