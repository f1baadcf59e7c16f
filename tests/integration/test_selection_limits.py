"""Selections at their limits: long lists, other file systems, served links, changing files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.places import ROUTES, Place
from tests.support.processes import ROOT, Result, netsync
from tests.support.samples import names, write
from tests.support.trees import needs_mount, small_disk


def done(result: Result) -> Result:
    assert (result.code, result.stderr) == (0, ""), result
    return result


# Lists and pattern files longer than a frame.


@pytest.mark.parametrize("route", ROUTES)
def test_a_list_of_a_hundred_thousand_names(place: Place, route: str) -> None:
    """It crosses the wire in parts; only what it names is looked at, and what is not there told."""
    write(place.path / "source", {f"d{n}/e/f{n}": str(n) for n in range(50)})
    listed = [f"d{n}/e/f{n}" for n in range(0, 50, 2)]
    wanted = [*listed, *(f"missing/{'x' * 40}/{n}" for n in range(100_000))]
    (place.path / "list").write_text("\n".join(wanted))
    result = place.transfer(route, "--files-from", str(place.path / "list"), seconds=60)
    assert result.code == 23
    assert result.files["considered"] == 3 * len(listed)
    assert result.report["problems_omitted"] + len(result.report["problems"]) == 100_000
    files = {name for name in names(place.path / "target") if name.count(b"/") == 2}
    assert files == {name.encode() for name in listed}


@pytest.mark.parametrize("route", ROUTES)
def test_a_pattern_file_longer_than_a_frame(place: Place, route: str) -> None:
    """A thousand patterns, 97 KB, hold on both ends."""
    patterns = [f"{'p' * 90}{n}.tmp" for n in range(1000)]
    (place.path / "rules").write_text("\n".join(patterns))
    write(place.path / "source", {"a/b/keep": "1", f"a/b/{patterns[999]}": "2"})
    target = write(place.path / "target", {f"a/b/{patterns[7]}": "3", "a/b/old": "4"})
    rules = str(place.path / "rules")
    done(place.transfer(route, "--delete", "--exclude-from", rules, seconds=50))
    assert names(target) == {b"a", b"a/b", b"a/b/keep", f"a/b/{patterns[7]}".encode()}


def test_what_cannot_be_asked_for(place: Place) -> None:
    """Wrong uses end with exit code 1 and a line that says which."""
    source = write(place.path / "source", {"a": "1"})
    (place.path / "bad").write_text("*.o\n\n[z-a]\n")
    for options, words in [
        (["--files-from", "/nowhere/list"], "/nowhere/list"),
        (["--files-from", "/dev/null", "--delete"], "--delete"),
        (["--files-from", "/dev/null", "--delete-excluded"], "--delete"),
        (["--from0"], "--files-from"),
        (["--exclude-from", "/nowhere/rules"], "/nowhere/rules"),
        (["--exclude-from", f"{place.path}/bad"], "bad, line 3"),
        (["--max-size", "many"], "size"),
        (["--changing", "perhaps"], "perhaps"),
        (["--files-from", "/dev/null", str(source)], "one source"),
    ]:
        result = netsync("push", *options, f"{source}/", place.path / "target")
        assert result.code == 1, result
        assert words in result.stderr
    assert not (place.path / "target").exists()


# Other file systems.


@needs_mount
@pytest.mark.parametrize("route", ROUTES)
def test_one_file_system_sends_mount_points_empty(place: Place, route: str) -> None:
    """What is mounted inside is left out, and what the target has there stays."""
    source = write(place.path / "source", {"a/b/f": "1", "a/b/mnt": None, "z": "2"})
    target = write(place.path / "target", {"a/b/mnt/there": "3", "a/b/old": "4"})
    with small_disk(source / "a" / "b" / "mnt", 1 << 20) as mounted:
        write(mounted, {"x/y": "5"})
        dry = place.transfer(route, "-x", "--delete", "-i", "-n")
        real = done(place.transfer(route, "-x", "--delete", "-i"))
        assert dry.changes == real.changes
        kept = {b"a", b"a/b", b"a/b/f", b"a/b/mnt", b"a/b/mnt/there", b"z"}
        assert names(target) == kept
        done(place.transfer(route, "--delete"))
        assert names(target) == {b"a", b"a/b", b"a/b/f", b"a/b/mnt", b"a/b/mnt/x",
                                 b"a/b/mnt/x/y", b"z"}  # fmt: skip


@needs_mount
@pytest.mark.parametrize("route", ROUTES)
def test_a_source_that_is_a_mount_point_is_its_own_file_system(place: Place, route: str) -> None:
    """The file system that counts is that of the source named, not of what holds it."""
    (place.path / "source").mkdir()
    with small_disk(place.path / "source", 1 << 20) as mounted:
        write(mounted, {"x/y": "1"})
        done(place.transfer(route, "-x", source="source"))
    assert names(place.path / "target") == {b"source", b"source/x", b"source/x/y"}


# Links followed.


def test_followed_links_may_lead_out_of_an_operators_source_but_not_of_a_module(
    place: Place, tmp_path: Path
) -> None:
    """A local source is the operator's own; a client must not read beside the module."""
    write(tmp_path / "outside", {"secret": "1", "dir/in": "2"})
    write(place.path / "beside", {"f": "3"})
    source = write(place.path / "source", {"a/b/own": "4"})
    (source / "a" / "b" / "absolute").symlink_to(tmp_path / "outside" / "secret")
    (source / "a" / "b" / "dir").symlink_to(os.path.relpath(tmp_path / "outside" / "dir",
                                                           source / "a" / "b"))  # fmt: skip
    (source / "a" / "b" / "beside").symlink_to("../../../beside/f")
    all_of_it = {b"a", b"a/b", b"a/b/own", b"a/b/absolute", b"a/b/dir", b"a/b/dir/in",
                 b"a/b/beside"}  # fmt: skip
    for route in ("local", "push"):
        done(place.transfer(route, "-L", target=route))
        assert names(place.path / route) == all_of_it
    result = place.transfer("pull", "-L", target="pull")
    assert result.code == 23
    assert sorted(p["path"] for p in result.report["problems"]) == ["a/b/absolute", "a/b/dir"]
    assert names(place.path / "pull") == {b"a", b"a/b", b"a/b/own", b"a/b/beside"}
    assert (place.path / "pull" / "a" / "b" / "beside").read_text() == "3"


