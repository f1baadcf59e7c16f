"""Run netsync's commands, and show each with what it reported."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prepare.processes import run, say
from prepare.report import split_report

MOST_LINES = 12


class Netsync:
    def __init__(self, program: Path, place: Path) -> None:
        self.program = program
        self._place = place

    def command(self, *words: str) -> None:
        """Run it and show all that it prints."""
        self.show(words)
        self._indent(run([self.program, *words]).strip().splitlines())

    def transfer(self, *words: str) -> None:
        """Run it with --json; show the changed paths, then one line of figures."""
        words = (*words, "--json")
        self.show(words)
        lines, report = split_report(run([self.program, *words]))
        self._indent(lines)
        say(f"  {figures(report)}")

    def show(self, words: Sequence[str]) -> None:
        shown = shlex.join(["netsync", *words]).replace(str(self._place), "$DEMO")
        say(f"  $ {shown}")

    def _indent(self, lines: Sequence[str]) -> None:
        for line in lines[:MOST_LINES]:
            say(f"  {line.replace(str(self._place), '$DEMO')}")
        if len(lines) > MOST_LINES:
            say(f"  ... and {len(lines) - MOST_LINES} more lines")


def figures(report: dict[str, Any]) -> str:
    """One line: what was considered and done, what travelled, how long it took."""
    files, size = report["files"], report["bytes"]
    done = [
        f"{files[name]:,} {name}"
        for name in ("created", "updated", "metadata", "deleted", "failed")
        if files[name]
    ]
    return (
        f"= {files['considered']:,} entries, {', '.join(done) or 'nothing to do'}; "
        f"data sent {amount(size['literal'])}, found there {amount(size['matched'])}; "
        f"wire {amount(size['wire_sent'])} out, {amount(size['wire_received'])} in; "
        f"{report['seconds']:.2f} s"
    )


def amount(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    if count < 1 << 20:
        return f"{count / 1024:.1f} KiB"
    return f"{count / (1 << 20):.1f} MiB"
