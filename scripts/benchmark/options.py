"""The command line of scripts/bench."""

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.model import REFERENCE, WORKLOADS, YARDSTICK, Storage
from benchmark.studies import CLIFF, STUDIES

PROGRAMS = (REFERENCE, YARDSTICK, "rsync-clear", "rsync-ssh")
GROUPS: dict[str, tuple[str, ...]] = {"cliff": CLIFF, "studies": tuple(STUDIES)}
UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


@dataclass(frozen=True)
class Options:
    only: tuple[str, ...]
    studies: tuple[str, ...]
    storages: tuple[Storage, ...]
    programs: tuple[str, ...]
    runs: int
    quick: bool
    cache: Path
    tree: Path | None
    size: int
    rsync_flags: list[str]
    netsync_flags: list[str]
    netsync: list[str]
    json: Path | None
    svg: Path | None
    markdown: bool
    earlier: Path | None


def parse(words: list[str] | None = None) -> Options:
    given = _parser().parse_args(words)
    names = [name for word in given.only or () for name in GROUPS.get(word, (word,))]
    workloads = tuple(workload.name for workload in WORKLOADS)
    return Options(
        only=tuple(name for name in names if name in workloads) if names else workloads,
        studies=tuple(dict.fromkeys(name for name in names if name in STUDIES)),
        storages=tuple(map(Storage, given.storage or tuple(Storage))),
        programs=given.programs or (PROGRAMS[:2] if given.quick else PROGRAMS),
        runs=given.runs or (3 if given.quick else 5),
        quick=given.quick,
        cache=given.cache.resolve(),
        tree=given.tree.resolve() if given.tree else None,
        size=given.size or (64 << 20 if given.quick else 2 << 30),
        rsync_flags=shlex.split(given.rsync_flags),
        netsync_flags=shlex.split(given.netsync_flags),
        netsync=shlex.split(given.netsync),
        json=given.json,
        svg=given.svg,
        markdown=given.markdown,
        earlier=given.earlier,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        allow_abbrev=False,
        description="netsync beside rsync on loopback: the same workloads, alternating runs, "
        "medians. The ratio is a program's time over netsync's.",
        epilog="Workloads: " + "; ".join(f"{w.name}: {w.title}" for w in WORKLOADS) + ". "
        "Studies, of netsync alone and only when named: " + ", ".join(STUDIES) + "; "
        "cliff: " + ", ".join(CLIFF) + "; studies: all of them.",
    )
    names = [*(workload.name for workload in WORKLOADS), *STUDIES, *GROUPS]
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, ends within two minutes")
    add("--only", type=_some_of(names), metavar="W,W", help="these workloads and studies")
    add("--storage", type=_some_of(Storage), metavar="S,S", help="memory, disk (default both)")
    add("--programs", type=_some_of(PROGRAMS), metavar="P,P", help=", ".join(PROGRAMS))
    add("--runs", type=_count, help="timed runs of each (default 5, 3 with --quick)")
    add(
        "--cache",
        type=Path,
        default=default_cache(),
        metavar="DIR",
        help="source data are kept here",
    )
    add("--tree", type=_directory, metavar="DIR", help="copy this tree, not Linux's source")
    add("--size", type=_size, help="size of the large file (default 2G, 64M with --quick)")
    add("--rsync-flags", default="", metavar="FLAGS", help="further options for rsync")
    add("--netsync-flags", default="", metavar="FLAGS", help="further options for netsync push")
    add("--netsync", default="", metavar="COMMAND", help="use this one, install nothing")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--svg", type=Path, metavar="FILE", help="write a chart of the ratios")
    add("--markdown", action="store_true", help="print the README's performance section too")
    add(
        "--from",
        dest="earlier",
        type=Path,
        metavar="FILE",
        help="measure nothing: tables and chart from an earlier --json",
    )
    return parser


def _some_of(names: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    known = tuple(names)

    def convert(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return convert


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?)", text.upper())
    if not found or int(found[1]) << UNITS[found[2]] < 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r}: wants a size of 1M or more, such as 512M")
    return int(found[1]) << UNITS[found[2]]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wants a number above 0")
    return int(text)


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no directory")
    return Path(text)


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "netsync-bench"
