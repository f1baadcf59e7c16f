"""``--atomic`` from outside: the same as a run without it, or nothing at all."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.state.pending import PendingPlace, pending_places
from netsync.tree.large_files import Stage
from tests.support.confined import NOBODY, needs_root
from tests.support.fidelity import Builder
from tests.support.fidelity import snapshot as facts
from tests.support.places import ROUTES, Place
from tests.support.processes import Result, netsync, serving
from tests.support.samples import Editor, build_tree, random_bytes, snapshot, write
from tests.support.trees import ext4, needs_mount, opened, small_disk, temporaries
from tests.unit.tree.test_roll_forward import check, committed

TARGETS = ("target", "one/two/target")
"""At the root of the destination, and three levels down in the module."""


def done(result: Result) -> Result:
    assert (result.code, result.stderr) == (0, ""), result
    return result


def twin(path: Path, name: str) -> Path:
    """Return a copy of the tree ``path`` beside it, equal in everything."""
    copy = path.parent / name
    subprocess.run(["cp", "-a", path, copy], check=True)
    return copy


def assert_as_without(place: Place, route: str, target: str, *options: str) -> Result:
    """Run with and without the option on equal trees: lines, counts and trees are equal.

    So are the lines of a dry run.
    """
    path = place.path / target
    plain = f"{target} plain"
    twin(path, path.name + " plain")
    common = ("-i", "--delete", *options)
    foretold = done(place.transfer(route, "-n", "--atomic", *common, target=target))
    without = done(place.transfer(route, *common, target=plain))
    with_it = done(place.transfer(route, "--atomic", *common, target=target))
    assert with_it.changes == without.changes == foretold.changes
    assert with_it.files == without.files == foretold.files
    assert with_it.bytes["literal"] + with_it.bytes["matched"] == (
        without.bytes["literal"] + without.bytes["matched"]
    )
    assert facts(path) == facts(place.path / plain)
    assert temporaries(path) == []
    return with_it


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("target", TARGETS)
def test_random_edits_arrive_as_without_it(place: Place, route: str, target: str) -> None:
    """Whatever was edited on either side, the outcome is that of an ordinary run."""
    choose = random.Random(f"{route}{target}")
    source = build_tree(place.path / "source", 1, large=False)
    (place.path / target).parent.mkdir(parents=True, exist_ok=True)
    there = build_tree(place.path / target, 2, large=False)
    for _ in range(2):  # by content: namesakes of one size and time are in both trees
        Editor(source, choose).edit(30)
        Editor(there, choose).edit(15)
        assert_as_without(place, route, target, "-c")
        subprocess.run(["rm", "-rf", place.path / f"{target} plain"], check=True)
    assert snapshot(there) == snapshot(source)


@pytest.mark.parametrize("route", ROUTES)
def test_all_that_a_file_system_can_hold(place: Place, route: str) -> None:
    """Hard links, attributes, ACLs, devices: a first copy, and one onto other things."""
    builder = Builder(place.path / "source", 1, privileged=os.geteuid() == 0)
    source = builder.build()
    done(place.transfer(route, "--atomic"))
    assert facts(place.path / "target") == facts(source)
    again = done(place.transfer(route, "--atomic", "--delete"))
    assert again.files["unchanged"] == again.files["considered"]
    other = Builder(place.path / "other", 2, privileged=os.geteuid() == 0).build()
    for name in (b"file0", b"link", b"fifo", b"empty"):
        os.rename(os.fsencode(other) + b"/" + name, os.fsencode(other) + b"/level/x" + name)
    twin(other, "elsewhere")
    assert_as_without(place, route, "elsewhere", "-c")
    assert facts(place.path / "elsewhere") == facts(source)


@pytest.mark.parametrize("route", ROUTES)
def test_with_a_backup_directory(place: Place, route: str) -> None:
    """What goes is kept as it is without the option, directories' times in the backup aside."""
    choose = random.Random(route)
    source = build_tree(place.path / "source", 1, large=False)
    there = twin(source, "target")
    Editor(source, choose).edit(40)
    plain = twin(there, "plain")
    options = ("-i", "--delete", "--backup-dir", ".kept/today")
    without = done(place.transfer(route, *options, target="plain"))
    with_it = done(place.transfer(route, "--atomic", *options))
    assert with_it.changes == without.changes
    trees = [
        {
            path: each._replace(mtime_ns=0, mode=0) if path[:5] in (b"", b".kept") else each
            for path, each in snapshot(root).items()
        }
        for root in (there, plain)
    ]
    assert trees[0] == trees[1]


