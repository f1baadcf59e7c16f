"""What the fuzzer found worth keeping (``scripts/fuzz``), replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fuzzing import TARGETS, seeds

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_of_each_target_still_holds(target: str) -> None:
    """Every input that ever reached new code does what is promised."""
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs, "a corpus is in the tree"
    for file in inputs:
        try:
            TARGETS[target](file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{target} fails for {file.name}") from error


def test_the_seeds_hold() -> None:
    for target, data in seeds():
        TARGETS[target](data)
