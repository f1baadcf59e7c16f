"""--backup-dir: what is overwritten or deleted is there afterwards, under its path."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from tests.support.places import ROUTES, Place
from tests.support.processes import netsync, running
from tests.support.samples import contents, names, snapshot, write
from tests.support.trees import needs_mount, small_disk

OLD = (b"old", b"old/")


def without_backup(root: Path) -> dict[bytes, tuple[int, object]]:
    """Return the contents of ``root`` but for the backup directory."""
    found = contents(root)
    return {path: found[path] for path in found if path != b"old" and not path.startswith(b"old/")}


@pytest.mark.parametrize("way", [("--delete",), ("--delete-before",), ("--delete", "--inplace")])
@pytest.mark.parametrize("route", ROUTES)
def test_all_that_goes_is_kept_with_its_metadata(
    place: Place, route: str, way: tuple[str, ...]
) -> None:
    """Files overwritten, replaced by another kind, deleted; links, FIFOs, whole directories."""
    source, target = place.path / "source", place.path / "target"
    write(source, {"same": "s", "changed": "longer", "dir": "a file now", "was-file/in": "1"})
    os.symlink("new", source / "link")
    write(target, {"same": "s", "changed": "c", "dir/x": "1", "dir/sub/y": "2", "was-file": "3"})
    write(target, {"gone": "4", "goner/deep/z": "5"})
    (target / "goner" / "empty").mkdir(mode=0o750)
    os.symlink("old", target / "link")
    os.mkfifo(target / "fifo", 0o640)
    (target / "goner" / "deep").chmod(0o711)
    (target / "changed").chmod(0o604)
    for name in ("same", "changed"):
        os.utime(source / name, ns=(0, 1_600_000_000_000_000_000))
        os.utime(target / name, ns=(0, 1_500_000_000_000_000_000))
    os.utime(target / "goner" / "deep", ns=(0, 1_400_000_000_000_000_000))
    before = snapshot(target)
    options = (*way, "--backup-dir", "old", "-i")
    dry = place.transfer(route, *options, "-n")
    assert snapshot(target) == before
    real = place.transfer(route, *options, durable=True)
    assert (dry.code, dry.stderr) == (real.code, real.stderr) == (0, "")
    assert dry.changes == real.changes
    assert without_backup(target) == contents(source)
    kept = snapshot(target / "old")
    went = {
        b"changed", b"dir", b"dir/x", b"dir/sub", b"dir/sub/y", b"was-file", b"gone", b"goner",
        b"goner/deep", b"goner/deep/z", b"goner/empty", b"link", b"fifo",
    }  # fmt: skip
    if way == ("--delete", "--inplace"):
        went.add(b"same")  # its time differs, so it is written over
    assert set(kept) - {b"", b"same"} == went - {b"same"}
    for path in went - {b"dir", b"dir/sub", b"goner"}:  # their times were not fixed
        assert kept[path] == before[path], path
    assert stat.S_IMODE((target / "old").stat().st_mode) == stat.S_IMODE(target.stat().st_mode)
    again = place.transfer(route, *options)
    assert (again.code, again.changes) == (0, [])
    assert snapshot(target / "old") == kept


@pytest.mark.parametrize("route", ROUTES)
def test_the_next_runs_backup_takes_the_place_of_the_first(place: Place, route: str) -> None:
    """Path by path, whatever kinds they are; what the second run does not touch stays."""
    source, target = place.path / "source", place.path / "target"
    write(source, {"keep": "1"})
    write(target, {"a": "first", "b/c": "first", "d": "first", "e/f/g": "first"})
    options = ("--delete", "--backup-dir", "old")
    assert place.transfer(route, *options).code == 0
    write(target, {"a": "second", "b": "a file now", "d/x": "a directory now", "e/f": "flat"})
    assert place.transfer(route, *options).code == 0
    assert names(target) == {
        b"keep", b"old", b"old/a", b"old/b", b"old/d", b"old/d/x", b"old/e", b"old/e/f",
    }  # fmt: skip
    assert (target / "old" / "a").read_text() == "second"
    assert (target / "old" / "e" / "f").read_text() == "flat"
    write(target, {"other": "third"})
    assert place.transfer(route, *options).code == 0
    assert (target / "old" / "a").read_text() == "second"


def test_a_deep_backup_directory_is_neither_listed_nor_deleted(place: Place) -> None:
    """Not even with --delete-excluded, nor is what it lies in; the source's namesake stays out."""
    source, target = place.path / "source", place.path / "target"
    write(source, {"x": "1", "var/old/secret": "of the source"})
    write(target, {"var/old/earlier": "1", "gone": "2"})
    options = ("--delete", "--delete-excluded", "--backup-dir", "./var//old/", "-i")
    assert place.transfer("push", *options).changes == ["+ x", "- gone", ". var/"]
    (source / "var" / "old" / "secret").unlink()
    (source / "var" / "old").rmdir()
    (source / "var").rmdir()
    assert place.transfer("push", *options).changes == []
    assert names(target) == {b"x", b"var", b"var/old", b"var/old/earlier", b"var/old/gone"}


