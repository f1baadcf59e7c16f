"""What is measured, and what a measurement is."""

import enum
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

REFERENCE = "netsync"
YARDSTICK = "rsync-tls"
MIB = 1 << 20


class Storage(enum.StrEnum):
    """Where the copy lands, and with it whether both sides flush it."""

    MEMORY = "memory"  # a tmpfs; nobody flushes
    DISK = "disk"  # ext4 on a loop device; everybody flushes


class Kept(enum.StrEnum):
    """The metadata that both sides keep, so that both do the same work."""

    ALL = "all"  # netsync's defaults, rsync -aHAX
    PLAIN = "plain"  # without hard links, xattrs and ACLs: rsync -a


@dataclass(frozen=True)
class Wish:
    """What a workload should reach: ratios at least, bytes on the wire at most."""

    ratio: float
    stretch: float
    wire: int | None = None
    wire_stretch: int | None = None
    disk_ratio: float | None = None
    memory: int = 120 * MIB


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    source: str
    basis: str | None = None
    flags: tuple[str, ...] = ()
    kept: Kept = Kept.ALL
    wish: Wish | None = None


WORKLOADS = (
    Workload(
        "tree-first",
        "tree of small files, first copy",
        "tree",
        wish=Wish(1.5, 1.8, disk_ratio=5.0),
    ),
    Workload(
        "tree-same",
        "the same tree, nothing changed",
        "tree",
        "tree",
        ("--delete",),
        wish=Wish(2.5, 4.0, wire=150_000),
    ),
    Workload(
        "tree-same-plain",
        "the same, without links, xattrs, ACLs",
        "tree",
        "tree",
        ("--delete",),
        kept=Kept.PLAIN,
        wish=Wish(1.5, 2.0, wire=150_000),
    ),
    Workload("big-first", "large random file, first copy", "big", wish=Wish(1.5, 1.7)),
    Workload(
        "big-edit",
        "1 % of its 4-KiB blocks changed",
        "big-edit",
        "big",
        wish=Wish(4.0, 6.0, wire=60_000_000, wire_stretch=30_000_000),
    ),
    Workload(
        "big-edit-inplace",
        "the same, in place",
        "big-edit",
        "big",
        ("--inplace",),
        wish=Wish(4.0, 6.0, wire=60_000_000, wire_stretch=30_000_000),
    ),
    Workload(
        "big-insert",
        "17 bytes inserted in front",
        "big-insert",
        "big",
        wish=Wish(3.0, 5.0, wire=3_000_000, wire_stretch=1_000_000),
    ),
)


@dataclass(frozen=True)
class Job:
    """One workload with its places on this machine; `size` is the source's, in bytes."""

    workload: Workload
    source: Path
    size: int
    module: Path
    basis: Path | None = None
    storage: Storage = Storage.MEMORY

    @property
    def name(self) -> str:
        return "tree" if self.source.is_dir() else "big.img"

    @property
    def target(self) -> Path:
        return self.module / self.name

    @property
    def flushed(self) -> bool:
        return self.storage is Storage.DISK

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

    @property
    def cpu(self) -> float:
        """Seconds of both sides together, with all that helps them (stunnel, ssh)."""
        return self.client_cpu + self.server_cpu

    @property
    def rss(self) -> int:
        """Bytes of the largest process of either side."""
        return max(self.client_rss, self.server_rss)


@dataclass
class Result:
    """All runs of one program on one workload."""

    workload: Workload
    program: str
    storage: Storage = Storage.MEMORY
    runs: list[Run] = field(default_factory=list)

    def median(self) -> Run:
        """The median of each figure for itself."""
        rows = [asdict(run) for run in self.runs]
        return Run(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


Key = tuple[str, Storage, str]


def ratios(results: Sequence[Result]) -> dict[Key, float]:
    """A program's median time over netsync's, by workload, storage and program."""
    seconds = {
        (result.workload.name, result.storage, result.program): result.median().seconds
        for result in results
        if result.runs
    }
    return {
        (name, storage, program): time / seconds[name, storage, REFERENCE]
        for (name, storage, program), time in seconds.items()
        if (name, storage, REFERENCE) in seconds
    }


@dataclass(frozen=True)
class Finding:
    """One figure of a study, and what it may be at most."""

    study: str
    what: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        return "reached" if self.value <= self.limit else "MISSED"


def amount(count: float) -> str:
    """Bytes for people, in powers of 1000, as networks are counted."""
    if count < 10_000_000:
        return f"{count / 1000:,.0f} KB"
    return f"{count / 1_000_000:,.0f} MB"
