"""Metadata by every route, as root and as an ordinary user, with the system's tools as oracles."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import certificates
from tests.support.confined import NOBODY, let_all_in, needs_root
from tests.support.places import ROUTES, Place, differences, rsync
from tests.support.processes import Result
from tests.support.samples import snapshot, write
from tests.support.trees import needs_mount
from tests.support.xattrs import acl_value, attributes_below, capability_value, put

pytestmark = needs_root
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
needs_tools = pytest.mark.skipif(
    shutil.which("getfacl") is None or shutil.which("getfattr") is None,
    reason="acl and attr are not installed",
)

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
DAEMON: Final = pwd.getpwnam("daemon")


def furnished(root: Path) -> Path:
    """Return a tree with attributes and ACLs on everything, here and three levels down."""
    for top in (root, root / "a" / "b" / "c"):
        write(top, {"file": "content", "dir/in": "inside", "plain": "no attributes"})
        (top / "link").symlink_to("file")
        os.mkfifo(top / "fifo")
        put(top / "file", user__a=b"1", trusted__b=b"\0\n=\xff")
        put(top / "file", **{ACCESS: acl_value([(DAEMON.pw_uid, 6), (1234, 1)], [(4321, 4)])})
        put(top / "dir", user__d=b"", **{DEFAULT: acl_value([(1234, 7)])})
        put(top / "link", trusted__link=b"l")
        put(top / "fifo", trusted__fifo=b"f")
    put(root / "plain", security__capability=capability_value())
    put(root, user__root=b"r", **{ACCESS: acl_value([(99, 7)], mode=0o755)})
    return root


def shown(tool: str, *options: str, root: Path) -> list[str]:
    """Return what one of the system's tools says of a tree, as sorted paragraphs."""
    words = [tool, *options, "."]
    done = subprocess.run(words, cwd=root, capture_output=True, check=True)
    return sorted(done.stdout.decode("utf-8", "surrogateescape").split("\n\n"))


def assert_alike(source: Path, target: Path) -> None:
    assert snapshot(target) == snapshot(source)
    assert attributes_below(target) == attributes_below(source)
    for tool in (("getfacl", "-R", "-n", "-P"), ("getfattr", "-R", "-h", "-d", "-m", "-")):
        if shutil.which(tool[0]):
            assert shown(*tool, root=target) == shown(*tool, root=source)
    if shutil.which("rsync"):
        assert differences(source, target, "-AXH") == ""


def done(result: Result) -> Result:
    assert (result.code, result.stderr) == (0, ""), result
    return result


def assert_settled(place: Place, route: str, *options: str, unchanged: int) -> None:
    """Once more: nothing is to do."""
    again = done(place.transfer(route, *options))
    assert {name: count for name, count in again.files.items() if count} == {
        "considered": unchanged, "unchanged": unchanged
    }  # fmt: skip


@needs_tools
@pytest.mark.parametrize("route", ROUTES)
def test_attributes_are_kept_changed_and_revoked_and_the_second_run_changes_nothing(
    place: Place, route: str
) -> None:
    source = furnished(place.path / "source")
    considered = done(place.transfer(route)).files["considered"]
    assert_alike(source, place.path / "target")
    assert_settled(place, route, unchanged=considered)
    for top in (source, source / "a" / "b" / "c"):
        put(top / "file", user__a=b"changed", trusted__b=None, **{ACCESS: None})
        put(top / "dir", user__d=None, user__e=b"2", **{DEFAULT: None, ACCESS: acl_value([(7, 7)])})
        put(top / "link", trusted__link=None)
        put(top / "fifo", trusted__fifo=b"changed", trusted__more=b"")
    put(source / "plain", security__capability=None)
    put(source, user__root=b"R", **{ACCESS: None})
    result = done(place.transfer(route, "-aHAX", "--delete"))
    assert_alike(source, place.path / "target")
    assert (result.files["metadata"], result.files["updated"]) == (9, 0)
    assert result.bytes["literal"] == result.bytes["matched"] == 0
    assert_settled(place, route, unchanged=considered)


