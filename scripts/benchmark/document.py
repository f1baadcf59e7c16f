"""The JSON file: everything that was measured, and enough to write tables and chart again.

`schema` is netsync.bench/1. `results` has an entry for each workload, storage and program, with
`ratio` (its median time over netsync's), `median` (of each figure for itself) and `runs` (all of
them, in the order in which they ran); `findings` has the figures of the studies. Times are
seconds, sizes bytes.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from prepare.processes import StepError

from benchmark.model import WORKLOADS, Finding, Result, Run, Storage, Workload, ratios

SCHEMA = "netsync.bench/1"


@dataclass(frozen=True)
class Document:
    """One run of scripts/bench: `sources` tells entries, bytes and origin of each."""

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, Any]]
    results: Sequence[Result]
    findings: Sequence[Finding] = ()
    when: str = ""

    @property
    def runs(self) -> str:
        """How many a median is of, in words: a slow machine may have made fewer."""
        least, most = self.settings["runs"], self.settings["runs"]
        if counts := [len(result.runs) for result in self.results]:
            least, most = min(counts), max(counts)
        words = f"{least} to {most}" if least < most else str(most)
        return f"{words} runs" if most > 1 else "1 run"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write(path: Path, document: Document) -> None:
    ratio = ratios(document.results)
    content = {
        "schema": SCHEMA,
        "when": document.when,
        "machine": document.machine,
        "settings": document.settings,
        "sources": document.sources,
        "results": [
            {
                "workload": result.workload.name,
                "title": result.workload.title,
                "flags": result.workload.flags,
                "kept": result.workload.kept,
                "storage": result.storage,
                "program": result.program,
                "ratio": ratio.get((result.workload.name, result.storage, result.program)),
                "median": asdict(result.median()),
                "runs": [asdict(run) for run in result.runs],
            }
            for result in document.results
        ],
        "findings": [asdict(finding) for finding in document.findings],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def read(path: Path) -> Document:
    """What `write` wrote; raises StepError for anything else."""
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise StepError(f"{path}: its schema is {content['schema']!r}, not {SCHEMA!r}")
        return Document(
            machine=content["machine"],
            settings=content["settings"],
            sources=content["sources"],
            results=[_result(entry) for entry in content["results"]],
            findings=[Finding(**_known(Finding, entry)) for entry in content["findings"]],
            when=content["when"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepError(f"{path}: not a file of scripts/bench --json: {error}") from error


def _result(entry: Mapping[str, Any]) -> Result:
    name = entry["workload"]
    known = {workload.name: workload for workload in WORKLOADS}
    workload = known.get(name) or Workload(name, entry["title"], name)
    runs = [Run(**_known(Run, run)) for run in entry["runs"]]
    return Result(workload, entry["program"], Storage(entry["storage"]), runs)


def _known(kind: type[Run] | type[Finding], entry: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: entry[field.name] for field in fields(kind)}
