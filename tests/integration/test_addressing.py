"""Which path lands where: the trailing slash, single files, merging, links on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import ROUTES, Place, Standby
from tests.support.processes import Result, netsync, succeed
from tests.support.samples import contents, names, write

FILES: Final[dict[str, str | bytes | None]] = {"a": "1", "d/b": "2", "empty": None}


def listed(root: Path) -> set[str]:
    return {os.fsdecode(name) for name in names(root)}


@pytest.mark.parametrize("route", ROUTES)
def test_the_trailing_slash_means_the_contents(place: Place, route: str) -> None:
    """``source`` creates the directory below the destination, ``source/`` copies what is in it."""
    source = write(place.path / "source", FILES)
    source.chmod(0o710)
    assert place.transfer(route, source="source", target="with").code == 0
    assert listed(place.path / "with") == {"source", *(f"source/{name}" for name in listed(source))}
    assert (place.path / "with" / "source").stat().st_mode & 0o777 == 0o710
    assert (place.path / "with").stat().st_mode & 0o777 == 0o755
    assert place.transfer(route, source="source/", target="without").code == 0
    assert contents(place.path / "without") == contents(source)
    assert (place.path / "without").stat().st_mode & 0o777 == 0o710


@pytest.mark.parametrize("route", ROUTES)
def test_a_single_file_takes_the_destinations_last_name(place: Place, route: str) -> None:
    """Not below a directory that is there or a path that ends in a slash; directories are made."""
    write(place.path, {"file": "content", "there": None})
    for target, expected in (
        ("deep/er/new", "deep/er/new"), ("there", "there/file"), ("slash/", "slash/file"),
    ):  # fmt: skip
        result = place.transfer(route, "-i", source="file", target=target)
        assert (result.code, result.stderr) == (0, "")
        assert (place.path / expected).read_text() == "content"
        assert result.changes == [f"+ {expected.rpartition('/')[2]}"]
    (place.path / "deep" / "er" / "new").write_text("something else")
    result = place.transfer(route, "-i", source="file", target="deep/er/new")
    assert result.changes == ["> new"]


def test_a_single_file_onto_a_link_goes_where_the_link_points(place: Place) -> None:
    """An operator's destination that is a link is followed, locally and inside a module."""
    write(place.path, {"file": "content", "real/old": "old"})
    for route in ("push", "local"):
        (place.path / route).symlink_to("real")
        assert place.transfer(route, source="file", target=route).code == 0
        assert (place.path / route).is_symlink()
        assert (place.path / "real" / "file").read_text() == "content"
        (place.path / "real" / "file").unlink()


def test_a_lone_directory_or_link_never_renames(place: Place) -> None:
    """Only a regular file takes another name: all else lands inside the destination."""
    write(place.path, {"dir/f": "1"})
    (place.path / "link").symlink_to("dir")
    assert place.transfer("push", source="dir", target="one").code == 0
    assert listed(place.path / "one") == {"dir", "dir/f"}


def test_a_source_that_is_a_link_is_followed(place: Place) -> None:
    """A link as a source stands for what it points to, under the link's name."""
    write(place.path, {"dir/f": "1", "file": "2"})
    (place.path / "link").symlink_to("dir")
    (place.path / "file-link").symlink_to("file")
    for route in ROUTES:
        assert place.transfer(route, source="link", target=f"{route}1").code == 0
        assert listed(place.path / f"{route}1") == {"link", "link/f"}
        assert (place.path / f"{route}1" / "link").is_dir()
        assert not (place.path / f"{route}1" / "link").is_symlink()
    assert place.transfer("push", source="file-link", target="two/").code == 0
    assert (place.path / "two" / "file-link").read_text() == "2"


