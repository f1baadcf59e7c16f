"""Files that wait for directories to make way hold no descriptors, however many they are."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import trio

from netsync.model import Options
from tests.support.processes import FORKS
from tests.support.samples import write
from tests.support.transfers import transfer
from tests.support.trees import read_tree

DESCRIPTORS = 512
"""A batch of staged files may take 256, the caches of directories some 100."""


def _limited(source: Path, target: Path, options: Options) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    report = trio.run(transfer, source, target, options)
    assert not report.problems, report.problems[0]
    os._exit(0)


@pytest.mark.parametrize("atomic", [False, True])
def test_more_files_wait_than_there_are_descriptors(tmp_path: Path, atomic: bool) -> None:
    """Each of 800 files takes the place of a directory with something in it."""
    names = [f"f{number}" for number in range(800)]
    source = write(tmp_path / "source", dict.fromkeys(names, "new"))
    target = write(tmp_path / "target", {f"{name}/full": "old" for name in names})
    options = Options(delete=True, fsync=False, atomic=atomic)
    process = FORKS.Process(target=_limited, args=(source, target, options))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert read_tree(target) == read_tree(source)
