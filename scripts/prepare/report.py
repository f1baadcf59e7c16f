"""The JSON report that ends the output of netsync --json."""

import json
from typing import Any

from prepare.processes import StepError


def split_report(output: str) -> tuple[list[str], dict[str, Any]]:
    """The lines before the report, and the report: the JSON object that ends the output."""
    lines = output.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("{")]
    for number in reversed(starts):
        try:
            report = json.loads("\n".join(lines[number:]))
        except ValueError:
            continue
        return lines[:number], report
    raise StepError(f"no report in the output of netsync --json:\n{output}")
