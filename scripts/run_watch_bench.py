"""scripts/watch-bench: the measuring itself is benchmark/replication.py, in an environment."""

import sys
from pathlib import Path

from prepare import testing

testing.enter()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for what tests share

from benchmark import replication  # noqa: E402 - all it needs is there from here on

if __name__ == "__main__":
    sys.exit(replication.main())
