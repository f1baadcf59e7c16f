"""Since when a file is one, whatever its names are."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

from netsync.tree import birth
from netsync.tree.birth import births
from tests.support.trees import make_tree, opened


def test_a_name_that_is_new_is_as_old_as_its_file(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"1", "d": {"e": {}}})
    made = time.time()
    os.utime(tmp_path / "f", (1, 1))
    while time.time() < made + 0.05:
        pass
    make_tree(tmp_path, {"young": {"g": b"2"}})
    for name in ("g", "d/e/g", "young/h"):
        os.link(tmp_path / "f", tmp_path / name)
    with opened(tmp_path) as fd:
        found = births(fd, [b"f", b"g", b"d", b"young/g", b"young"])
    old, young = found[b"f"], found[b"young/g"]
    assert old is not None
    assert young is not None
    assert made - 10 < old <= made
    assert young > old
    assert found == {b"f": old, b"g": old, b"d": old, b"young/g": young, b"young": old}


def test_what_is_no_file_has_none(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"1", "link": "f", "pipe": None, "d": {}})
    with opened(tmp_path) as fd:
        found = births(fd, [b"link", b"pipe", b"d", b"gone", b"f/x"])
    assert found == {
        b"link": math.inf, b"pipe": math.inf, b"d": math.inf, b"gone": None, b"f/x": None
    }  # fmt: skip


def test_what_cannot_be_known_may_be_older_than_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory with more files than are looked at; all of the tree."""
    make_tree(tmp_path, {"d": {f"f{number}": b"1" for number in range(5)}})
    monkeypatch.setattr(birth, "LOOKED_AT_MAX", 5)
    with opened(tmp_path) as fd:
        found = births(fd, [b"d", b""])
    assert found == {b"d": -math.inf, b"": -math.inf}
