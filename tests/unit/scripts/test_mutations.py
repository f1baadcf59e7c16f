"""The table of protections fits the code: each is where it is said to be, with a test to fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutation import MUTATIONS
from mutation.table import Mutation

ROOT = Path(__file__).parents[3]
TEST = r"(tests/[\w/]+\.py)(::(test_\w+))?"
SECURITY = (ROOT / "netsync" / "SECURITY.md").read_text()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_protection_is_where_it_is_said_to_be(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    for file, _, test in re.findall(TEST, mutation.tests):
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).exists()


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) > 80


def test_every_guarantee_has_a_test_that_was_seen_failing() -> None:
    """Of the tests that ``SECURITY.md`` names for it, one fails where its protection is gone."""
    failing = [name for mutation in MUTATIONS for name in re.findall(TEST, mutation.tests)]
    files = {file for file, _, test in failing if not test}
    tests = {(file, test) for file, _, test in failing if test}
    parts = re.split(r"^\*\*S(\d+)\.\*\*", SECURITY, flags=re.MULTILINE)[1:]
    without = [
        number
        for number, text in zip(parts[::2], parts[1::2], strict=True)
        if not any(
            file in files or (file, test) in tests for file, _, test in re.findall(TEST, text)
        )
    ]
    assert without == []