def test_large_files_deltas_and_renames(place: Place) -> None:
    """New, changed, renamed and partly sent: all of it comes about in the stage."""
    data = random_bytes(9 << 20, 1)
    source = write(place.path / "source", {
        "new": data, "changed": data[: 5 << 20] + b"x" + data[5 << 20 :],
        "small change": data[:100_000] + b"y", "moved/to": data[1 << 20 : 6 << 20],
    })  # fmt: skip
    there = write(place.path / "target", {
        "changed": data, "small change": data[:100_000] + b"z", "from": data[1 << 20 : 6 << 20],
    })  # fmt: skip
    result = done(place.transfer("push", "--atomic", "--delete"))
    assert result.bytes["matched"] > 13 << 20
    assert snapshot(there) == snapshot(source)
    assert temporaries(there) == []


def assert_unpublished(result: Result, code: int, before: object, target: Path) -> None:
    """The exit code is what it would be, nothing has changed, and the report says so."""
    assert result.code == code, result
    assert "nothing was published" in result.stderr
    assert facts(target) == before
    files = result.files
    assert files["created"] == files["updated"] == files["metadata"] == files["deleted"] == 0
    assert files["considered"] == files["unchanged"] + files["failed"]
    assert result.report["durable"] is False
    assert all(line.startswith("! ") for line in result.changes)


@pytest.mark.parametrize("route", ROUTES)
def test_a_guard_that_holds_publishes_nothing(place: Place, route: str) -> None:
    """Held deletes hold everything; a dry run says the same."""
    write(place.path / "source", {"new": "n", "changed": "now"})
    there = write(place.path / "target", {"changed": "b", "gone": "g", "gone too": "g"})
    before = facts(there)
    options = ("--atomic", "--delete", "--max-delete", "1", "-i")
    for more in ((), ("-n",)):
        result = place.transfer(route, *options, *more, durable=True)
        assert_unpublished(result, 25, before, there)
        assert result.changes == []
    done(place.transfer(route, "--atomic", "--delete", "--max-delete", "2"))
    assert {each.name for each in there.iterdir()} == {"new", "changed"}


def test_a_directory_in_the_way_publishes_nothing(place: Place) -> None:
    """A path that fails, known only at the target, fails the whole run."""
    write(place.path / "source", {"a": "file", "b": "new"})
    there = write(place.path / "target", {"a/full": "x"})
    before = facts(there)
    result = place.transfer("push", "--atomic", "-i")
    assert_unpublished(result, 23, before, there)
    assert result.changes == ["! a"]


@pytest.fixture
def mounted(place: Place) -> Iterator[Path]:
    """A target with another file system in it."""
    there = write(place.path / "target", {"m": None})
    with small_disk(there / "m", 1 << 20):
        (there / "m" / "old").write_bytes(b"old")
        yield there


@needs_mount
@pytest.mark.parametrize("what", ["new", "old", "gone"])
def test_another_mount_in_the_target_is_refused(place: Place, mounted: Path, what: str) -> None:
    """What lies on another mount cannot be published with the rest, and is told so."""
    files: dict[str, str | bytes | None] = {"first": "f", "m": None}
    if what != "gone":
        files[f"m/{what}"] = "changed"
    write(place.path / "source", files)
    before = facts(mounted)
    for more in (("-n",), ()):
        result = place.transfer("push", "--atomic", "--delete", *more)
        assert_unpublished(result, 23, before, mounted)
        assert "another mount" in result.stderr


@needs_mount
def test_a_file_that_is_a_mount_point_publishes_nothing(place: Place) -> None:
    """Its name can be given to nothing else: it is told before anything is committed."""
    write(place.path / "source", {"a": "new", "b": "new"})
    there = write(place.path / "target", {"a": "old", "b": "old"})
    subprocess.run(["mount", "--bind", there / "b", there / "b"], check=True)
    try:
        before = facts(there)
        result = place.transfer("push", "--atomic")
        assert_unpublished(result, 23, before, there)
        assert "is a mount point" in result.stderr
    finally:
        subprocess.run(["umount", there / "b"], check=True)


