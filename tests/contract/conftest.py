"""What the contract suites of the file calls share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.tree.native import Native, load
from tests.support.twins import WISHED


@pytest.fixture(params=WISHED)
def native(request: pytest.FixtureRequest) -> Native:
    return load(request.param)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """A descriptor of ``tmp_path``; whatever a test does, no other one may be left."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    yield fd
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors stay open"
    os.close(fd)
