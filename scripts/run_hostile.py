"""The body of scripts/hostile: the hostile and fault tests in full, and what was tried, as a table.

In the environment of scripts/test, with all programs that the tests use: none is skipped for want.

A test counts as one case, or as many as it says it tried (``record_property("cases", n)``). After
each fault the trees are compared byte for byte, so whatever is lost or torn is a failed test.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from prepare import debian, testing

debian.ensure(
    debian.packages_for(testing.PROGRAMS), "without these some tests are skipped", required=False
)
testing.enter()

import pytest  # noqa: E402 - it is there from here on

ROOT: Final = Path(__file__).resolve().parents[1]
PLACES: Final = (
    "tests/hostile",
    "tests/fault",
    "tests/integration/test_watch.py",
    "tests/integration/test_archive_command.py",
)
KINDS: Final = {
    "test_any_field": "fields of messages overridden",
    "test_lying": "lies of a peer",
    "test_strangers": "strangers, and TLS that is wrong",
    "test_exhaustion": "strangers, and TLS that is wrong",
    "test_moving_tree": "trees that move",
    "test_killed": "runs killed or cut",
    "test_failing_disk": "steps that failed on a broken, full or read-only disk",
    "test_real_disks": "disks that run out, vanish or stand still",
    "test_hung_disk": "disks that run out, vanish or stand still",
    "test_odd_calls": "odd system calls and clocks",
    "test_changing_source": "sources that change while read",
    "test_power_cut": "power cuts",
    "test_mirror": "mirrors killed, cut off, without power",
    "test_commit": "commits killed, their standby away",
    "test_archive": "commits killed, their standby away",
    "test_watch": "watches that are cut, killed, filled up and overrun",
    "test_silent_links": "links that fall silent or crawl",
}
OTHERS: Final = "connections cut and gone on with, load, the rest"


class Account:
    """A plugin of pytest that counts."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.skipped = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how one phase of a test ended."""
        kind = _kind(report.nodeid)
        if report.failed:
            self.failed[kind] += 1
        self.skipped += report.skipped
        if report.when == "call" and report.passed:
            said = dict(report.user_properties).get("cases", 1)
            self.tried[kind] += said if isinstance(said, int) else 1

    def table(self, seconds: float) -> str:
        """Return what was tried and what failed, as Markdown."""
        lines = ["| what was tried | cases | failed |", "|---|---|---|"]
        for kind in dict.fromkeys((*KINDS.values(), OTHERS)):
            if self.tried[kind] or self.failed[kind]:
                lines.append(f"| {kind} | {self.tried[kind]:,} | {self.failed[kind]} |")
        lines.append(f"| all | {self.tried.total():,} | {self.failed.total()} |")
        verdict = "0 bytes lost or torn" if not self.failed else "look at what failed"
        return "\n".join([*lines, "", f"{verdict}; {self.skipped} skipped; {seconds:,.0f} s"])


def _kind(test: str) -> str:
    name = Path(test.partition("::")[0]).name
    return next((KINDS[each] for each in KINDS if name.startswith(each)), OTHERS)


def main(words: list[str]) -> int:
    """Run the tests with other options for pytest in ``words``; return its exit status."""
    os.chdir(ROOT)
    os.environ.setdefault("NETSYNC_HOSTILE_RUNS", "200")
    named = [word for word in words if word.startswith("tests/")]
    account = Account()
    started = time.monotonic()
    options = ["-m", "", "--timeout", "3600", *words, *([] if named else PLACES)]
    status = pytest.main(options, plugins=[account])
    print(account.table(time.monotonic() - started))  # noqa: T201 - what it is for
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