@needs_mount
@pytest.mark.parametrize("what", ["b", "d", "gone"])
def test_an_immutable_entry_publishes_nothing(place: Place, what: str) -> None:
    """Neither what is replaced or removed, nor the directory it is in, may be pinned."""
    write(place.path / "source", {"a": "new", "b": "new", "d/c": "new"})
    with ext4(place.path) as there:
        write(there, {"a": "old", "b": "old", "d/c": "old", "gone": "x"})
        shutil.rmtree(there / "lost+found")
        subprocess.run(["chattr", "+i", there / what], check=True)
        try:
            before = facts(there)
            result = place.transfer("push", "--atomic", "--delete", target="mounted")
            assert_unpublished(result, 23, before, there)
        finally:
            subprocess.run(["chattr", "-i", there / what], check=True)
        done(place.transfer("push", "--atomic", "--delete", target="mounted"))


@needs_mount
def test_no_room_for_new_directories_is_seen_before_the_commit(place: Place) -> None:
    """They are made when it is too late to give up: room for all of them is asked for before."""
    write(place.path / "source", {f"d{number}": None for number in range(1500)})
    with ext4(place.path) as there:
        free = os.statvfs(there)
        (there / "filler").write_bytes(bytes(free.f_bfree * free.f_frsize - (1 << 20)))
        result = place.transfer("push", "--atomic", target="mounted")
        assert (result.code, "nothing was published" in result.stderr) == (11, True), result
        assert {each.name for each in there.iterdir()} == {"filler", "lost+found"}


@needs_root
def test_a_backup_directory_we_may_not_write_in_publishes_nothing() -> None:
    """Where a backup must go is looked at before anything is committed."""
    with tempfile.TemporaryDirectory() as base:
        place = Place(Path(base), "")
        place.path.chmod(0o755)
        source = write(place.path / "source", {"a": "new", "d/b": "new"})
        there = write(place.path / "target", {"a": "old", "d/b": "old", ".kept/d": None})
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", source, there], check=True)
        os.chown(there / ".kept" / "d", 0, 0)
        before = facts(there)
        options = ("--atomic", "--backup-dir", ".kept")
        result = place.transfer("local", *options, user=NOBODY)
        assert_unpublished(result, 23, before, there)
        assert "its backup cannot be written" in result.stderr


@needs_mount
def test_a_backup_directory_on_another_mount_gets_copies(place: Place) -> None:
    """What goes can be copied there; only what is published must be on one mount."""
    source = write(place.path / "source", {"a": "new"})
    there = write(place.path / "target", {"a": "old", "gone/x": "x", ".kept": None})
    with small_disk(there / ".kept", 1 << 20):
        done(place.transfer("push", "--atomic", "--delete", "--backup-dir", ".kept"))
        kept = {each.relative_to(there / ".kept") for each in (there / ".kept").rglob("*")}
        assert kept == {Path("a"), Path("gone"), Path("gone/x")}
        assert (there / ".kept" / "a").read_text() == "old"
    assert (there / "a").read_text() == (source / "a").read_text()
    assert not (there / "gone").exists()


@needs_root
def test_an_ordinary_users_run() -> None:
    """Without privileges: a closed directory of one's own is entered, another's is a failure."""
    with tempfile.TemporaryDirectory() as base:
        place = Place(Path(base), "")
        place.path.chmod(0o755)
        source = write(place.path / "source", {"mine/sub/new": "n", "mine/old": "now", "top": "t"})
        there = write(place.path / "target", {"mine/old": "b", "mine/gone": "x"})
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", source, there], check=True)
        (there / "mine").chmod(0o555)
        (source / "mine").chmod(0o555)
        result = place.transfer("local", "--atomic", "--delete", user=NOBODY)
        assert result.code == 0, result
        assert facts(there) == facts(source)
        (source / "mine" / "old").write_bytes(b"newer")
        os.chown(there / "mine", 0, 0)
        before = facts(there)
        failed = place.transfer("local", "--atomic", "--delete", user=NOBODY)
        assert_unpublished(failed, 23, before, there)


def test_what_cannot_be_meant_together(place: Place) -> None:
    """Writing in place, and deleting before there is anything to replace it."""
    write(place.path / "source", {"a": "1"})
    for other in ("--inplace", "--delete-before"):
        result = place.transfer("push", "--atomic", other)
        assert (result.code, "--atomic" in result.stderr) == (1, True), result