@pytest.mark.parametrize("remote", ["source", "target"])
def test_sources_merge_and_the_first_wins(place: Place, remote: str) -> None:
    """Of two sources that offer the same path the first one's is taken; directories merge."""
    write(place.path / "one", {"f": "first", "d/x": "first", "k/in": "1", "kind": "file"})
    write(place.path / "two", {"f": "second", "d/x": "second", "d/y": "second", "k": "file",
                               "kind/in": "1"})  # fmt: skip
    write(place.path / "three", {"d/z": "third"})
    near, far = str(place.path), place.url
    first, last = (far, near) if remote == "source" else (near, far)
    sources = [f"{first}/{name}/" for name in ("one", "two", "three")]
    succeed("pull" if remote == "source" else "push", "--json", *sources, f"{last}/merged")
    files = {
        path: path.read_text() for path in (place.path / "merged").rglob("*") if path.is_file()
    }
    assert {str(path.relative_to(place.path / "merged")): text for path, text in files.items()} == {
        "f": "first", "d/x": "first", "d/y": "second", "d/z": "third", "k/in": "1", "kind": "file",
    }  # fmt: skip


def test_sources_without_slash_lie_side_by_side(place: Place) -> None:
    """Several named sources each get their own name in the destination."""
    write(place.path, {"one/a": "1", "two/b": "2", "file": "3"})
    sources = [place.path / name for name in ("one", "two", "file")]
    succeed("push", *sources, f"{place.url}/target")
    assert listed(place.path / "target") == {"one", "one/a", "two", "two/b", "file"}


@pytest.mark.parametrize("remote", ["source", "target"])
def test_one_missing_source_among_several_is_partial(place: Place, remote: str) -> None:
    """The others are copied, nothing is deleted, exit code 23 names the missing one."""
    write(place.path, {"one/a": "1", "target/old": "2"})
    near, far = str(place.path), place.url
    first, last = (far, near) if remote == "source" else (near, far)
    command = "pull" if remote == "source" else "push"
    sources = [f"{first}/one/", f"{first}/missing/"]
    result = netsync(command, "--json", "--delete", *sources, f"{last}/target")
    assert result.code == 23
    assert result.report["result"] == "partial"
    assert "missing" in result.stderr
    assert "no such file or directory" in result.stderr
    assert listed(place.path / "target") == {"a", "old"}


@pytest.mark.parametrize("route", ROUTES)
def test_a_missing_source_is_an_error_and_creates_nothing(place: Place, route: str) -> None:
    """Exit code 11; the destination is not even made."""
    result = place.transfer(route, source="missing")
    assert result.code == 11
    assert result.report["result"] == "failed"
    assert "missing" in result.stderr
    assert listed(place.path) == set()


@pytest.mark.parametrize("target", ["source", "source/", "source/in/it", "link/in"])
def test_a_source_must_not_contain_the_destination(place: Place, target: str) -> None:
    """Exit code 1, seen through links, and nothing happens."""
    write(place.path / "source", {"f": "1"})
    (place.path / "link").symlink_to("source")
    for source in ("source", "source/"):
        result = place.transfer("local", source=source, target=target)
        assert result.code == 1
        assert "contains the destination" in result.stderr
    assert listed(place.path / "source") == {"f"}


def test_a_sibling_with_a_common_prefix_is_no_container(place: Place) -> None:
    """``source`` does not contain ``source2``."""
    write(place.path / "source", {"f": "1"})
    assert place.transfer("local", target="source2").code == 0
    assert listed(place.path / "source2") == {"f"}


def test_relative_and_odd_local_paths(place: Place) -> None:
    """``.`` means the contents; a path that looks remote is local once it starts with ``./``."""
    write(place.path / "source", {"a::b/f": "1"})
    succeed("push", ".", f"{place.url}/dot", cwd=place.path / "source")
    assert listed(place.path / "dot") == {"a::b", "a::b/f"}
    succeed("push", "./a::b", f"{place.url}/odd", cwd=place.path / "source")
    assert listed(place.path / "odd") == {"a::b", "a::b/f"}
    succeed("push", "--", b"-\xff", f"{place.url}/dash", cwd=_with_odd_name(place.path / "x"))
    assert names(place.path / "dash") == {b"-\xff", b"-\xff/f"}