@needs_rsync
@pytest.mark.parametrize("route", ROUTES)
def test_after_what_rsync_copied_there_is_nothing_to_do(place: Place, route: str) -> None:
    source = furnished(place.path / "source")
    rsync("-aAXH", EXACT, f"{source}/", f"{place.path}/target/")
    result = done(place.transfer(route))
    assert result.files["unchanged"] == result.files["considered"]


@pytest.mark.parametrize("option", ["--no-xattrs", "--no-acls"])
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_turned_off_is_left_out(place: Place, route: str, option: str) -> None:
    source = write(place.path / "source", {"f": "x"})
    put(source / "f", user__a=b"1", **{ACCESS: acl_value([(5, 5)])})
    done(place.transfer(route, option))
    kept = "user.a" if option == "--no-acls" else ACCESS
    assert list(attributes_below(place.path / "target")["f"]) == [kept]


@pytest.mark.parametrize("route", ROUTES)
def test_acls_name_people_not_numbers(place: Place, route: str) -> None:
    """With names told, an unknown number stays; --numeric-ids sends no names at all."""
    source = write(place.path / "source", {"f": "x"})
    value = acl_value([(DAEMON.pw_uid, 7), (54_321, 4)])
    put(source / "f", **{ACCESS: value})
    for options in ((), ("--numeric-ids",)):
        done(place.transfer(route, *options))
        assert attributes_below(place.path / "target")["f"] == {ACCESS: value}


EXACT: Final = "--modify-window=-1"
"""Without it rsync takes times within one second for equal."""
NAMED: Final = ("daemon", "bin", "sys")
OWNERSHIP: Final = [
    ("--usermap=daemon:bin,*:sys",),
    ("--usermap=0:daemon,1000-2000:bin,:sys", "--groupmap=root:daemon,*:54321"),
    ("--groupmap=d*:bin",),
    ("--chown=daemon:bin",),
    ("--chown=:daemon",),
    ("--chown=daemon",),
    ("--numeric-ids", "--usermap=0-1:77,*:78"),
    ("--chmod=D2750,F640",),
    ("--chmod=Dg+s,ug+w,Fo-w,+X",),
    ("--chmod=u=rwX,go=rX",),
    ("--chmod=a-st,F-x",),
]


def owned(root: Path) -> Path:
    """Return a tree of many owners, groups and modes."""
    users = [pwd.getpwnam(name).pw_uid for name in NAMED]
    groups = [grp.getgrnam(name).gr_gid for name in NAMED]
    for number, (uid, gid) in enumerate(
        [(0, 0), *zip(users, groups, strict=True), (1500, 3_000_000_000), (54_000, 0)]
    ):
        for name, mode in ((f"f{number}", 0o600 | number * 0o11), (f"x{number}", 0o6755)):
            write(root, {name: "x", f"d{number}/in": "y"})
            for path in (root / name, root / f"d{number}"):
                os.chown(path, uid, gid)
            (root / name).chmod(mode)
        (root / f"d{number}").chmod(0o1777 if number % 2 else 0o710)
        (root / f"l{number}").symlink_to("f0")
        os.chown(root / f"l{number}", uid, gid, follow_symlinks=False)
    return root


@needs_rsync
@pytest.mark.parametrize("options", OWNERSHIP, ids=" ".join)
def test_owners_and_modes_change_on_their_way_as_rsync_changes_them(
    place: Place, options: tuple[str, ...]
) -> None:
    source = owned(place.path / "source")
    rsync("-a", EXACT, *options, f"{source}/", f"{place.path}/oracle/")
    for route in ROUTES:
        considered = done(place.transfer(route, *options, target=route)).files["considered"]
        assert snapshot(place.path / route) == snapshot(place.path / "oracle")
        again = done(place.transfer(route, *options, target=route))
        assert again.files["unchanged"] == considered


@pytest.mark.parametrize("route", ROUTES)
def test_a_changed_mode_changes_the_acl_with_it(place: Place, route: str) -> None:
    source = write(place.path / "source", {"f": "x", "d/in": "y"})
    for name in ("f", "d"):
        put(source / name, **{ACCESS: acl_value([(5, 7)], mode=0o777)})
    done(place.transfer(route, "--chmod=F640,D750"))
    target = attributes_below(place.path / "target")
    assert target == {"f": {ACCESS: acl_value([(5, 7)], mode=0o640)},
                      "d": {ACCESS: acl_value([(5, 7)], mode=0o750)}}  # fmt: skip
    assert_settled(place, route, "--chmod=F640,D750", unchanged=3)


