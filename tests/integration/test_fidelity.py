"""Nothing is lost: a tree with everything survives each route, attribute for attribute."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import certificates
from tests.support.confined import NOBODY, let_all_in, needs_root
from tests.support.fidelity import ACCESS, DEFAULT, LEVEL_NAMES, Builder, acl, snapshot
from tests.support.places import ROUTES, Place
from tests.support.processes import Result

pytestmark = needs_root
DEEP = os.fsdecode(b"/".join(LEVEL_NAMES[:3]))
"""Three levels down; the names below it are longer than some calls like."""
PLACES = ["", DEEP + "/"]


def unchanged(result: Result) -> None:
    """The run found nothing to do, and did nothing."""
    assert (result.code, result.stderr) == (0, ""), result
    files = result.files
    assert files["considered"] == files["unchanged"] > 100, result
    assert result.bytes["literal"] == result.bytes["matched"] == 0


def same(source: Path, target: Path, *, owned: bool = True) -> None:
    theirs, ours = snapshot(source, owned=owned), snapshot(target, owned=owned)
    assert ours.keys() == theirs.keys()
    assert {path: (theirs[path], ours[path]) for path in ours if ours[path] != theirs[path]} == {}


@pytest.mark.parametrize("route", ROUTES)
def test_everything_survives_and_a_second_run_finds_nothing_to_do(place: Place, route: str) -> None:
    source = Builder(place.path / "source", 1, privileged=True).build()
    result = place.transfer(route)
    assert (result.code, result.stderr) == (0, "")
    assert result.files["created"] == result.files["considered"]
    same(source, place.path / "target")
    unchanged(place.transfer(route, "--delete"))
    same(source, place.path / "target")


def edit_link(root: Path, base: str) -> None:
    (root / base / "file3").unlink()
    os.link(root / base / "file1", root / base / "file3")


def edit_unlink(root: Path, base: str) -> None:
    data, status = (root / base / "file2").read_bytes(), (root / base / "file2").stat()
    (root / base / "file2").unlink()
    (root / base / "file2").write_bytes(data)
    os.utime(root / base / "file2", ns=(status.st_mtime_ns, status.st_mtime_ns))


def edit_attributes(root: Path, base: str) -> None:
    os.setxattr(root / base / "file1", "user.added", b"1")
    os.setxattr(root / base / "empty", "user.level", b"changed")
    os.setxattr(root / base / "link", "trusted.on.link", b"1", follow_symlinks=False)


def edit_revoke(root: Path, base: str) -> None:
    for name in ("file0", "file1", "file2", "file3"):
        for attribute in os.listxattr(root / base / name):
            os.removexattr(root / base / name, attribute)
    os.removexattr(root / base / "empty", DEFAULT)


def edit_acl(root: Path, base: str) -> None:
    os.setxattr(root / base / "file0", ACCESS, acl(7, 1))
    os.setxattr(root / base / "file3", ACCESS, acl(8, 6))


def edit_modes(root: Path, base: str) -> None:
    (root / base / "file0").chmod(0o7001)
    (root / base / "empty").chmod(0o2700)
    os.chown(root / base / "fifo", 3, 4)


METADATA_EDITS = [edit_link, edit_unlink, edit_attributes, edit_revoke, edit_acl, edit_modes]


@pytest.mark.parametrize("edit", METADATA_EDITS)
@pytest.mark.parametrize("route", ROUTES)
def test_metadata_follows_without_data(
    place: Place, route: str, edit: Callable[[Path, str], None]
) -> None:
    """Links, attributes and ACLs that were added, changed or revoked cost no file data.

    At the root and three levels down.
    """
    source = Builder(place.path / "source", 2, privileged=True).build()
    assert place.transfer(route).code == 0
    for base in PLACES:
        edit(source, base)
    result = place.transfer(route, "--delete")
    assert (result.code, result.stderr) == (0, "")
    assert result.bytes["literal"] == 0
    same(source, place.path / "target")
    unchanged(place.transfer(route, "--delete"))


@pytest.mark.parametrize("route", ["pull", "local"])
def test_an_ordinary_users_standby_keeps_what_it_may(
    place: Place, tmp_path: Path, route: str
) -> None:
    """Owners, devices and privileged attributes are left out with a word each; exit 0."""
    source = Builder(place.path / "source", 3, privileged=True).build()
    for path, _, names in os.walk(os.fsencode(source)):
        os.chmod(path, 0o755)
        for name in names:
            if stat.S_ISREG(os.lstat(path + b"/" + name).st_mode):
                os.chmod(path + b"/" + name, 0o644)
    target = place.path / "target"
    target.mkdir()
    identity = tmp_path / "identity"
    shutil.copytree(certificates().client.directory, identity)
    for each in (target, identity, *identity.iterdir()):
        os.chown(each, NOBODY, NOBODY)
    let_all_in(place.path)
    let_all_in(tmp_path)
    results = [place.transfer(route, identity=identity, user=NOBODY) for _ in range(2)]
    for result in results:
        assert (result.code, result.report["result"]) == (0, "ok"), result
    files = results[1].files
    assert files["unchanged"] == files["considered"]
    theirs, ours = snapshot(source, owned=False), snapshot(target, owned=False)
    devices = {path for path in theirs if path not in ours}
    assert all(path.rpartition(b"/")[2].endswith((b"character", b"block")) for path in devices)
    for path, facts in ours.items():
        theirs_there = theirs[path]._replace(mode=theirs[path].mode & 0o1777)
        assert facts._replace(mode=facts.mode & 0o1777) == theirs_there, path
