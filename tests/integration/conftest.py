"""One standby for each module of tests, and a place of its own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import MODULE, Place, Standby
from tests.support.processes import serving


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    """Serve one writable module; it must still be serving when the tests are through."""
    root = tmp_path_factory.mktemp("standby")
    with serving("--module", f"{MODULE}={root}") as server:
        yield Standby(server, root)
        assert server.running, server.log
        assert "internal error" not in server.log
    shutil.rmtree(root)


@pytest.fixture
def place(standby: Standby, tmp_path: Path) -> Place:
    """Return a directory in the module that no other test uses."""
    path = standby.root / tmp_path.name
    path.mkdir()
    return Place(path, standby.server.url(f"{MODULE}/{path.name}"))