WRONG: Final = [
    ("--usermap=daemon", "read --usermap daemon: 'daemon' is not FROM:TO"),
    ("--groupmap=a:", "read --groupmap a:: a name or number after the colon is missing"),
    ("--chown=:", "read --chown :: give USER, USER:GROUP or :GROUP"),
    ("--chmod=q", "read --chmod q: 'q' is not like D755, Fgo-w or +X"),
    ("--usermap=*:no-such-user", "map owners to no-such-user: the target knows no such user or"
     " group"),
    ("--chown=:no-such-group", "map owners to no-such-group: the target knows no such user or"
     " group"),
]  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("option", "line"), WRONG)
def test_wrong_options_are_one_line_and_nothing_is_done(
    place: Place, route: str, option: str, line: str
) -> None:
    write(place.path / "source", {"f": "x"})
    result = place.transfer(route, option)
    assert (result.code, result.stderr) == (1, f"netsync: {line}\n")
    assert not (place.path / "target" / "f").exists()


def test_options_that_contradict_each_other_are_refused(place: Place) -> None:
    write(place.path / "source", {"f": "x"})
    result = place.transfer("local", "--chown=daemon", "--usermap=1:2")
    assert result.code == 1
    assert "contradict" in result.stderr


@pytest.fixture
def nobodys(place: Place) -> Place:
    """A place whose source root filled and whose targets an ordinary user owns."""
    let_all_in(place.path)
    for name in ("local", "pull"):
        (place.path / name).mkdir()
        os.chown(place.path / name, NOBODY, NOBODY)
    return place


@pytest.mark.parametrize("route", ["local", "pull"])
def test_an_ordinary_user_keeps_what_he_may_and_is_told_of_the_rest_once(
    nobodys: Place, route: str, tmp_path: Path
) -> None:
    source = furnished(nobodys.path / "source")
    write(source, {"program": "#!", "read-only": "x"})
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    (source / "program").chmod(0o6755)
    put(source / "read-only", user__a=b"1")
    (source / "read-only").chmod(0o444)
    identity = tmp_path / "identity"
    shutil.copytree(certificates().client.directory, identity)
    for path in (identity, *identity.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    let_all_in(tmp_path)
    told = 5 if route == "pull" else 3  # an ordinary source sees no trusted attributes
    for run in range(2):
        result = nobodys.transfer(route, target=route, identity=identity, user=NOBODY)
        assert (result.code, result.report["problems"]) == (0, []), result
        notices = result.report["notices"]
        assert len(notices) == len(set(notices)) == told, notices
        if run:
            assert result.files["unchanged"] == result.files["considered"]
    target = nobodys.path / route
    assert (target / "program").stat().st_mode & 0o7777 == 0o755
    assert not (target / "null").exists()
    here, there = attributes_below(target), attributes_below(source)
    assert here["read-only"] == {"user.a": b"1"}
    assert {"link", "fifo"}.isdisjoint(here)
    for name in ("file", "a/b/c/file"):
        assert here[name] == {key: there[name][key] for key in ("user.a", ACCESS)}


@needs_mount
@pytest.mark.parametrize("route", ROUTES)
def test_a_file_system_without_attributes_is_told_once_and_keeps_all_else(
    place: Place, route: str
) -> None:
    source = furnished(place.path / "source")
    (place.path / "target").mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", place.path / "target"], check=True)
    try:
        if route != "local":  # what was mounted since the server began is seen all the same
            assert os.path.ismount(place.path / "target")
        for run in range(2):
            result = place.transfer(route)
            assert result.code == 23
            assert len(result.report["problems"]) == 4
            if run:
                assert result.files["unchanged"] == result.files["considered"]
        assert snapshot(place.path / "target") == snapshot(source)
    finally:
        subprocess.run(["umount", "--lazy", place.path / "target"], check=True)
