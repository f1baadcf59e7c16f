"""The README's performance section: nothing in it but figures that were measured."""

from collections.abc import Sequence
from itertools import compress

from benchmark.document import Document
from benchmark.model import MIB, REFERENCE, YARDSTICK, Finding, Result, Storage, amount, ratios
from benchmark.report import shown

NOTHING = "-"
HEAD = (
    "",
    "netsync",
    "rsync over TLS",
    "ratio",
    "ratio, both flushing to a disk",
    "wire, netsync / rsync",
    "peak RSS, netsync / rsync",
    "CPU, netsync / rsync",
)


def section(document: Document) -> str:
    """Where and how, the table of the workloads, and the table of the studies."""
    parts = [_preface(document)]
    rows = _rows(document.results)
    if rows:
        parts.append(_table([HEAD, *rows]))
    if document.findings:
        parts.append(_table([("", "found", "at most"), *map(_finding, document.findings)]))
    return "\n\n".join(parts)


def _preface(document: Document) -> str:
    about, settings = document.machine, document.settings
    dirty = str(about["commit"] or "").endswith("+")
    commit = str(about["commit"] or "unknown")[:12] + (" with changes" if dirty else "")
    sizes = "; ".join(
        f"{name}: {each['origin']}, {_entries(each['entries'])}{amount(each['bytes'])}"
        for name, each in document.sources.items()
    )
    words = [
        f"Medians of {document.runs}, alternating, over loopback, {document.when[:10]}, ",
        f"commit {commit}: {about['cpu']}, {about['cores']} cores, {about['memory_mib']:,} MiB, ",
        f"Linux {about['kernel']}, Python {about['python']}, {about['openssl']}, ",
        f"{about['rsync']}, {about['stunnel']}.",
    ]
    if settings["lacks"]:
        words.append(f" This netsync does not keep {' and '.join(settings['lacks'])}, rsync does.")
    if sizes:
        words.append(f" Sources: {sizes}.")
    if settings["quick"]:
        words.append(" Quick sizes: they say whether all works, not how fast it is.")
    return "".join(words)


def _entries(count: int) -> str:
    return f"{count:,} entries, " if count > 1 else ""


def _rows(results: Sequence[Result]) -> list[Sequence[str]]:
    """A row for each workload that both netsync and the yardstick ran, on either storage."""
    ratio = ratios(results)
    found = {(each.workload.name, each.storage, each.program): each for each in results}
    titles = {each.workload.name: each.workload.title for each in results}
    rows: list[Sequence[str]] = []
    for name, title in titles.items():
        mine = found.get((name, Storage.MEMORY, REFERENCE))
        other = found.get((name, Storage.MEMORY, YARDSTICK))
        disk = ratio.get((name, Storage.DISK, YARDSTICK))
        last = f"{disk:.2f}" if disk else NOTHING
        if mine and other:
            ours, theirs = mine.median(), other.median()
            rows.append(
                (
                    title,
                    f"{ours.seconds:.2f} s",
                    f"{theirs.seconds:.2f} s",
                    f"{ratio[name, Storage.MEMORY, YARDSTICK]:.2f}",
                    last,
                    f"{amount(ours.wire_bytes)} / {amount(theirs.wire_bytes)}",
                    f"{ours.rss / MIB:.0f} / {theirs.rss / MIB:.0f} MiB",
                    f"{ours.cpu:.1f} / {theirs.cpu:.1f} s",
                )
            )
        elif disk:
            rows.append((title, *[NOTHING] * 3, last, *[NOTHING] * 3))
    return rows


def _finding(finding: Finding) -> Sequence[str]:
    limit = NOTHING if finding.limit is None else f"{finding.limit:g} {finding.unit}"
    return f"{finding.study}: {finding.what}", f"{shown(finding)} {finding.unit}", limit


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows``, the first of which is the head, without columns that hold nothing."""
    held = [any(each != NOTHING for each in column[1:]) for column in zip(*rows, strict=True)]
    head, *others = [list(compress(row, held)) for row in rows]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *others])
