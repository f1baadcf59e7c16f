"""The body of scripts/mutations: take each protection away in a copy, and see its test fail."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mutation import MUTATIONS
from mutation.table import Mutation
from prepare import testing

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("netsync", "tests", "scripts", "pyproject.toml")
FAILED = 1
"""pytest's exit status where tests were run and some failed."""
SECONDS = 300
"""A test that takes longer has noticed nothing."""
TIDY_SECONDS = 60
"""How long it may then take to end what it has started and mounted."""


def main() -> int:
    """Run the chosen mutations; return how many were not noticed."""
    parser = argparse.ArgumentParser(prog="scripts/mutations", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutations whose name has one of these")
    options = parser.parse_args()
    testing.enter()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if not options.words or any(word in mutation.name for word in options.words)
    ]
    missed = 0
    for mutation in chosen:
        noticed = notices(mutation)
        missed += not noticed
        print(f"{'noticed' if noticed else 'MISSED ':<8} {mutation.name}", flush=True)  # noqa: T201
    print(f"{len(chosen) - missed} of {len(chosen)} noticed")  # noqa: T201
    return min(missed, 1)


def notices(mutation: Mutation) -> bool:
    """Tell whether the named test fails without the protection."""
    place = Path(tempfile.mkdtemp(prefix="netsync-mutation-"))
    try:
        return _notices(mutation, place)
    finally:
        # What an unprotected program makes may be too deep for Python's own removal.
        subprocess.run(["/bin/rm", "-rf", str(place)], check=True)  # noqa: S603 - our own words


def _notices(mutation: Mutation, copy: Path) -> bool:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    apply(mutation, copy)
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    if mutation.pure:
        environment["NETSYNC_KERNEL"] = "pure"
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    words += [f"--basetemp={copy / 'tmp'}", *mutation.tests.split()]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=copy, env=environment, stdout=quiet, stderr=quiet) as tests:  # noqa: S603 - our own words
        try:
            return tests.wait(SECONDS) == FAILED
        except subprocess.TimeoutExpired:
            tests.send_signal(signal.SIGINT)
            tests.wait(TIDY_SECONDS)
            return False


def apply(mutation: Mutation, copy: Path) -> None:
    """Take the protection away."""
    file = copy / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.name}: not exactly once in {mutation.file}: {mutation.old!r}")
    file.write_text(text.replace(mutation.old, mutation.new))


if __name__ == "__main__":
    sys.exit(main())
