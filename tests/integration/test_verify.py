"""``netsync verify``: what is told of two trees, by real processes, here and over TLS."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import pytest

from tests.support.certificates import certificates, issue
from tests.support.processes import Result, Server, netsync, serving, succeed
from tests.support.rotting import disk, needs_images
from tests.support.samples import random_bytes
from tests.support.trees import Value, make_tree, read_tree

FILES: dict[str, Value] = {
    "a": b"1",
    "d": {"b": b"2" * 1000},
    "large": random_bytes(300_000, 1),
    "link": "a",
}
ROUTES = ("local", "push", "pull")
WHOLE = random_bytes(40_000, 7)
ROTTED = "its content is not what it was on"


class Trees:
    """A source and a target that are equal, and a server of one of them."""

    def __init__(self, base: Path, route: str) -> None:
        self.base, self.route = base, route
        self.source = make_tree(base / "source", FILES)
        self.target = base / "target"
        succeed("push", f"{self.source}/", f"{self.target}/")

    @property
    def served(self) -> Path:
        """The directory that is on a server."""
        return self.source if self.route == "pull" else self.target

    def verify(self, server: Server | None, *options: str) -> Result:
        """Compare them."""
        source, target = f"{self.source}/", f"{self.target}/"
        if server is not None and self.route == "pull":
            source = server.url("m/")
        elif server is not None:
            target = server.url("m/")
        return netsync("verify", *options, source, target, state=self.base / "here")


@pytest.fixture(params=ROUTES)
def trees(request: pytest.FixtureRequest, tmp_path: Path) -> Trees:
    return Trees(tmp_path, request.param)


def test_differences_are_told_and_nothing_is_changed(trees: Trees) -> None:
    """Equal trees: 0 and silence. Then each kind of difference, in the lines of the contract."""
    with serving("--module", f"m={trees.served}") as server:
        via = None if trees.route == "local" else server
        same = trees.verify(via, "--json")
        assert (same.code, same.changes, same.stderr) == (0, [], "")
        assert same.report["result"] == "ok"
        assert same.report["command"] == "verify"
        (trees.source / "new").write_text("new")
        os.utime(trees.source / "d" / "b", (1, 1))
        status = (trees.target / "large").stat()
        with (trees.target / "large").open("r+b") as file:
            file.write(b"x")
        os.utime(trees.target / "large", ns=(status.st_atime_ns, status.st_mtime_ns))
        (trees.source / "a").write_text("edited")
        make_tree(trees.target / "extra", {"in": b"it"})
        root = trees.source.stat().st_mtime_ns
        os.utime(trees.target, ns=(root, root))
        before = read_tree(trees.target), read_tree(trees.source)
        found = trees.verify(via, "--json")
        assert found.code == 23
        assert found.changes == ["+ new", "- extra/", "- extra/in", ". d/b", "> a", "> large"]
        assert found.report["result"] == "partial"
        assert found.report["causes"]["diverged"] == 1
        assert found.report["causes"]["edited_at_source"] == 1
        assert found.report["durable"] is False
        assert "netsync: large: differs though size and time are the same" in found.stderr
        assert "netsync: a: edited at the source" in found.stderr
        assert (read_tree(trees.target), read_tree(trees.source)) == before
        if trees.route != "local":  # neither content nor anything like it has crossed the wire
            carried = found.report["bytes"]
            assert carried["wire_sent"] + carried["wire_received"] < 20_000


def test_options_say_what_takes_part_and_what_counts(trees: Trees) -> None:
    make_tree(trees.target, {"extra": b"e", "a": b"other"})
    os.utime(trees.target / "large", (1, 1))
    with serving("--module", f"m={trees.served}") as server:
        via = None if trees.route == "local" else server
        assert trees.verify(via, "--no-times").changes == ["- extra", "> a"]
        assert trees.verify(via, "--no-times", "--ignore-extra").changes == ["> a"]
        plain = trees.verify(via, "--no-times", "--exclude=/a", "--exclude=/extra")
        assert (plain.code, plain.changes) == (0, [])
        assert trees.verify(via, "--inplace").code == 1
        assert trees.verify(via, "-q").stdout == ""


def test_the_mode_of_the_root_counts(tmp_path: Path) -> None:
    trees = Trees(tmp_path, "local")
    trees.target.chmod(0o700)
    found = trees.verify(None)
    assert (found.code, found.changes) == (23, [". ./"])


def test_what_may_be_read_may_be_verified_and_nothing_else(tmp_path: Path) -> None:
    """The right to pull is enough, either way round; no right at all is refused."""
    issue(tmp_path / "auditor", "auditor")
    issue(tmp_path / "stranger", "stranger")
    trees = Trees(tmp_path, "push")
    file = tmp_path / "server.toml"
    file.write_text(
        f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{certificates().issuing}"\n'
        f'state = "{tmp_path}/state"\n[module.m]\npath = "{trees.target}"\n'
        'allow = { auditor = ["pull"] }\n'
    )
    with serving("--config", file) as server:
        words = ("verify", f"{trees.source}/", server.url("m/"))
        assert netsync(*words, identity=tmp_path / "auditor").code == 0
        assert netsync(*words, identity=tmp_path / "stranger").code == 5
        assert netsync("push", "-n", *words[1:], identity=tmp_path / "auditor").code == 5
        both = netsync("verify", server.url("m/"), server.url("m/"))
        assert both.code == 1
        assert "both remote" in both.stderr


def test_a_missing_side_is_said(tmp_path: Path) -> None:
    """No source is an error. No target is one where everything is missing."""
    trees = Trees(tmp_path, "local")
    assert netsync("verify", f"{tmp_path}/none/", f"{trees.target}/").code == 11
    shutil.rmtree(trees.target)
    found = trees.verify(None)
    assert found.code == 23
    assert "+ large" in found.changes
    assert not trees.target.exists()


def test_everything_is_told_where_a_run_would_hold_back(trees: Trees) -> None:
    """An empty source, a module's limit, a directory nobody could read: no guard, no silence."""
    file = trees.base / "server.toml"
    file.write_text(
        f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{certificates().issuing}"\n'
        f'state = "{trees.base}/state"\n[module.m]\npath = "{trees.served}"\nmax_delete = 1\n'
        'allow = { primary1 = ["push", "pull"] }\n'
    )
    for path in list(trees.source.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with serving("--config", file) as server:
        found = trees.verify(None if trees.route == "local" else server, "--no-times")
    assert found.code == 23
    assert found.changes == ["- a", "- d/", "- d/b", "- large", "- link"]
    assert "held" not in found.stderr


def test_what_is_in_the_way_and_what_is_one_inode_is_told(tmp_path: Path) -> None:
    """A directory where a file should be, links that are none any more, a lone file."""
    trees = Trees(tmp_path, "local")
    (trees.source / "one").write_text("content")
    os.link(trees.source / "one", trees.source / "two")
    make_tree(trees.target, {"one": b"content", "two": b"content", "three": {"x": b"x"}})
    (trees.source / "three").write_text("a file")
    for name in ("one", "two"):
        os.utime(trees.source / name, (5, 5))
        os.utime(trees.target / name, (5, 5))
    os.utime(trees.target, ns=(1, trees.source.stat().st_mtime_ns))
    found = trees.verify(None)
    assert found.code == 23
    assert found.changes == ["+ three", "- three/", "- three/x", ". two"]
    words = ("verify", f"{trees.source}/large", f"{trees.target}/large")
    assert netsync(*words).code == 0
    (trees.target / "large").write_bytes(b"short")
    assert netsync(*words).changes == ["> large"]


# Rot


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("side", ["source", "target"])
@needs_images
def test_rot_is_told_from_edits_on_the_side_where_it_is(
    tmp_path: Path, route: str, side: str
) -> None:
    """A byte changes on the disk under a mounted file system that knows nothing of it."""
    with disk(tmp_path / "one", {"rotten": WHOLE, "d/well": b"well"}) as bad:
        good = make_tree(tmp_path / "other", {})
        succeed("push", f"{bad.place}/", f"{good}/")
        trees = Trees.__new__(Trees)
        trees.base, trees.route = tmp_path, route
        trees.source, trees.target = (bad.place, good) if side == "source" else (good, bad.place)
        with serving("--module", f"m={trees.served}") as server:
            via = None if route == "local" else server
            first = trees.verify(via)
            assert first.code == 0, first
            assert bad.rot("rotten") != WHOLE
            for _ in range(2):  # it is told again until it is mended
                found = trees.verify(via, "--json")
                assert found.code == 23, found
                assert found.changes == ["> rotten"]
                assert f"rot rotten: rotted at the {side}: {ROTTED}" in found.stderr
                assert [each["op"] for each in found.report["problems"]] == ["rot"]
                assert found.report["causes"][f"rotted_at_{side}"] == 1
            status = (good / "rotten").stat()
            (bad.place / "rotten").write_bytes(WHOLE)
            os.utime(bad.place / "rotten", ns=(status.st_atime_ns, status.st_mtime_ns))
            assert trees.verify(via).code == 0


@needs_images
def test_what_rotted_at_the_source_is_not_sent(tmp_path: Path) -> None:
    """Neither found before nor while ``--checksum`` hashes, nor to a target that has nothing."""
    with disk(tmp_path / "one", {"rotten": WHOLE, "well": b"well"}) as bad:
        target = tmp_path / "target"
        here = functools.partial(netsync, state=tmp_path / "here")
        source = f"{bad.place}/"
        assert here("push", source, f"{target}/").code == 0
        assert here("verify", source, f"{target}/").code == 0
        bad.rot("rotten")
        for options in (("--checksum",), ("--checksum", "--delete-excluded"), ()):
            # With --checksum it is found by this very run, which a verification may then tell.
            sent = here("push", *options, source, f"{target}/")
            assert sent.code == 23, sent
            assert (target / "rotten").read_bytes() == WHOLE
        assert here("verify", source, f"{target}/").code == 23
        first = here("push", source, f"{tmp_path}/new/")
        assert first.code == 23
        assert "rot rotten: rotted here, so it is not sent" in first.stderr
        assert sorted(read_tree(tmp_path / "new")) == ["well"]
        (target / "gone").write_text("not at the source")
        again = here("push", "--delete", source, f"{target}/")
        assert (again.code, again.changes) == (23, [])
        assert not (target / "gone").exists()  # rot is no reason to keep what should go
        assert (target / "rotten").read_bytes() == WHOLE
        (bad.place / "well").write_text("written since")
        at_once = here("push", "--atomic", source, f"{target}/")
        assert at_once.code == 23
        assert (target / "well").read_text() == "written since"  # rot holds nothing else back
        os.utime(bad.place / "rotten", (3, 3))
        assert here("push", source, f"{target}/").code == 0
        assert (target / "rotten").read_bytes() == (bad.place / "rotten").read_bytes()


@needs_images
def test_without_a_memory_a_difference_is_told_all_the_same(tmp_path: Path) -> None:
    """A state directory that cannot be used costs the distinction, and is said."""
    with disk(tmp_path / "one", {"rotten": WHOLE}) as bad:
        succeed("push", f"{bad.place}/", f"{tmp_path}/target/")
        bad.rot("rotten")
        (tmp_path / "here").write_text("a file in the way")
        words = ("verify", f"{bad.place}/", f"{tmp_path}/target/")
        found = netsync(*words, state=tmp_path / "here")
        assert (found.code, found.changes) == (23, ["> rotten"])
        assert "differs though size and time are the same" in found.stderr
        assert "rot cannot be told from edits" in found.stderr
        assert "Traceback" not in found.stderr