@pytest.mark.parametrize("component", ["old", "old/inner"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_backup_directory_is_not_reached_through_a_link(
    place: Place, tmp_path: Path, route: str, component: str
) -> None:
    """Exit code 11, and nothing is done at all."""
    write(place.path / "source", {"f": "new"})
    write(place.path / "target", {"f": "previous"})
    outside = write(tmp_path / "outside", {"o": "1"})
    link = place.path / "target" / component
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    options = ("--delete", "--backup-dir", "old/inner/deeper"[: len(component) + 7])
    result = place.transfer(route, *options)
    assert result.code == 11
    assert "backup directory" in result.stderr
    assert result.stderr.count("\n") == 1
    assert names(outside) == {b"o"}
    assert (place.path / "target" / "f").read_text() == "previous"


def test_a_link_in_the_backup_is_an_older_backup_and_not_followed(
    place: Place, tmp_path: Path
) -> None:
    """Below the backup directory a link stands for what was kept; it makes way."""
    outside = write(tmp_path / "outside", {"o": "1"})
    write(place.path / "source", {"f": "1"})
    write(place.path / "target", {"d/x": "1"})
    (place.path / "target" / "old").mkdir()
    (place.path / "target" / "old" / "d").symlink_to(outside)
    result = place.transfer("push", "--delete", "--backup-dir", "old")
    assert (result.code, result.stderr) == (0, "")
    assert names(outside) == {b"o"}
    assert (place.path / "target" / "old" / "d" / "x").read_text() == "1"


@pytest.mark.parametrize("path", ["", ".", "/abs", "..", "a/../..", "a/../../b", ".netsync-x"])
def test_a_backup_directory_elsewhere_is_wrong_usage(place: Place, path: str) -> None:
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", f"--backup-dir={path}")
    assert result.code == 1
    assert "--backup-dir" in result.stderr


@needs_mount
@pytest.mark.parametrize("way", [("--delete",), ("--delete-before",), ("--delete", "--inplace")])
def test_a_backup_directory_on_another_file_system_gets_copies(
    place: Place, way: tuple[str, ...]
) -> None:
    source, target = place.path / "source", place.path / "target"
    write(source, {"changed": "longer"})
    write(target, {"changed": "c", "gone/f": "1" * 3_000_000})
    os.symlink("x", target / "gone" / "link")
    (target / "changed").chmod(0o604)
    before = snapshot(target)
    (target / "old").mkdir()
    with small_disk(target / "old", 8 << 20):
        result = place.transfer("push", *way, "--backup-dir", "old", durable=True)
        assert (result.code, result.stderr) == (0, "")
        kept = snapshot(target / "old")
        for path in (b"changed", b"gone/f", b"gone/link"):
            assert kept[path] == before[path]
    assert without_backup(target) == contents(source)


@needs_mount
def test_what_cannot_be_backed_up_is_neither_replaced_nor_deleted(place: Place) -> None:
    """The backup exists before the old name is gone, or that stays."""
    source, target = place.path / "source", place.path / "target"
    write(source, {"changed": "new" * 100_000})
    write(target, {"changed": "c" * 2_000_000, "gone": "g" * 2_000_000})
    (target / "old").mkdir()
    with small_disk(target / "old", 1 << 20):
        result = place.transfer("push", "--delete", "--backup-dir", "old")
        assert result.code != 0
        assert names(target / "old") == set()
    assert (target / "changed").stat().st_size == 2_000_000
    assert (target / "gone").stat().st_size == 2_000_000


@pytest.mark.parametrize("way", ["--delete", "--delete-before"])
def test_a_killed_run_loses_nothing_old(place: Place, way: str) -> None:
    """Whatever was there is under its name or in the backup, and the next run goes on."""
    source, target = place.path / "source", place.path / "target"
    old = {f"d{n % 7}/{n}": f"old {n}" for n in range(3000)}
    write(source, {name: f"newer {name}" for name in list(old)[::2]})
    write(target, old)
    arguments = ("push", way, "--backup-dir", "old", f"{source}/", target)

    def assert_all_there() -> None:
        for name, text in old.items():
            found = {path.read_text() for path in (target / name, target / "old" / name)
                     if path.exists()}  # fmt: skip
            assert text in found, name

    with running(*arguments) as client:
        kept = target / "old" / "d0"
        client.wait_for(lambda: kept.exists() and any(kept.iterdir()), "something is backed up")
        client.signal(signal.SIGKILL)
        client.wait()
    assert_all_there()
    assert netsync(*arguments).code == 0
    assert_all_there()
    assert without_backup(target) == contents(source)


def test_hard_links_that_are_replaced_are_kept(place: Place) -> None:
    """A name that becomes one of another file's had content of its own."""
    source, target = place.path / "source", place.path / "target"
    write(source, {"a": "shared"})
    os.link(source / "a", source / "b")
    write(target, {"b": "its own"})
    assert place.transfer("push", "--backup-dir", "old").code == 0
    assert (target / "a").samefile(target / "b")
    assert (target / "old" / "b").read_text() == "its own"


@pytest.mark.parametrize("old", ["old", "deep/old"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_backup_directory_the_source_has_too_takes_no_part(
    place: Place, route: str, old: str
) -> None:
    """Though all around it be equal, so that directories are told by their digests."""
    source, target = place.path / "source", place.path / "target"
    for root in (source, target):
        write(root, {"same": "s", f"{old}/same": "s", f"{old}/sub/there": root.name[:1]})
    write(target, {f"{old}/ours": "kept"})
    for path in ("same", f"{old}/same", f"{old}/sub/there", f"{old}/sub", old, "deep", "."):
        for root in (source, target):
            if (root / path).exists():
                os.utime(root / path, ns=(0, 1_600_000_000_000_000_000))
    before = contents(target)
    run = place.transfer(route, "--delete", "--backup-dir", old, "-i")
    assert (run.code, run.changes) == (0, [])
    assert contents(target) == before
