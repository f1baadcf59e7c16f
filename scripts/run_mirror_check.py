"""The body of scripts/mirror_check: rounds of the mirror's checker, told as they go."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from prepare import testing
from prepare.processes import say

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Run the rounds; return 1 if anything acknowledged was lost, or a copy was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/mirror_check", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-disks", action="store_true", help="leave file systems alone")
    options = parser.parse_args()
    disks = not options.no_disks
    if disks and os.geteuid() != 0:
        parser.error("only root may mount the file systems that are shut down (--no-disks)")
    testing.enter()
    from tests.support.mirror_proof import Proof  # noqa: PLC0415 - what it needs is there by now

    started = time.monotonic()

    def tell(proof: Proof) -> None:
        if proof.rounds % 10 == 0 or proof.lost or proof.wrong:
            say(
                f"{proof.rounds} rounds, {time.monotonic() - started:.0f} s, "
                f"lost {proof.lost}, wrong {proof.wrong}",
            )  # fmt: skip

    with tempfile.TemporaryDirectory(prefix="netsync-check-") as base:
        proof = Proof(Path(base), options.seed, disks=disks)
        proof.run(options.rounds, tell)
    happened = ", ".join(f"{count} {name}" for name, count in sorted(proof.happened.items()))
    say(f"rounds: {proof.rounds} ({happened.replace('_', ' ')})")
    say(f"acknowledged: {proof.commits} commits, {proof.steps} writes")
    say(f"lost: {proof.lost}; copies that are no prefix: {proof.wrong}")
    return 1 if proof.lost or proof.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
