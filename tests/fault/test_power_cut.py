"""Power cuts: what a client was told is durable is there afterwards, byte for byte (F15).

On ext4 and xfs of their own, shut down without flushing their log. Slow.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import differences
from tests.support.power import disk
from tests.support.processes import running, succeed
from tests.support.samples import MIB, random_bytes, write
from tests.support.trees import needs_mount, temporaries

pytestmark = [pytest.mark.slow, needs_mount, pytest.mark.timeout(300)]

FILES: Final = 70
"""More than are flushed one by one, so that whole file systems are flushed."""

MANY: Final = 600
"""Files that get their names in three steps; what comes behind them takes two seconds more."""


def build(base: Path, seed: int, files: int = FILES) -> Path:
    """Make a tree of which another seed's shares names, and lacks some.

    What takes longest comes behind the small files.
    """
    tree = {f"d{n % 7}/f{n}": random_bytes(1000 + n * 37, seed * 1000 + n) for n in range(files)}
    gone = {f"only-{seed}/{n}": random_bytes(99, n) for n in range(5)}
    return write(base, {**tree, **gone, "e/large": random_bytes(6 * MIB, seed)})


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("files", [3, FILES])
def test_what_was_acknowledged_survives(tmp_path: Path, kind: str, files: int) -> None:
    """First copy, then an update with deletes; the power fails the moment the command ends."""
    trees = [build(tmp_path / f"source{n}", n, files) for n in range(2)]
    with disk(tmp_path, kind) as power:
        for tree in trees:
            target = power.place / "target"
            result = succeed("push", "--delete", "--json", f"{tree}/", target)
            assert result.report["durable"] is True
            power.cut()
            power.restart()
            assert differences(tree, target) == ""
            assert temporaries(target) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("after", ["d0/f0", "d3/f3", "d5/f5"])
def test_a_cut_in_the_middle_tears_nothing(tmp_path: Path, kind: str, after: str) -> None:
    """Each file has its old or its new content; the next run ends well and leaves nothing over."""
    old, new = (build(tmp_path / f"source{n}", n, MANY) for n in range(2))
    with disk(tmp_path, kind) as power:
        target = power.place / "target"
        succeed("push", f"{old}/", target)
        was = (target / after).stat().st_ino
        words = ("push", "--delete", "--bwlimit", "3M", f"{new}/", target)
        with running(*words) as client:
            client.wait_for(lambda: (target / after).stat().st_ino != was, "it is under way")
            power.cut()
            assert client.wait().code != 0, "it was not done yet"
        power.restart()
        for path in target.rglob("*"):
            if path.is_file() and ".netsync" not in str(path.relative_to(target)):
                name = path.relative_to(target)
                wanted = [tree / name for tree in (old, new) if (tree / name).exists()]
                assert path.read_bytes() in [each.read_bytes() for each in wanted], name
        succeed("push", "--delete", f"{new}/", target)
        assert differences(new, target) == ""
        assert temporaries(target) == []


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_rsync_beside_it(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What ``rsync --fsync`` keeps of the same, to look at: it flushes no directory."""
    trees = [build(tmp_path / f"source{n}", n) for n in range(2)]
    with disk(tmp_path, kind) as power:
        target = power.place / "target"
        target.mkdir()
        subprocess.run(["sync", "-f", str(power.place)], check=True)
        for tree in trees:
            words = ["rsync", "-a", "--delete", "--fsync", f"{tree}/", f"{target}/"]
            done = subprocess.run(words, check=False, capture_output=True)
            power.cut()
            power.restart()
            lost = [line for line in differences(tree, target).splitlines() if line]
            entries = sum(1 for _ in tree.rglob("*"))
            words_told = f"rsync --fsync ended with {done.returncode}, {len(lost)} of {entries}"
            with capsys.disabled():
                print(f"\n{kind}: {words_told} entries differ")  # noqa: T201 - to look at
