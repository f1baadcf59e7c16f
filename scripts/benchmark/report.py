"""The tables as the terminal shows them."""

import os
from collections.abc import Sequence

from benchmark.model import MIB, Finding, Result, Storage, amount, ratios
from benchmark.verdicts import verdicts

HEAD = ("workload", "program", "seconds", "ratio", "wire", "RSS MiB", "CPU s")
DISTURBED = 0.1
NOTES = (
    "RSS: the largest process of the client's / the server's side. CPU: both sides together.\n"
    "Ratio: this program's time over netsync's."
)
TITLES = {
    Storage.MEMORY: "In memory (tmpfs), nobody flushes",
    Storage.DISK: "On disk (ext4 on a loop device), everybody flushes (rsync --fsync)",
}


def tables(results: Sequence[Result], *, judged: bool) -> str:
    """One table for each kind of storage, a warning if the machine was busy, and the verdicts."""
    parts: list[str] = []
    for storage, title in TITLES.items():
        chosen = [result for result in results if result.storage is storage]
        if chosen:
            parts += [title, "", columns([HEAD, *_rows(chosen)]), ""]
    parts += [NOTES, *_disturbed(results)]
    if judged and (judgements := [verdict.cells() for verdict in verdicts(results)]):
        head = ("workload", "what", "measured", "wanted", "stretch", "")
        parts += ["", columns([head, *judgements])]
    return "\n".join(parts)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns: the first two are words and flush left, so is one without a heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number < 2 or not rows[0][number] else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _disturbed(results: Sequence[Result]) -> list[str]:
    """A warning where other programs had more than a tenth of the machine in a median run."""
    cores = os.cpu_count() or 1
    medians = [result.median() for result in results]
    worst = max((run.other_cpu / (run.seconds * cores) for run in medians), default=0.0)
    if worst <= DISTURBED:
        return []
    return [f"WARNING: up to {worst:.0%} of the machine went to other programs; repeat when idle."]


def _rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    ratio = ratios(results)
    rows: list[tuple[str, ...]] = []
    last = ""
    for result in results:
        name, middle = result.workload.name, result.median()
        share = ratio.get((name, result.storage, result.program))
        rows.append(
            (
                name if name != last else "",
                result.program,
                f"{middle.seconds:.2f}",
                f"{share:.2f}" if share else "-",
                amount(middle.wire_bytes),
                f"{middle.client_rss / MIB:.0f} / {middle.server_rss / MIB:.0f}",
                f"{middle.cpu:.2f}",
            )
        )
        last = name
    return rows


def found(findings: Sequence[Finding]) -> str:
    """The table of what the studies found."""
    rows: list[Sequence[str]] = [("study", "what", "figure", "unit", "at most", "")]
    for each in findings:
        limit = "" if each.limit is None else f"{each.limit:g}"
        rows.append((each.study, each.what, shown(each), each.unit, limit, each.verdict))
    return columns(rows)


def shown(finding: Finding) -> str:
    return f"{finding.value:,.0f}" if finding.value >= 100 else f"{finding.value:.2f}"
