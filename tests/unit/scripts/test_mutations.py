"""The table of protections fits the code: each is where it is said to be, with a test to fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutation import mirrors, table
from mutation.table import Mutation

ROOT = Path(__file__).parents[3]
ALL = (*table.MUTATIONS, *mirrors.MUTATIONS)


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.name)
def test_the_protection_is_where_it_is_said_to_be(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    for file, _, test in re.findall(r"(tests/[\w/]+\.py)(::(test_\w+))?", mutation.tests):
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).exists()


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutation.name for mutation in ALL}) == len(ALL) > 80
