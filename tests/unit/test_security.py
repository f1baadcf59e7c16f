"""SECURITY.md: every guarantee names tests, every named test exists, every case has its place."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "netsync" / "SECURITY.md").read_text()
CASES = 60


@functools.cache
def functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)
    assert len(named) > 40
    missing = [f"{file}::{name}" for file, name in named if name not in functions_in(file)]
    assert missing == []


def test_every_named_file_exists() -> None:
    named = re.findall(r"`((?:tests|scripts)/[\w/.]+)`", DOCUMENT)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_guarantees_are_numbered_and_each_names_a_test() -> None:
    parts = re.split(r"^\*\*S(\d+)\.\*\*", DOCUMENT, flags=re.MULTILINE)[1:]
    numbers, texts = [int(part) for part in parts[::2]], parts[1::2]
    assert numbers == list(range(1, len(numbers) + 1))
    without = [n for n, text in zip(numbers, texts, strict=True) if "`tests/" not in text]
    assert without == []


def test_every_case_of_the_catalogue_is_tried_or_said_not_to_apply() -> None:
    catalogue = DOCUMENT.partition("## The catalogue")[2]
    placed: set[int] = set()
    for row in re.findall(r"^\| (M[^|]+)\|", catalogue, re.MULTILINE):
        for first, last in re.findall(r"M(\d\d)(?: to M(\d\d))?", row):
            placed.update(range(int(first), int(last or first) + 1))
    assert placed == set(range(1, CASES + 1))


def test_every_fault_is_tried_or_said_not_to_apply() -> None:
    catalogue = (ROOT / "tests" / "README.md").read_text().partition("## The catalogue")[2]
    placed: set[int] = set()
    for row in re.findall(r"^\| (F[^|]+)\|", catalogue, re.MULTILINE):
        for first, last in re.findall(r"F(\d\d)(?: to F(\d\d))?", row):
            placed.update(range(int(first), int(last or first) + 1))
    assert placed == set(range(1, CASES + 1))
    named = re.findall(r"`(tests/[\w/.]+)`", catalogue)
    assert [name for name in named if not (ROOT / name).exists()] == []
