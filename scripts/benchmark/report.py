"""The table, the JSON file and the note of the machine."""

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prepare.processes import run

from benchmark.model import Result, ratios
from benchmark.options import Options

HEAD = ("workload", "program", "seconds", "ratio", "wire", "RSS MiB", "CPU s")
DISTURBED = 0.1
NOTES = "RSS and CPU: client's side / server's side. Ratio: this program's time over netsync's."


def table(results: Sequence[Result]) -> str:
    rows = [HEAD, *_rows(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = []
    for row in rows:
        first = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
        rest = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*first, *rest]).rstrip())
    return "\n".join([*lines, "", NOTES, *_disturbed(results)])


def _disturbed(results: Sequence[Result]) -> list[str]:
    """A warning where other programs had more than a tenth of the machine in a median run."""
    cores = os.cpu_count() or 1
    medians = [result.median() for result in results]
    worst = max((run.other_cpu / (run.seconds * cores) for run in medians), default=0.0)
    if worst <= DISTURBED:
        return []
    return [f"WARNING: up to {worst:.0%} of the machine went to other programs; repeat when idle."]


def _rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    ratio = ratios(list(results))
    rows: list[tuple[str, ...]] = []
    last = ""
    for result in results:
        name, middle = result.workload.name, result.median()
        share = ratio.get((name, result.program))
        rows.append(
            (
                name if name != last else "",
                result.program,
                f"{middle.seconds:.2f}",
                f"{share:.2f}" if share else "-",
                amount(middle.wire_bytes),
                f"{middle.client_rss / 2**20:.0f} / {middle.server_rss / 2**20:.0f}",
                f"{middle.client_cpu:.2f} / {middle.server_cpu:.2f}",
            )
        )
        last = name
    return rows


def amount(count: float) -> str:
    if count < 10_000_000:
        return f"{count / 1000:,.0f} KB"
    return f"{count / 1_000_000:,.0f} MB"


def machine(netsync: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on; netsync's own --version names its Python and OpenSSL."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": memory >> 20,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "python": platform.python_version(),
        "openssl": run(["openssl", "version"]).partition("(")[0].strip(),
        "rsync": " ".join(run(["rsync", "--version"]).split()[:3]),
        "netsync": run([*netsync, "--version"]).strip() if netsync else None,
    }


def write_json(
    path: Path,
    options: Options,
    about: Mapping[str, Any],
    sizes: Mapping[str, tuple[int, int]],
    results: Sequence[Result],
) -> None:
    ratio = ratios(list(results))
    document = {
        "schema": "netsync.bench/1",
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": about,
        "settings": {
            "quick": options.quick,
            "runs": options.runs,
            "rsync_flags": options.rsync_flags,
            "netsync_flags": options.netsync_flags,
            "target": "tmpfs",
        },
        "sources": {name: {"entries": n, "bytes": size} for name, (n, size) in sizes.items()},
        "results": [
            {
                "workload": result.workload.name,
                "title": result.workload.title,
                "flags": result.workload.flags,
                "program": result.program,
                "ratio": ratio.get((result.workload.name, result.program)),
                "median": asdict(result.median()),
                "runs": [asdict(run) for run in result.runs],
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
