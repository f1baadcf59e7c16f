"""What an ordinary user may not set is kept beside an entry, and given back to root."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from netsync.model import Kind
from netsync.plan.stored import Record, pack
from tests.support.certificates import certificates
from tests.support.confined import NOBODY, let_all_in, needs_root
from tests.support.places import ROUTES, Place
from tests.support.processes import Result
from tests.support.samples import snapshot, write
from tests.support.xattrs import acl_value, attributes_below, capability_value, put

pytestmark = needs_root
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
RECORD: Final = "user.netsync.metadata"
NAME: Final = pwd.getpwuid(NOBODY).pw_name
STORE: Final = "--store-metadata"
VOUCHED: Final = (STORE, f"--stored-by={NAME}")
DAEMON: Final = pwd.getpwnam("daemon")
PLANTED: Final = pack(Record(1, Kind.FILE, 0o4755, 0, 0))


@pytest.fixture
def nobodys(place: Place) -> Place:
    """A place in which an ordinary user owns the directories named after the routes."""
    let_all_in(place.path)
    for name in ("local", "pull"):
        (place.path / name).mkdir()
        os.chown(place.path / name, NOBODY, NOBODY)
    return place


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """The client's certificate, for the ordinary user to read."""
    directory = tmp_path / "identity"
    shutil.copytree(certificates().client.directory, directory)
    for path in (directory, *directory.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    let_all_in(tmp_path)
    return directory


def furnished(root: Path) -> Path:
    """Return a tree with everything that only root may set, but no links and FIFOs."""
    for top in (root, root / "a" / "b"):
        write(top, {"program": "#!", "shared": "s", "plain": "p", "acl": "x", "dir/in": "inside"})
        os.chown(top / "program", 0, DAEMON.pw_gid)
        (top / "program").chmod(0o6755)
        put(top / "program", security__capability=capability_value(), user__a=b"1")
        os.chown(top / "shared", DAEMON.pw_uid, 54_321)
        (top / "shared").chmod(0o664)
        put(top / "acl", **{ACCESS: acl_value([(DAEMON.pw_uid, 7)], mode=0o775)})
        os.chown(top / "dir", DAEMON.pw_uid, DAEMON.pw_gid)
        (top / "dir").chmod(0o2775)
        put(top / "dir", **{DEFAULT: acl_value([(1234, 7)])})
        os.mknod(top / "null", 0o020666, os.makedev(1, 3))
        os.mknod(top / "disk", 0o060640, os.makedev(8, 1))
        os.chown(top / "disk", 0, DAEMON.pw_gid)
        os.link(top / "disk", top / "disk-again")
    root.chmod(0o751)
    root.chmod(0o755)
    return root


def fine(result: Result) -> Result:
    assert (result.code, result.stderr) == (0, ""), result
    assert (result.report["problems"], result.report.get("notices", [])) == ([], [])
    return result


def assert_unchanged(result: Result) -> None:
    assert fine(result).files["unchanged"] == result.files["considered"], result


@pytest.mark.parametrize("route", ["local", "pull"])
def test_what_nobody_may_not_set_comes_back_to_root(
    nobodys: Place, route: str, identity: Path
) -> None:
    source = furnished(nobodys.path / "source")
    if route == "pull":  # the server sees these, an ordinary source would not
        put(source / "plain", trusted__t=b"2")
        (source / "shared").chmod(0)
    store = nobodys.path / route
    fine(nobodys.transfer(route, STORE, target=route, identity=identity, user=NOBODY))
    assert {facts.uid for facts in snapshot(store).values()} == {NOBODY}
    assert not (store / "null").is_char_device()
    assert not any(facts.mode & 0o022 for facts in snapshot(store).values())
    assert_unchanged(nobodys.transfer(route, STORE, target=route, identity=identity, user=NOBODY))
    for back in ROUTES:
        place: dict[str, Any] = {"source": f"{route}/", "target": f"restored-{back}"}
        fine(nobodys.transfer(back, *VOUCHED, **place))
        restored = nobodys.path / f"restored-{back}"
        assert snapshot(restored) == snapshot(source)
        assert attributes_below(restored) == attributes_below(source)
        assert (restored / "disk").samefile(restored / "disk-again")
        assert_unchanged(nobodys.transfer(back, *VOUCHED, **place))


def test_what_changes_at_the_source_changes_in_the_store(nobodys: Place, identity: Path) -> None:
    source = furnished(nobodys.path / "source")
    who: dict[str, Any] = {"target": "pull", "identity": identity, "user": NOBODY}
    fine(nobodys.transfer("pull", STORE, **who))
    os.chown(source / "plain", 12_345, 0)
    put(source / "program", security__capability=None)
    for path, numbers in ((source / "null", (1, 5)), (source / "a" / "b" / "disk", (8, 2))):
        path.unlink()
        os.mknod(path, 0o020600, os.makedev(*numbers))
    (source / "a" / "b" / "null").unlink()
    (source / "a" / "b" / "null").write_bytes(b"")
    os.chown(source / "shared", NOBODY, NOBODY)
    fine(nobodys.transfer("pull", STORE, "--delete", **who))
    assert RECORD not in attributes_below(nobodys.path / "pull").get("shared", {})
    assert_unchanged(nobodys.transfer("pull", STORE, "--delete", **who))
    fine(nobodys.transfer("local", *VOUCHED, source="pull/", target="restored"))
    assert snapshot(nobodys.path / "restored") == snapshot(source)
    assert attributes_below(nobodys.path / "restored") == attributes_below(source)


def test_root_stores_nothing_and_turns_a_store_into_the_real_thing(
    nobodys: Place, identity: Path
) -> None:
    source = furnished(nobodys.path / "source")
    fine(nobodys.transfer("pull", STORE, target="pull", identity=identity, user=NOBODY))
    fine(nobodys.transfer("push", STORE, target="pull"))
    assert snapshot(nobodys.path / "pull") == snapshot(source)
    assert attributes_below(nobodys.path / "pull") == attributes_below(source)
    assert_unchanged(nobodys.transfer("push", STORE, target="pull"))


@pytest.mark.parametrize("route", ROUTES)
def test_a_planted_record_is_not_believed(nobodys: Place, route: str) -> None:
    """Neither of an ordinary user's nor on what others may write to, and never unasked."""
    source = write(nobodys.path / "source", {"his": "x", "open": "y", "acl": "z", "ours": "w"})
    os.chown(source / "his", NOBODY, NOBODY)
    (source / "open").chmod(0o666)
    for name in ("his", "open", "acl", "ours"):
        (source / name).chmod(0o666 if name == "open" else 0o644)
        put(source / name, **{RECORD: PLANTED})
    put(source / "acl", **{ACCESS: acl_value([(NOBODY, 6)], mode=0o664)})
    target = nobodys.path / "target"
    fine(nobodys.transfer(route))
    assert not any(facts.mode & 0o6000 for facts in snapshot(target).values())
    result = nobodys.transfer(route, STORE)
    assert result.code == 23
    (problem,) = result.report["problems"]
    assert problem["op"] == "believe the stored metadata of"
    modes = {name: (target / name).stat().st_mode & 0o7777 for name in ("his", "open", "ours")}
    assert modes == {"his": 0o644, "open": 0o666, "ours": 0o4755}
    assert (target / "acl").stat().st_mode & 0o6000 == 0
    assert (target / "his").stat().st_uid == NOBODY


WRONG: Final = [
    b"",
    b"\xc1",
    PLANTED[:-1],
    pack(Record(1, Kind.CHARACTER, 0, 0, 0, device=259)),  # of a file that is not empty
    pack(Record(1, Kind.DIRECTORY, 0, 0, 0)),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_damaged_record_is_a_problem_of_its_path_alone(nobodys: Place, wrong: bytes) -> None:
    source = write(nobodys.path / "source", {"bad": "x", "good": "y"})
    put(source / "bad", **{RECORD: wrong})
    result = nobodys.transfer("push", STORE)
    assert result.code == 23
    assert [each["path"] for each in result.report["problems"]] == ["bad"]
    assert [path.name for path in (nobodys.path / "target").iterdir()] == ["good"]


def test_what_has_no_attributes_is_told_of_once(nobodys: Place, identity: Path) -> None:
    source = write(nobodys.path / "source", {"f": "x"})
    for name in ("link", "other"):
        (source / name).symlink_to("f")
    os.mkfifo(source / "fifo")
    who: dict[str, Any] = {"target": "local", "identity": identity, "user": NOBODY}
    for _ in range(2):
        result = nobodys.transfer("local", STORE, **who)
        assert (result.code, result.report["problems"]) == (0, [])
        assert len(result.report["notices"]) == 1
    assert result.files["unchanged"] == result.files["considered"]


def test_whom_to_believe_must_exist_and_needs_the_option(place: Place) -> None:
    write(place.path / "source", {"f": "x"})
    unknown = place.transfer("push", STORE, "--stored-by=no-such-user")
    assert unknown.code == 1
    assert "the source knows no such user" in unknown.stderr
    assert place.transfer("push", "--stored-by=root").code == 1


def test_a_source_that_runs_as_who_stored_is_believed(nobodys: Place, identity: Path) -> None:
    """An ordinary user pushes what he stored to root, who need not vouch for him."""
    source = furnished(nobodys.path / "source")
    put(source / "plain", trusted__t=b"2")
    who: dict[str, Any] = {"identity": identity, "user": NOBODY}
    fine(nobodys.transfer("pull", STORE, target="pull", **who))
    for _ in range(2):
        back = fine(nobodys.transfer("push", STORE, source="pull/", target="restored", **who))
    assert back.files["unchanged"] == back.files["considered"]
    assert snapshot(nobodys.path / "restored") == snapshot(source)
    assert attributes_below(nobodys.path / "restored") == attributes_below(source)
    fine(nobodys.transfer("push", source="pull/", target="unasked", **who))
    assert {facts.uid for facts in snapshot(nobodys.path / "unasked").values()} == {NOBODY}
