"""What is measured, and what a measurement is."""

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

REFERENCE = "netsync"
YARDSTICK = "rsync-tls"


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    source: str
    basis: str | None = None
    flags: tuple[str, ...] = ()


WORKLOADS = (
    Workload("tree-first", "tree of small files, first copy", "tree"),
    Workload("tree-same", "the same tree, nothing changed", "tree", "tree", ("--delete",)),
    Workload("big-first", "large random file, first copy", "big"),
    Workload("big-edit", "1 % of its 4-KiB blocks changed", "big-edit", "big"),
    Workload("big-edit-inplace", "the same, in place", "big-edit", "big", ("--inplace",)),
    Workload("big-insert", "17 bytes inserted in front", "big-insert", "big"),
)


@dataclass(frozen=True)
class Job:
    """One workload with its places on this machine."""

    workload: Workload
    source: Path
    size: int
    module: Path
    basis: Path | None = None

    @property
    def name(self) -> str:
        return "tree" if self.source.is_dir() else "big.img"

    @property
    def target(self) -> Path:
        return self.module / self.name

    @property
    def operands(self) -> tuple[str, str]:
        """Source and path in the module; a slash at the end means a directory's contents."""
        slash = "/" if self.source.is_dir() else ""
        return f"{self.source}{slash}", f"{self.name}{slash}"


@dataclass(frozen=True)
class Run:
    """One timed run; `other_cpu` is what everything else on the machine used meanwhile."""

    seconds: float
    wire_bytes: int
    client_cpu: float
    server_cpu: float
    client_rss: int
    server_rss: int
    other_cpu: float


@dataclass
class Result:
    """All runs of one program on one workload."""

    workload: Workload
    program: str
    runs: list[Run] = field(default_factory=list)

    def median(self) -> Run:
        rows = [asdict(run) for run in self.runs]
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        return Run(**middle)


def ratios(results: list[Result]) -> dict[tuple[str, str], float]:
    """A program's median time over netsync's, by workload and program."""
    seconds = {(r.workload.name, r.program): r.median().seconds for r in results if r.runs}
    return {
        (name, program): time / seconds[name, REFERENCE]
        for (name, program), time in seconds.items()
        if (name, REFERENCE) in seconds
    }
