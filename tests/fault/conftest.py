"""What tests of runs that end in their middle have in common: the trees, one of each way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.killing import in_memory
from tests.support.upheaval import WAYS, Upheaval


@pytest.fixture(params=WAYS)
def upheaval(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upheaval]:
    """Trees in memory, where a flush costs nothing."""
    if os.geteuid() != 0:
        pytest.skip("sets attributes that only root may set")
    with tempfile.TemporaryDirectory(prefix="netsync-test-", dir=in_memory(tmp_path)) as base:
        yield Upheaval(Path(base), WAYS[request.param])
