"""Deletes that never surprise: what holds them, what is done all the same, and what is said."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import certificates
from tests.support.places import ROUTES, Place
from tests.support.processes import Result, netsync, serving
from tests.support.samples import contents, names, snapshot, write
from tests.support.trees import needs_mount, small_disk

WAYS: Final = [(), ("--delete-before",)]
"""Deletes behind the data, and before it: the guards decide first in both."""


def assert_held(result: Result, *words: str) -> None:
    """Exit code 25, and one sentence, the same on stderr and in the report."""
    assert result.code == 25, result
    assert result.report["result"] == "held"
    sentence = result.report["held"]
    assert sentence.startswith("nothing was deleted: ")
    assert f"netsync: {sentence}\n" in result.stderr
    for word in words:
        assert word in sentence


def assert_done(result: Result) -> None:
    assert (result.code, result.stderr) == (0, ""), result
    assert "held" not in result.report


def fill(root: Path, count: int, prefix: str = "f") -> Path:
    """Write ``count`` files, which are all there is in ``root``."""
    root.mkdir(exist_ok=True)
    return write(root, {f"{prefix}{n:03d}": str(n) for n in range(count)})


# an empty source


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ROUTES)
def test_an_empty_source_does_not_empty_the_target(
    place: Place, route: str, way: tuple[str, ...]
) -> None:
    """Held, said the same in a dry run; with --allow-empty-source all goes."""
    (place.path / "source").mkdir()
    write(place.path / "target", {"a": "1", "d/b": "2"})
    before = contents(place.path / "target")
    for extra in (("-n",), ()):
        result = place.transfer(route, "--delete", *way, "-i", *extra)
        assert_held(result, "no entries", "--allow-empty-source")
        assert result.changes == []
    assert contents(place.path / "target") == before
    result = place.transfer(route, "--delete", *way, "-i", "--allow-empty-source")
    assert_done(result)
    assert result.changes == ["- a", "- d/", "- d/b"]
    assert names(place.path / "target") == set()


@pytest.mark.parametrize("route", ROUTES)
def test_an_empty_source_of_several_named_ones_is_noticed(place: Place, route: str) -> None:
    """Each directory that is transferred is looked at by itself."""
    write(place.path / "full", {"x": "1"})
    (place.path / "hollow").mkdir()
    write(place.path / "target", {"hollow/precious": "1", "full/old": "2", "beside": "3"})
    far = place.url if route == "pull" else str(place.path)
    target = f"{place.url if route == 'push' else place.path}/target"
    command = "pull" if route == "pull" else "push"
    sources = (f"{far}/full", f"{far}/hollow")
    result = netsync(command, "--json", "--no-fsync", "--delete", *sources, target)
    assert_held(result, "for hollow")
    assert (place.path / "target" / "hollow" / "precious").exists()
    assert (place.path / "target" / "full" / "old").exists()
    assert (place.path / "target" / "full" / "x").exists()
    flag = "--allow-empty-source"
    assert_done(netsync(command, "--json", "--no-fsync", "--delete", flag, *sources, target))
    assert names(place.path / "target") == {b"full", b"full/x", b"hollow", b"beside"}


def test_an_empty_source_onto_an_empty_target_is_nothing_to_hold(place: Place) -> None:
    (place.path / "source").mkdir()
    (place.path / "target").mkdir()
    assert_done(place.transfer("push", "--delete"))


def test_the_siblings_of_a_named_source_are_out_of_scope(place: Place) -> None:
    """``push dir DEST --delete`` deletes inside DEST/dir only, and counts only there."""
    write(place.path / "dir", {"a": "1", "b": "1", "c": "1"})
    write(place.path / "target", {"sibling": "1", "dir/gone": "1", "dir/a": "1", "other/x": "1"})
    result = place.transfer("push", "--delete", "-i", "--max-delete", "50%", source="dir")
    assert_done(result)
    assert [line for line in result.changes if line[0] == "-"] == ["- dir/gone"]
    assert {b"sibling", b"other/x", b"dir/a"} < names(place.path / "target")


# too many deletions


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ROUTES)
def test_more_than_max_delete_deletes_nothing_and_does_the_rest(
    place: Place, route: str, way: tuple[str, ...]
) -> None:
    """A doomed directory counts with all below it; what is created and updated stays."""
    write(place.path / "source", {"same": "s", "new": "n", "changed": "longer"})
    write(place.path / "target", {"same": "s", "changed": "c", "gone/a": "1", "gone/b": "2"})
    before = snapshot(place.path / "target")
    dry = place.transfer(route, "--delete", *way, "--max-delete", "2", "-i", "-n")
    assert snapshot(place.path / "target") == before
    real = place.transfer(route, "--delete", *way, "--max-delete", "2", "-i", durable=True)
    for result in (dry, real):
        assert_held(result, "--max-delete 2")
        assert not any(line.startswith("-") for line in result.changes)
    assert (dry.changes, dry.files) == (real.changes, real.files)
    assert real.report["durable"]
    target = place.path / "target"
    assert ((target / "new").read_text(), (target / "changed").read_text()) == ("n", "longer")
    assert (target / "gone" / "a").exists()
    done = place.transfer(route, "--delete", *way, "--max-delete", "3", "-i")
    assert_done(done)
    assert done.changes == ["- gone/", "- gone/a", "- gone/b"]


@pytest.mark.parametrize(
    ("limit", "held"), [("30%", False), ("29%", True), ("100%", False), ("0%", True), ("0", True)]
)
def test_a_percentage_is_of_the_targets_entries_in_scope(
    place: Place, limit: str, held: bool
) -> None:
    """Three of ten go: 30 % allows it, 29 % does not. Excluded files are not in scope."""
    fill(place.path / "source", 7)
    fill(place.path / "target", 10)
    fill(place.path / "target", 50, "excluded-")
    result = place.transfer("push", "--delete", "--exclude", "excluded-*", "--max-delete", limit)
    (assert_held if held else assert_done)(result)
    assert len(names(place.path / "target")) == (60 if held else 57)


def test_replacing_a_directory_that_is_not_empty_counts(place: Place) -> None:
    """The directory and what is in it: three. Held, the file fails and nothing is replaced."""
    write(place.path / "source", {"x": "file", "y": "1"})
    write(place.path / "target", {"x/a": "1", "x/b": "2", "y": "1"})
    os.symlink("nowhere", place.path / "source" / "l")
    write(place.path / "target", {"l/c": "3"})
    options = ("--delete", "-i", "--max-delete")
    dry, real = (place.transfer("push", *extra, *options, "4") for extra in (("-n",), ()))
    for result in (dry, real):
        assert_held(result, "--max-delete 4")
        assert {"! x", "! l"} <= set(result.changes)
    assert (dry.changes, dry.files) == (real.changes, real.files)
    assert (place.path / "target" / "x" / "b").exists()
    dry, real = (place.transfer("push", *extra, *options, "5") for extra in (("-n",), ()))
    assert_done(real)
    assert {"+ x", "- x/", "- x/a", "- x/b", "+ l", "- l/", "- l/c"} == set(real.changes)
    assert (dry.changes, dry.files) == (real.changes, real.files)


@pytest.mark.parametrize("limit", ["many", "101%", "-1", "5.5", ""])
def test_a_limit_that_cannot_be_is_wrong_usage(place: Place, limit: str) -> None:
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", "--delete", f"--max-delete={limit}")
    assert result.code == 1
    assert "--max-delete" in result.stderr
    assert not (place.path / "target").exists()


def test_the_module_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """The stricter of client's and module's wins, and the sentence says whose it was."""
    target, source = fill(tmp_path / "target", 10), fill(tmp_path / "source", 5)
    file = tmp_path / "netsync.toml"
    file.write_text(
        f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{certificates().issuing}"\n'
        f'state = "{tmp_path}/state"\n'
        f'[module.m]\npath = "{target}"\nmax_delete = "40%"\n'
        'allow = { primary1 = ["push", "delete"] }\n'
    )
    checked = netsync("config", "check", str(file))
    assert "max_delete 40%" in checked.stdout
    with serving("--config", file) as server:

        def push(*options: str) -> Result:
            address = server.url("m")
            return netsync(
                "push", "--json", "--no-fsync", "--delete", *options, f"{source}/", address
            )

        assert_held(push("--max-delete", "100%"), "the module's max_delete 40%")
        assert_held(push("--max-delete", "3"), "--max-delete 3")
        assert len(names(target)) == 10
        fill(source, 6)
        assert_done(push())
        assert len(names(target)) == 6
        assert "nothing was deleted" in server.log
    assert (tmp_path / "state" / "state.sqlite3").exists()


@pytest.mark.parametrize("value", ['"lots"', '"200%"', "true", "-5", "[1]"])
def test_a_modules_limit_that_cannot_be_is_one_line(tmp_path: Path, value: str) -> None:
    file = tmp_path / "netsync.toml"
    file.write_text(f'[module.m]\npath = "/srv"\nmax_delete = {value}\n')
    result = netsync("config", "check", str(file))
    assert result.code == 1
    assert "module.m.max_delete" in result.stderr
    assert result.stderr.count("\n") == 1


# another source


def another(source: Path) -> None:
    """Put another directory with the same content in the place of ``source``."""
    shutil.copytree(source, source.with_name("copied"))
    source.rename(source.with_name("moved-away"))
    source.with_name("copied").rename(source)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ROUTES)
def test_another_directory_in_the_sources_place_is_held_until_accepted(
    place: Place, tmp_path: Path, route: str, way: tuple[str, ...]
) -> None:
    """First contact is remembered; a change is held; accepting it remembers the new one."""

    def run(*options: str) -> Result:
        return place.transfer(route, "--delete", *way, *options, state=tmp_path / "state")

    write(place.path / "source", {"a": "1", "b": "1"})
    assert_done(run())
    another(place.path / "source")
    (place.path / "source" / "a").unlink()
    write(place.path / "source", {"new": "2"})
    for options in (("-n",), (), ("-n",)):
        assert_held(run(*options), "--accept-new-source")
    assert names(place.path / "target") == {b"a", b"b", b"new"}
    assert_done(run("--accept-new-source", "-n"))
    assert_held(run())
    assert_done(run("--accept-new-source"))
    assert names(place.path / "target") == {b"b", b"new"}
    assert_done(run())


@pytest.mark.parametrize("route", ROUTES)
def test_a_run_without_delete_remembers_too_and_holds_nothing(
    place: Place, tmp_path: Path, route: str
) -> None:
    """The usual first copy has no --delete; what it came from counts for the next."""
    state = tmp_path / "state"
    write(place.path / "source", {"a": "1"})
    assert_done(place.transfer(route, state=state))
    another(place.path / "source")
    assert_done(place.transfer(route, state=state))
    assert_held(place.transfer(route, "--delete", state=state))


@needs_mount
@pytest.mark.parametrize("route", ROUTES)
def test_an_unmounted_source_deletes_nothing(place: Place, tmp_path: Path, route: str) -> None:
    """What lies below the mount point, even with files in it, is not the source."""
    source, state = place.path / "source", tmp_path / "state"
    write(source, {"leftover": "1"})
    with small_disk(source, 1 << 20):
        write(source, {"a": "1", "d/b": "2"})
        assert_done(place.transfer(route, "--delete", state=state))
        assert_done(place.transfer(route, "--delete", state=state))
    result = place.transfer(route, "--delete", state=state)
    assert_held(result, "is it mounted?")
    assert {b"a", b"d", b"d/b"} < names(place.path / "target")


def test_each_client_and_each_destination_is_remembered_by_itself(
    place: Place, tmp_path: Path
) -> None:
    """Two sources for two destinations, or under two names in one, are no change."""
    state = tmp_path / "state"
    for name in ("one", "two"):
        write(place.path / name, {"f": name})
    for _ in range(2):
        for name in ("one", "two"):
            assert_done(
                place.transfer(
                    "push", "--delete", source=f"{name}/", target=f"t-{name}", state=state
                )
            )
            assert_done(place.transfer("push", "--delete", source=name, target="t", state=state))
    assert_held(place.transfer("push", "--delete", source="one/", target="t-two", state=state))


def test_several_sources_in_one_directory_may_grow_but_not_be_swapped(
    place: Place, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        write(place.path / name, {name: "1"})

    def run(*sources: str) -> Result:
        paths = [f"{place.path}/{name}/" for name in sources]
        target, state = f"{place.path}/target", tmp_path / "state"
        return netsync("push", "--json", "--no-fsync", "--delete", *paths, target, state=state)

    assert_done(run("one", "two"))
    assert_done(run("one", "two", "three"))
    assert_held(run("one", "three"))
    assert_done(run("two", "three", "one"))


def test_an_empty_source_is_not_remembered_as_the_right_one(place: Place, tmp_path: Path) -> None:
    """The mount point that was met before the disk is no reason to hold when the disk comes."""
    state, source = tmp_path / "state", place.path / "source"
    source.mkdir()
    write(place.path / "target", {"a": "1"})
    assert_held(place.transfer("local", "--delete", state=state), "--allow-empty-source")
    assert_done(place.transfer("local", state=state))
    source.rename(place.path / "mount-point")
    write(source, {"a": "1"})
    assert_done(place.transfer("local", "--delete", state=state))


@pytest.mark.parametrize("damage", ["file", "garbage", "newer"])
def test_a_state_directory_that_cannot_be_used_is_one_notice(
    place: Place, tmp_path: Path, damage: str
) -> None:
    """With --delete the run says that the guard is off and does its work; without, nothing."""
    state = tmp_path / "state"
    if damage == "file":
        state.write_text("no directory")
    else:
        state.mkdir()
        (state / "state.sqlite3").write_bytes(b"garbage" * 1000)
    if damage == "newer":
        (state / "state.sqlite3").unlink()
        with sqlite3.connect(state / "state.sqlite3") as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    write(place.path / "source", {"a": "1"})
    write(place.path / "target", {"gone": "1"})
    assert_done(place.transfer("local", state=state))
    result = place.transfer("local", "--delete", state=state)
    assert result.code == 0
    assert result.stderr.count("\n") == 1
    assert "will not be noticed" in result.stderr
    assert names(place.path / "target") == {b"a"}


def test_a_locked_state_holds_nobody_up_for_long(place: Place, tmp_path: Path) -> None:
    """Who cannot remember goes on with a notice."""
    state = tmp_path / "state"
    write(place.path / "source", {"a": "1"})
    assert_done(place.transfer("local", "--delete", state=state))
    another(place.path / "source")
    database = sqlite3.connect(state / "state.sqlite3", isolation_level=None)
    try:
        database.execute("BEGIN EXCLUSIVE")
        result = place.transfer("local", "--delete", "--accept-new-source", state=state)
    finally:
        database.close()
    assert result.code == 0
    assert "locked" in result.stderr


# a file system inside the source that is not mounted any more


@needs_mount
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ROUTES)
def test_what_was_unmounted_inside_the_source_is_not_deleted(
    place: Place, tmp_path: Path, route: str, way: tuple[str, ...]
) -> None:
    """Held, also where something else lies at the mount point; what is accepted is forgotten."""
    state = tmp_path / "state"
    source, target = place.path / "source", place.path / "target"
    write(source, {"a": "1", "srv/x": "1"})
    with small_disk(source / "srv" / "disk", 1 << 20) as disk:
        write(disk, {"deep/precious": "1"})
        assert_done(place.transfer(route, "--delete", *way, state=state))
    (source / "a").unlink()
    for _ in range(2):
        write(source / "srv" / "disk", {"stray": "written to the mount point"})
        for extra in (("-n",), ()):
            result = place.transfer(route, "--delete", *way, *extra, state=state)
            assert_held(result, "mounted at srv/disk ", "--accept-new-source")
        assert (target / "srv" / "disk" / "deep" / "precious").exists()
        assert (target / "a").exists(), "nothing else is deleted either"
        assert_done(place.transfer(route, state=state))
    accepted = place.transfer(route, "--delete", *way, "--accept-new-source", state=state)
    assert_done(accepted)
    assert names(target) == {b"srv", b"srv/x", b"srv/disk", b"srv/disk/stray"}
    (source / "srv" / "disk" / "stray").unlink()
    assert_done(place.transfer(route, "--delete", *way, state=state))
    assert names(target) == {b"srv", b"srv/x", b"srv/disk"}


@needs_mount
def test_what_is_mounted_again_goes_on_and_its_files_may_be_deleted(
    place: Place, tmp_path: Path
) -> None:
    """Another file system there is no alarm: after each start some are."""
    state, source = tmp_path / "state", place.path / "source"
    source.mkdir()
    for content in ("one", "two"):
        with small_disk(source / "disk", 1 << 20) as disk:
            write(disk, {content: "1"})
            assert_done(place.transfer("push", "--delete", state=state))
            assert names(place.path / "target") == {b"disk", b"disk/" + content.encode()}
        assert_held(place.transfer("push", "--delete", state=state), "mounted at disk ")


@needs_mount
def test_a_mount_point_that_is_removed_is_deleted_like_any_directory(
    place: Place, tmp_path: Path
) -> None:
    """Who removes it means it; a directory that is made there later is like any other."""
    state, source = tmp_path / "state", place.path / "source"
    write(source, {"a": "1"})
    with small_disk(source / "disk", 1 << 20) as disk:
        write(disk, {"f": "1"})
        assert_done(place.transfer("local", "--delete", state=state))
    (source / "disk").rmdir()
    assert_done(place.transfer("local", "--delete", state=state))
    assert names(place.path / "target") == {b"a"}
    write(source, {"disk/f": "1", "disk/g": "2"})
    assert_done(place.transfer("local", "--delete", state=state))
    (source / "disk" / "f").unlink()
    assert_done(place.transfer("local", "--delete", state=state))


@needs_mount
def test_a_named_source_has_its_own_mounts_only(place: Place, tmp_path: Path) -> None:
    """A file system beside it is none of its business."""
    state = tmp_path / "state"
    write(place.path / "one", {"x": "1"})
    (place.path / "two").mkdir()
    with small_disk(place.path / "two" / "disk", 1 << 20) as disk:
        write(disk, {"f": "1"})
        for name in ("one", "two"):
            assert_done(place.transfer("push", "--delete", source=name, state=state))
    assert_done(place.transfer("push", "--delete", source="one", state=state))
    held = place.transfer("push", "--delete", source="two", state=state)
    assert_held(held, "mounted at two/disk ")


# what goes together


def test_a_source_that_could_not_be_read_whole_deletes_nothing_and_is_23(place: Place) -> None:
    """No guard is needed for that; with one that holds as well the exit code is 25."""
    write(place.path / "one", {"a": "1"})
    write(place.path / "target", {"one/gone": "1"})
    sources = (f"{place.path}/one", f"{place.path}/missing")
    words = ("push", "--json", "--no-fsync", "--delete", *sources, f"{place.path}/target")
    result = netsync(*words)
    assert (result.code, result.report["result"]) == (23, "partial")
    result = netsync(*words, "--max-delete", "0")
    assert_held(result, "--max-delete 0")
    assert [problem["path"] for problem in result.report["problems"]] == [sources[1]]
    assert (place.path / "target" / "one" / "gone").exists()


@pytest.mark.parametrize("route", ROUTES)
def test_a_missing_root_is_11(place: Place, route: str) -> None:
    write(place.path / "target", {"a": "1"})
    assert place.transfer(route, "--delete").code == 11
    assert names(place.path / "target") == {b"a"}