def _with_odd_name(directory: Path) -> Path:
    os.makedirs(os.fsencode(directory) + b"/-\xff")
    Path(os.fsdecode(os.fsencode(directory) + b"/-\xff/f")).write_text("1")
    return directory


# Links on the way inside a module.


def refused(result: Result) -> None:
    assert result.code in (5, 11), result
    assert result.stderr.startswith("netsync: ")


def test_a_link_inside_the_module_is_followed(place: Place) -> None:
    """A module path may lead through links that stay inside, for push and pull."""
    write(place.path, {"source/f": "1", "real/sub/g": "2"})
    (place.path / "link").symlink_to("real/../real/sub")
    assert place.transfer("push", target="link").code == 0
    assert listed(place.path / "real" / "sub") == {"f", "g"}
    assert place.transfer("pull", source="link/", target="back").code == 0
    assert listed(place.path / "back") == {"f", "g"}
    assert place.transfer("push", target="link/new").code == 0
    assert listed(place.path / "real" / "sub" / "new") == {"f"}


@pytest.mark.parametrize("kind", ["absolute", "relative", "dots", "parent"])
def test_a_path_never_leaves_the_module(
    place: Place, standby: Standby, tmp_path: Path, kind: str
) -> None:
    """Refused with 5 or 11, for push, pull and ls; nothing outside is written or shown."""
    outside = write(tmp_path / "outside", {"secret": "s"})
    write(place.path / "source", {"f": "1"})
    up = "../" * 40
    if kind == "absolute":
        (place.path / "out").symlink_to(outside)
    elif kind == "relative":
        (place.path / "out").symlink_to(os.path.relpath(outside, place.path))
    way = {"dots": f"{up}{outside}", "parent": "out/../../../outside"}.get(kind, "out")
    if kind == "parent":
        (place.path / "out").symlink_to(f"{up}{outside}")
    refused(place.transfer("push", target=way))
    refused(place.transfer("push", source="source/f", target=f"{way}/f"))
    refused(place.transfer("pull", source=f"{way}/", target="back"))
    refused(netsync("ls", f"{place.url}/{way}"))
    assert listed(outside) == {"secret"}
    assert not (place.path / "back").exists() or not listed(place.path / "back")
    assert standby.server.running


def test_links_in_the_tree_are_copied_not_followed(place: Place, tmp_path: Path) -> None:
    """A link that leaves the module is data: neither end goes through it."""
    outside = write(tmp_path / "outside", {"secret": "s"})
    write(place.path / "source", {"link/f": "1"})
    write(place.path, {"target/x": "1"})
    (place.path / "target" / "link").symlink_to(outside)
    assert place.transfer("push", "--delete").code == 0
    assert listed(outside) == {"secret"}
    assert listed(place.path / "target") == {"link", "link/f"}


def test_own_names_are_not_addresses(place: Place) -> None:
    """A path through netsync's reserved names is refused."""
    write(place.path / "source", {"f": "1"})
    refused(place.transfer("push", target=".netsync/x"))


@pytest.mark.parametrize("route", ["local", "push", "pull"])
def test_what_bears_our_own_names_is_no_source(place: Place, route: str) -> None:
    """Pushed or pulled by its name it is refused in words, not by the other end."""
    write(place.path / "source", {".netsync-mine/f": "1", ".netsync.conf": "2"})
    for name in (".netsync-mine", ".netsync.conf"):
        result = place.transfer(route, source=f"source/{name}")
        assert result.code == (5 if route == "pull" else 1)
        assert "netsync's own" in result.stderr


@pytest.mark.parametrize("options", [("--delete",), ("--delete", "-n")], ids=" ".join)
def test_what_a_session_left_in_a_directory_that_goes_is_not_told(
    place: Place, options: tuple[str, ...]
) -> None:
    """Stages of other destinations go with the directory they lie in; they are no entries."""
    write(place.path / "source", {"f": "1"})
    write(place.path / "target", {"f": "1", "d/x": "1", "d/.netsync/s/partial": "1"})
    result = place.transfer("push", *options)
    assert result.files["deleted"] == 2
    assert (place.path / "target" / "d").exists() == ("-n" in options)
