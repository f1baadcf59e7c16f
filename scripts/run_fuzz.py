"""The body of scripts/fuzz: a bounded, coverage-guided run of each target, from the tree's corpus.

A run starts from ``tests/corpus`` and the built-in seeds, in a directory of its own. With
``--keep`` the corpus becomes a sample of itself and of what reached new code.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from prepare import testing

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "corpus"
INPUT_MAX = 4096
"""Bytes of one input: deep enough for a few frames, small enough for thousands a second."""
DRIVER = "--drive"
"""First word to this script when it is to be the fuzzer of one target."""
KEPT_MAX = 40
"""Inputs of one target in the tree."""
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Fuzz the chosen targets; return how many failed."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all unless named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add to the tree's corpus")
    if sys.argv[1:2] == [DRIVER]:
        drive(sys.argv[2], sys.argv[3:])
    options = parser.parse_args()
    testing.enter("atheris")
    from tests.support.fuzzing import TARGETS  # noqa: PLC0415 - a driver instruments it first

    failed = 0
    for target in options.targets or TARGETS:
        failed += fuzz(target, options.seconds, keep=options.keep)
    return failed


def drive(target: str, words: list[str]) -> None:
    """Be the fuzzer's process."""
    import atheris  # noqa: PLC0415 - only here

    with atheris.instrument_imports(include=["netsync", "tests.support.fuzzing"]):
        from tests.support.fuzzing import TARGETS  # noqa: PLC0415 - see above
    atheris.Setup([sys.argv[0], *words], TARGETS[target])
    atheris.Fuzz()


def fuzz(target: str, seconds: int, *, keep: bool) -> bool:
    """Fuzz one target; tell whether it failed."""
    from tests.support.fuzzing import seeds  # noqa: PLC0415 - a driver instruments it first

    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="netsync-fuzz-") as place:
        found, begun = Path(place, "found"), Path(place, "begun")
        found.mkdir()
        begun.mkdir()
        for number, (name, data) in enumerate(seeds()):
            if name == target:
                (begun / f"seed-{number}").write_bytes(data)
        corpora = [str(found), str(kept), str(begun)]
        limits = [f"-max_total_time={seconds}", f"-max_len={INPUT_MAX}", "-timeout=10"]
        words = ["-rss_limit_mb=1024", "-print_final_stats=1", *limits]
        status = run(target, [*words, f"-artifact_prefix={kept}/crash-", *corpora])
        if keep and not status:
            replace(kept, [*found.iterdir(), *begun.iterdir(), *kept.iterdir()])
    return bool(status)


def run(target: str, words: list[str]) -> int:
    """Run the fuzzer in a process of its own."""
    command = [sys.executable, __file__, DRIVER, target, *words]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own words


def replace(kept: Path, inputs: Iterable[Path]) -> None:
    """Keep as many of the inputs as the tree holds, small and large ones."""
    contents = sorted({path.read_bytes() for path in inputs}, key=lambda data: (len(data), data))
    step = max(1.0, len(contents) / KEPT_MAX)
    chosen = [contents[int(index * step)] for index in range(min(KEPT_MAX, len(contents)))]
    for old in kept.iterdir():
        old.unlink()
    for data in chosen:
        (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