@pytest.mark.parametrize("route", ROUTES)
def test_links_left_out_are_counted_in_one_sentence(place: Place, route: str) -> None:
    """As with rsync they are no failure; stderr says how many there were."""
    source = write(place.path / "source", {"a/f": "1"})
    for number in range(3):
        (source / "a" / f"l{number}").symlink_to("../../outside")
    result = place.transfer(route, "--safe-links")
    assert result.code == 0
    assert result.stderr == "netsync: 3 links that lead out of the tree left out (--safe-links)\n"
    assert names(place.path / "target") == {b"a", b"a/f"}
    result = place.transfer(route, target="all")
    assert (place.path / "all" / "a" / "l0").is_symlink()


# Files that change while they are read.


@pytest.mark.parametrize("route", ROUTES)
def test_a_file_that_never_rests_is_published_on_demand(place: Place, route: str) -> None:
    """Whenever it is read, the run succeeds; the next one looks again."""
    source = write(place.path / "source", {"a/b/log": "x" * 8_000_000, "a/b/calm": "calm"})
    target = write(place.path / "target", {"a/b/log": "old"})
    stop = threading.Event()

    def write_on() -> None:
        with (source / "a" / "b" / "log").open("r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(0)
                file.write(b"y")

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        result = done(place.transfer(route, "-i", "--changing", "publish", seconds=60))
    finally:
        stop.set()
        writer.join()
    assert "> a/b/log" in result.changes
    assert (target / "a" / "b" / "log").stat().st_size == 8_000_000
    (source / "a" / "b" / "log").write_text("at rest")
    done(place.transfer(route))
    assert (target / "a" / "b" / "log").read_text() == "at rest"


def test_a_list_may_come_on_stdin(place: Place) -> None:
    """``-`` is stdin, for lists as for pattern files."""
    write(place.path / "source", {"a/x.o": "1", "a/x.c": "2", "b": "3"})
    for option, said, expected in [
        ("--files-from=-", b"a/x.o\n", {b"a", b"a/x.o"}),
        ("--exclude-from=-", b"*.o\n", {b"a", b"a/x.c", b"b"}),
    ]:
        target = place.path / option.strip("-=")
        places = f"{place.path}/source/", str(target)
        words = [sys.executable, "-m", "netsync", "push", option, *places]
        subprocess.run(words, input=said, check=True, timeout=20, cwd=ROOT)
        assert names(target) == expected
