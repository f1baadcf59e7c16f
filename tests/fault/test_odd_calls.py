"""System calls that do half of it, are interrupted, or tell a time that leapt (F35, F58)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.interposing import build, within
from tests.support.places import differences
from tests.support.processes import running, serving
from tests.support.trees import temporaries
from tests.support.upheaval import WAYS, Upheaval


@pytest.mark.parametrize(
    ("direction", "client", "server"),
    [
        pytest.param(
            "push",
            {"short": 1},
            {"short": 1},
            id="half done and interrupted",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "push",
            {"leap": -86_400},
            {"leap": 86_400},
            id="clocks leap apart",
            marks=pytest.mark.slow,
        ),
        pytest.param("pull", {"short": 1}, {"leap": -86_400}, id="some of each"),
    ],
)
def test_the_trees_are_equal_all_the_same(
    tmp_path: Path, direction: str, client: dict[str, Any], server: dict[str, Any]
) -> None:
    """Also with deltas of both levels, and the second run finds nothing to do."""
    trees = Upheaval(tmp_path, WAYS["two levels"])
    library = build(tmp_path)
    target = trees.fresh()
    with serving("--module", f"m={tmp_path}", within=within(library, **server)) as daemon:
        ends = (f"{trees.source}/", daemon.url(f"m/{target.name}"))
        if direction == "pull":
            ends = (daemon.url("m/source/"), str(target))
        for changes in (True, False):
            words = (direction, "--json", "--delete", "--timeout", "20", *ends)
            with running(*words, within=within(library, **client)) as command:
                result = command.wait(40)
            assert (result.code, result.stderr) == (0, "")
            assert bool(result.files["updated"]) is changes
            assert bool(result.bytes["matched"]) is changes
    assert differences(trees.source, target) == ""
    assert temporaries(target) == []
