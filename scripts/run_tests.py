"""The body of scripts/test: an environment of its own, the checks, the tests with both kernels."""

import argparse
import os
import re
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from prepare import debian, testing, venv
from prepare.processes import (
    Command,
    StepError,
    environment,
    exit_on_signals,
    run,
    say,
    step,
    stream,
)

ROOT = venv.ROOT
PURE = (
    "tests/unit/delta",
    "tests/contract",
    "tests/property",
    "tests/integration/test_oracle.py",
)
WORKERS = ("--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder")
"""Many tests wait for a process or a disk, so two files run at a time, those that take long first.
A file's tests stay together and in order: what it serves or mounts is made once."""
NOTHING_COLLECTED = 5
CLOSING = re.compile(r"^(=+ )?.*\b\d+ (passed|failed|errors?|skipped|deselected)\b.* in [\d.]+s")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True)
class Outcome:
    name: str
    status: int
    closing: str = ""


def main() -> int:
    options, rest = arguments()
    missing = debian.packages_for(testing.PROGRAMS)
    debian.ensure(missing, "without these some tests are skipped", required=False)
    python = testing.prepare_environment()
    outcomes = [check(python, *words) for words in checks()]
    outcomes.append(tests(python, "compiled", rest))
    if not options.quick:
        outcomes.append(tests(python, "pure", paths_for_pure(rest)))
    return report(outcomes)


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        allow_abbrev=False,
        description="Formatting, types, all tests with the compiled delta kernel, and those that "
        "touch the kernel again with the pure one; two files of tests at a time.",
        epilog="Everything else on the command line goes to pytest (-n0: one test at a time).",
    )
    parser.add_argument("--quick", action="store_true", help="leave out the pure kernel")
    return parser.parse_known_args()


def checks() -> list[tuple[str, ...]]:
    return [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy", "--strict"),
    ]


def check(python: Path, *words: str) -> Outcome:
    name = " ".join(words)
    try:
        with step(name):
            # mypy then knows the scripts' modules by the names they import each other by.
            env = environment(MYPYPATH=str(ROOT / "scripts"))
            run([python, "-m", *words], cwd=ROOT, env=env)
    except StepError as failure:
        say(str(failure))
        return Outcome(name, 1)
    return Outcome(name, 0)


def paths_for_pure(rest: list[str]) -> list[str]:
    """The folders where the kernel matters, unless the caller named paths."""
    if any((ROOT / word.partition("::")[0]).exists() for word in rest if word[:1] != "-"):
        return rest
    return [*rest, *(path for path in PURE if (ROOT / path).exists())]


def tests(python: Path, kernel: str, words: list[str]) -> Outcome:
    name = f"pytest, {kernel} kernel"
    say(f"\n{name}")
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    command: Command = [python, "-m", "pytest", *WORKERS, *colour, *words]
    lines = stream(command, cwd=ROOT, env=environment(NETSYNC_KERNEL=kernel))
    status, closing = show(lines)
    if status == NOTHING_COLLECTED and kernel == "pure" and words:
        status = 0
    return Outcome(name, status, closing)


def show(lines: Generator[str, None, int]) -> tuple[int, str]:
    """Show them; the exit status and the runner's closing line."""
    closing = ""
    while True:
        try:
            line = next(lines)
        except StopIteration as end:
            return int(end.value), closing
        say(line, end="")
        bare = COLOUR.sub("", line).rstrip()
        if CLOSING.match(bare):
            closing = bare


def report(outcomes: list[Outcome]) -> int:
    """The closing line of pytest stands last: that of the first run that failed, if one did."""
    bad = [outcome for outcome in outcomes if outcome.status]
    say()
    for outcome in bad:
        say(f"FAILED: {outcome.name}")
    runs = [outcome for outcome in outcomes if outcome.closing]
    runs.sort(key=lambda outcome: (outcome.status != 0, "compiled" in outcome.name))
    for outcome in runs:
        say(f"{outcome.name}:\n{outcome.closing}")
    tested = [outcome.status for outcome in bad if outcome.name.startswith("pytest")]
    return (tested or [outcome.status for outcome in bad] or [0])[0]


if __name__ == "__main__":
    exit_on_signals()
    os.chdir(ROOT)
    try:
        sys.exit(main())
    except StepError as failure:
        sys.exit(f"scripts/test: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