def test_two_at_once_do_not_mix(place: Place) -> None:
    """While one run holds a destination another says so, and changes nothing."""
    write(place.path / "source", {"a": "1"})
    there = write(place.path / "target", {"b": "2"})
    with opened(there) as fd:
        stage = Stage(fd)
        stage.open()
        assert stage.hold() is not None
        result = place.transfer("push", "--atomic")
        assert (result.code, "another --atomic run" in result.stderr) == (11, True), result
        done(place.transfer("push"))  # an ordinary one goes on as ever
        stage.close()
    done(place.transfer("push", "--atomic", "--delete"))
    assert [each.name for each in there.iterdir()] == ["a"]


def test_a_stage_of_somebody_else_is_refused(place: Place) -> None:
    """Without a stage of ours alone there is nowhere to prepare."""
    write(place.path / "source", {"a": "1"})
    there = write(place.path / "target", {".netsync": None})
    (there / ".netsync").chmod(0o777)
    result = place.transfer("push", "--atomic")
    assert result.code == 11
    assert ".netsync" in result.stderr
    assert not (there / "a").exists()


@needs_root
def test_what_another_user_has_committed_is_not_written_over(place: Place) -> None:
    """It would undo what is newer: a run is refused, and told what to do; then that is done."""
    write(place.path / "source", {"a": "1"})
    there = place.path / "target"
    there.mkdir()
    with opened(there) as fd:
        committed(there, fd).close()
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", there], check=True)
    before = facts(there)
    for options in ((), ("--atomic",)):
        result = place.transfer("local", *options)
        assert result.code == 11, result
        assert f"as the user with the number {NOBODY}" in result.stderr
    assert facts(there) == before
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        (Path(base) / "source").mkdir()
        subprocess.run(["mv", there, f"{base}/target"], check=True)
        result = Place(Path(base), "").transfer("local", "--no-times", user=NOBODY)
        assert (result.code, "published to the end first" in result.stderr) == (0, True), result
        check(Path(base) / "target", "")


def test_the_next_run_finishes_what_was_committed(place: Place) -> None:
    """Whatever the next run does, the committed one is done first; a dry run only says it waits."""
    source = write(place.path / "source", {})
    source.mkdir(exist_ok=True)
    there = place.path / "target"
    there.mkdir()
    with opened(there) as fd:
        committed(there, fd).close()
    dry = place.transfer("push", "-n")
    assert dry.code == 0
    assert "waits to be published" in dry.stderr
    assert any(there.glob(".netsync/*/journal"))
    result = place.transfer("push", "--no-times")
    assert (result.code, "published to the end first" in result.stderr) == (0, True), result
    check(there, "")


def test_a_server_that_starts_finishes_what_was_committed(tmp_path: Path) -> None:
    """At a module's root, and below it where the state directory says so, before it serves."""
    module, state = tmp_path / "module", tmp_path / "state"
    below = module / "one" / "two"
    for root in (module, below):
        root.mkdir(parents=True, exist_ok=True)
        with opened(root) as fd:
            committed(root, fd).close()
    PendingPlace(state, os.fsencode(below)).note()
    with serving("--module", f"m={module}", "--state", str(state)) as server:
        check(below, "")
        assert server.log.count("finished a run that was cut short") == 2
    assert pending_places(state) == []
    assert not list(tmp_path.rglob(".netsync"))


def test_a_place_that_could_not_be_finished_stays_noted(tmp_path: Path) -> None:
    """What is not there, or in a stage that is refused, is looked for again at the next start."""
    module, state = tmp_path / "module", tmp_path / "state"
    refused = module / "refused"
    refused.mkdir(parents=True)
    with opened(refused) as fd:
        committed(refused, fd).close()
    (refused / ".netsync").chmod(0o755)
    places = [os.fsencode(module / name) for name in ("not mounted", "refused")]
    for each in places:
        PendingPlace(state, each).note()
    with serving("--module", f"m={module}", "--state", str(state)) as server:
        assert "a run that was cut short waits" in server.log
        assert "mode 0700 again" in server.log
    assert sorted(pending_places(state)) == places
    (refused / ".netsync").chmod(0o700)
    with serving("--module", f"m={module}", "--state", str(state)):
        check(refused, "")
    assert pending_places(state) == places[:1]


def test_a_run_is_noted_only_while_it_commits(place: Place, tmp_path: Path) -> None:
    """After a run that went well the state directory knows of no pending place."""
    write(place.path / "source", {"a": "1"})
    done(place.transfer("local", "--atomic", state=tmp_path))
    assert (tmp_path / "state.sqlite3").exists()
    assert pending_places(tmp_path) == []


def test_help_names_the_option() -> None:
    """The command's help tells what it does."""
    assert "--atomic" in netsync("push", "--help").stdout
