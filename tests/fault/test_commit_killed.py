"""``netsync commit`` and kill -9 at every step: whole or absent, and done by the next run."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

import pytest

from tests.support.killing import KILLED, commit_killed_before
from tests.support.power import disk
from tests.support.processes import running, serving, succeed, wait_until
from tests.support.samples import MIB, random_bytes, write
from tests.support.trees import make_tree, needs_mount, read_tree

NEW = {"a": b"new content", "b": b"B" * 3 * MIB}


@pytest.mark.parametrize("old", [None, b"what was there"])
def test_a_file_is_whole_or_as_before_at_every_step(tmp_path: Path, old: bytes | None) -> None:
    """Two files, in a directory that is made; with ``old`` one of them overwrites."""
    files = sorted(write(tmp_path / "source", NEW).iterdir())
    allowed = ({} if old is None else {"a": old}), NEW
    for step in itertools.count():
        target = tmp_path / f"target{step}"
        if old is not None:
            make_tree(target / "d", {"a": old})
        target.mkdir(exist_ok=True)
        code = commit_killed_before(files, target / "d", step, overwrite=old is not None)
        there = read_tree(target / "d") if (target / "d").exists() else {}
        for name in NEW:
            assert there.get(name) in [tree.get(name) for tree in allowed], (step, name)
        again = commit_killed_before(files, target / "d", None, overwrite=old is not None)
        assert again == 0, step
        assert {n: (target / "d" / n).read_bytes() for n in NEW} == NEW, step
        if code != KILLED:
            assert code == 0
            break
    assert step > 12, "it was killed at some steps"


@pytest.mark.parametrize("written", [0, 5 * MIB, 15 * MIB])
def test_a_server_that_is_killed_while_it_works_leaves_nothing_half(
    tmp_path: Path, written: int
) -> None:
    """After so many bytes; what a client was told is there, and the next commit ends well."""
    source = tmp_path / "segment"
    source.write_bytes(random_bytes(24 * MIB, 1))
    root = make_tree(tmp_path / "module", {})
    with serving("--module", f"m={root}") as server:
        with running("commit", "--no-resident", source, server.url("m/s")) as client:
            wait_until(
                lambda: not client.running or _bytes_written(server.process.pid) > written,
                "it is under way",
            )
            server.signal(signal.SIGKILL)
            code = client.wait().code
        assert code in (0, 10, 13, 35), client.stderr
    there = read_tree(root)
    assert there in ({}, {"s": source.read_bytes()})
    assert there or code != 0
    with serving("--module", f"m={root}") as server:
        succeed("commit", "--no-resident", source, server.url("m/s"))
    assert read_tree(root) == {"s": source.read_bytes()}


def _bytes_written(process: int) -> int:
    for line in Path(f"/proc/{process}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise AssertionError("the process has ended")


@needs_mount
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, kind: str) -> None:
    """The power fails the moment the command ends; then the same again, which is there."""
    files = [
        write(tmp_path / "s", {f"f{n}": random_bytes(n * 99_999, n)}) / f"f{n}" for n in range(9)
    ]
    with disk(tmp_path, kind) as power:
        for count in (1, 8):
            some = files[:count]
            succeed("commit", *some, f"{power.place}/wal/")
            power.cut()
            power.restart()
            for file in some:
                assert (power.place / "wal" / file.name).read_bytes() == file.read_bytes()
            # written by another and not flushed, found as the same: durable from then on
            by_another = power.place / "wal" / files[8].name
            by_another.write_bytes(files[8].read_bytes())
            result = succeed("commit", "--json", files[8], f"{power.place}/wal/")
            assert result.files["unchanged"] == 1
            power.cut()
            power.restart()
            assert by_another.read_bytes() == files[8].read_bytes()
            by_another.unlink()
