"""Which paths take part: the same by push, pull and local copy, in a dry run, and as with rsync.

Each case lays a source and a target, runs every route first dry and then for real, and compares
the itemized lines, the trees that result, and, where rsync means the same by the same words, the
tree that rsync makes from the same start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import ROUTES, Place
from tests.support.processes import Result
from tests.support.samples import Facts, names, snapshot

HOUR: Final = 3_600_000_000_000
OLD: Final = 1_500_000_000_000_000_000

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


class Link(str):
    """A symbolic link's text."""


Table = Mapping[str, "str | None"]
"""Names to contents; None is an empty directory."""


@dataclass(frozen=True)
class Case:
    """One selection: two trees, options, and the lines and exit code that must come of them.

    ``files`` are written beside the trees; ``{here}`` in an option is where. ``oracle`` are the
    options that make rsync do the same (None: it has no such thing).
    """

    name: str
    source: Table
    options: tuple[str, ...]
    lines: tuple[str, ...]
    target: Table = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    oracle: tuple[str, ...] | None = None
    code: int = 0
    problems: tuple[str, ...] = ()
    times: Mapping[str, int] = field(default_factory=dict)
    """Times of entries of the target that are not the common ones."""


def lay(root: Path, table: Table, times: Mapping[str, int], mtime: int) -> None:
    """Make a tree whose times are ``mtime``, but for those named."""
    root.mkdir(parents=True)
    for name, content in table.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content)
        else:
            path.write_text(content)
    for path in (*root.rglob("*"), root):
        when = times.get(str(path.relative_to(root)), mtime)
        os.utime(path, ns=(when, when), follow_symlinks=False)


BIG: Final = "x" * 5000
LIBRARY: Final = {
    "one.c": "1", "one.o": "2", "lib/keep.o": "3", "lib/drop.o": "4", "lib/deep/er/x.o": "5",
    "lib/deep/er/x.c": "6", "tmp/a": "7", "lib/tmp/b": "8", "#odd": "9", "!odd": "10",
    "trail ": "11",
}  # fmt: skip
LEFT_OVER: Final = {
    "old.o": "1", "old.c": "2", "gone/old.o": "3", "gone/old.c": "4", "lib/deep/old.o": "5",
    "lib/deep/er/old.c": "6", "tmp/there": "7",
}  # fmt: skip
PATTERNS: Final = "# objects\n*.o\n\n!keep.o\n/tmp/\n\\#odd\n\\!odd\ntrail\\ \r\n"
FOR_RSYNC: Final = "+ keep.o\n- *.o\n- /tmp/\n- #odd\n- !odd\n- trail \n"

RULES: Final = [
    Case(
        "a pattern file is one group: its last match decides",
        LIBRARY, ("--exclude-from", "{here}/rules", "--delete"),
        ("+ lib/deep/er/x.c", "+ lib/keep.o", "+ lib/tmp/", "+ lib/tmp/b", "+ one.c",
         "- gone/old.c",
         "- lib/deep/er/old.c", "- old.c", ". lib/", ". lib/deep/", ". lib/deep/er/"),
        target=LEFT_OVER, files={"rules": PATTERNS, "rsync": FOR_RSYNC},
        oracle=("--exclude-from={here}/rsync", "--delete"),
    ),
    Case(
        "an include before the file wins, an exclude behind it comes too late",
        LIBRARY,
        ("--include", "drop.o", "--exclude-from={here}/rules", "--exclude", "keep.o",
         "--exclude", "lib/deep/", "--exclude", "/gone", "--delete"),
        ("+ lib/drop.o", "+ lib/keep.o", "+ lib/tmp/", "+ lib/tmp/b", "+ one.c", "- old.c",
         ". lib/"),
        target=LEFT_OVER, files={"rules": PATTERNS},
    ),
    Case(
        "an exclude before the file wins",
        LIBRARY, ("--exclude", "keep.o", "--exclude-from", "{here}/rules"),
        ("+ lib/", "+ lib/deep/", "+ lib/deep/er/", "+ lib/deep/er/x.c", "+ lib/tmp/",
         "+ lib/tmp/b", "+ one.c"),
        files={"rules": PATTERNS},
    ),
    Case(
        "--delete-excluded deletes what rules exclude, not what size protects",
        {**LIBRARY, "lib/big": BIG},
        ("--delete-excluded", "--exclude-from", "{here}/rules", "--max-size", "1K"),
        ("+ lib/deep/er/x.c", "+ lib/keep.o", "+ lib/tmp/", "+ lib/tmp/b", "+ one.c", "- gone/",
         "- gone/old.c", "- gone/old.o", "- lib/deep/er/old.c", "- lib/deep/old.o", "- old.c",
         "- old.o", "- tmp/", "- tmp/there", ". lib/", ". lib/deep/", ". lib/deep/er/"),
        target={**LEFT_OVER, "lib/big": "small"}, files={"rules": PATTERNS},
    ),
]  # fmt: skip

IGNORING: Final = {
    ".netsyncignore": "*.o\n!keep.o\n/top\ncache/\n",
    "one.o": "1", "keep.o": "2", "top": "3", "cache/x": "4",
    "d/.netsyncignore": "!one.o\nkeep.o\n/top\n*.log\n",
    "d/one.o": "5", "d/keep.o": "6", "d/top": "7", "d/two.o": "8", "d/e/top": "9",
    "d/e/f/.netsyncignore": "!*.log\n",
    "d/e/a.log": "10", "d/e/f/a.log": "11", "d/e/f/one.o": "12", "d/e/f/cache/y": "13",
    "d/e/cache": "14", "z/f": "15",
}  # fmt: skip
IGNORED: Final = {
    "old.o": "1", "d/e/old.log": "2", "d/e/f/old.log": "3", "d/e/f/old.o": "4", "d/keep.o": "5",
    "gone/deep/old.o": "6", "gone/deep/old.c": "7", "d/gone/x.log": "8", "d/gone/y": "9",
    "d/e/f/cache/z": "10", "z/gone.o": "11", "d/.netsyncignore": "*.c\n!*.log\n",
}  # fmt: skip

IGNORE_FILES: Final = [
    Case(
        "ignore files hold for their directory and below, the deepest first",
        IGNORING, ("--delete",),
        ("+ .netsyncignore", "+ d/e/cache", "+ d/e/f/.netsyncignore", "+ d/e/f/a.log",
         "+ d/e/f/one.o", "+ d/e/top", "+ d/one.o", "+ keep.o", "+ z/f", "- d/e/f/old.log",
         "- d/gone/y", "- gone/deep/old.c", ". d/", ". d/e/", ". d/e/f/", ". z/",
         "> d/.netsyncignore"),
        target=IGNORED,
    ),
    Case(
        "the command line comes before them",
        IGNORING, ("--delete", "--include", "two.o", "--exclude", "a.log", "--exclude", "/z"),
        ("+ .netsyncignore", "+ d/e/cache", "+ d/e/f/.netsyncignore", "+ d/e/f/one.o",
         "+ d/e/top", "+ d/one.o", "+ d/two.o", "+ keep.o", "- d/e/f/old.log", "- d/gone/y",
         "- gone/deep/old.c", ". d/", ". d/e/", ". d/e/f/", "> d/.netsyncignore"),
        target=IGNORED,
    ),
    Case(
        "--delete-excluded deletes what they exclude",
        IGNORING, ("--delete-excluded", "--exclude", "/d", "--exclude", "/z"),
        ("+ .netsyncignore", "+ keep.o", "- d/", "- d/.netsyncignore", "- d/e/", "- d/e/f/",
         "- d/e/f/cache/", "- d/e/f/cache/z", "- d/e/f/old.log", "- d/e/f/old.o", "- d/e/old.log",
         "- d/gone/", "- d/gone/x.log", "- d/gone/y", "- d/keep.o", "- gone/", "- gone/deep/",
         "- gone/deep/old.c", "- gone/deep/old.o", "- old.o", "- z/", "- z/gone.o"),
        target=IGNORED,
    ),
    Case(
        "a line that cannot be used is told, the others count, and nothing is deleted",
        {"a/.netsyncignore": "[z-a]\n*.o\n", "a/x.o": "1", "a/y": "2"}, ("--delete",),
        ("+ a/.netsyncignore", "+ a/y", ". a/"),
        target={"a/old": "1"}, code=23, problems=("a/.netsyncignore",),
    ),
    Case(
        "an ignore file that is excluded still holds; one that is no file is none",
        {".netsyncignore": "*.o", "x.o": "1", "y": "2", "d/.netsyncignore/in": "3", "d/z.o": "4"},
        ("--exclude", "/.netsyncignore"),
        ("+ d/", "+ d/.netsyncignore/", "+ d/.netsyncignore/in", "+ y"),
    ),
]  # fmt: skip

TREE: Final = {
    "top": "1", "d/f": "2", "d/e/g": "3", "d/e/h/i": "4", "sub/deep/q": "5", "sub/other": "6",
    "#c": "7", " lead": "8", "link": Link("d/f"), "dirlink": Link("d"),
}  # fmt: skip
LISTED: Final = [
    Case(
        "the names listed and the directories above them, with their metadata",
        TREE, ("--files-from", "{here}/list"),
        ("+ d/", "+ link", "+ sub/deep/", "+ sub/deep/q", ". sub/"),
        files={"list": "d\nsub/deep/q\n\n#c\n; no\nsub//deep/q\r\nlink\n"},
        target={"sub/there": "stays"}, oracle=("--files-from={here}/list",),
    ),
    Case(
        "a trailing slash stands for a directory and its entries, not for theirs",
        TREE, ("--files-from={here}/list",), ("+ d/", "+ d/e/", "+ d/f"),
        files={"list": "d/\n"}, oracle=("--files-from={here}/list",),
    ),
    Case(
        "a dot is the source itself",
        TREE, ("--files-from={here}/list",),
        ("+ #c", "+ \x20lead", "+ d/", "+ dirlink", "+ link", "+ sub/", "+ top"),
        files={"list": ".\n"}, oracle=("--files-from={here}/list",),
    ),
    Case(
        "names divided by NULs are taken as they are",
        TREE, ("--from0", "--files-from", "{here}/list"), ("+ #c", "+ \x20lead"),
        files={"list": "#c\0 lead\0"},
    ),
    Case(
        "missing names are problems",
        TREE, ("--files-from", "{here}/list"), ("+ d/", "+ top"), code=23,
        files={"list": "nope\ntop\nd/no\nsub2/x/y\ntop/below\ndirlink/f\n../source/top\n"},
        problems=("../source/top", "d/no", "dirlink/f", "nope", "sub2/x/y", "top/below"),
    ),
    Case(
        "rules hold for listed names and what they lie in",
        {**TREE, "sub/deep/.netsyncignore": "q\n"},
        ("--files-from", "{here}/list", "--exclude", "/d/e"),
        ("+ d/", "+ d/f", "+ sub/", "+ sub/deep/"),
        files={"list": "d/e/g\nd/f\nsub/deep/q\n"},
    ),
    Case(
        "a file is put in the place of a directory only if nothing in it is protected",
        {"a/x": "1", "a/y": "2", "a/l": Link("x")}, ("--delete", "--exclude", "*.o"),
        ("! a/l", "! a/x", "+ a/y", "- a/y/deep/", "- a/y/deep/f", "- a/y/", ". a/"),
        target={"a/x/deep/keep.o": "3", "a/x/f": "4", "a/y/deep/f": "5", "a/l/q.o": "6"},
        code=23, problems=("a/l", "a/x"),
    ),
    Case("nothing is listed", TREE, ("--files-from", "{here}/list"), (), files={"list": ""}),
]  # fmt: skip

SIZES: Final = {"d/e/big": BIG, "d/e/small": "x", "d/e/none": "", "d/e/l": Link("big"), "b": BIG}
SIZED: Final = [
    Case(
        "--max-size leaves out larger files and protects their namesakes",
        SIZES, ("--max-size", "1K", "--delete"),
        ("+ d/e/l", "+ d/e/none", "+ d/e/small", "- d/e/only/", "- d/e/only/x", ". d/", ". d/e/"),
        target={"d/e/big": "old", "b/is/a/dir": "stays", "d/e/only/x": "goes"},
    ),
    Case(
        "--min-size leaves out smaller ones",
        SIZES, ("--min-size=1", "--max-size=4999", "--delete"),
        ("+ d/e/l", "+ d/e/small", ". d/", ". d/e/"), target={"d/e/none": "stays", "b": "old"},
        oracle=("--min-size=1", "--max-size=4999", "--delete"),
    ),
    Case("the bounds are inclusive", SIZES, ("--max-size", "5000", "--min-size", "5000"),
         ("+ b", "+ d/", "+ d/e/", "+ d/e/big", "+ d/e/l"),
         oracle=("--max-size=5000", "--min-size=5000")),
]  # fmt: skip

HERE: Final = {
    "new": "1", "d/new/in": "2", "d/both": "changed", "d/e/newer": "here", "d/e/older": "here!",
    "d/e/kind": "file", "d/e/dir/x": "1", "d/e/link": Link("here"),
}  # fmt: skip
THERE: Final = {
    "d/both": "old", "d/e/newer": "there!", "d/e/older": "there", "d/e/kind": Link("x"),
    "d/e/dir": "a file", "d/e/link": Link("there"), "d/extra": "goes",
}  # fmt: skip
EXISTENCE: Final = [
    Case(
        "--existing creates nothing, at any depth",
        HERE, ("--existing", "--delete"),
        ("+ d/e/dir/", "+ d/e/kind", "- d/extra", ". d/", ". d/e/", "> d/both",
         "> d/e/link", "> d/e/newer", "> d/e/older"),
        target=THERE,
    ),
    Case(
        "--ignore-existing changes nothing that is there but directories",
        HERE, ("--ignore-existing", "--delete"),
        ("+ d/new/", "+ d/new/in", "+ new", "- d/extra", ". d/", ". d/e/"),
        target=THERE,
    ),
    Case(
        "--update leaves newer files; links, kinds and directories do not ask for the time",
        HERE, ("--update", "--delete"),
        ("+ d/e/dir/", "+ d/e/dir/x", "+ d/e/kind", "+ d/new/", "+ d/new/in", "+ new", "- d/extra",
         ". d/", ". d/e/", "> d/both", "> d/e/link", "> d/e/older"),
        target=THERE, oracle=("--update", "--delete"),
        times={"d/e/newer": OLD + 2 * HOUR, "d/e/link": OLD + 2 * HOUR,
               "d/e/kind": OLD + 2 * HOUR, "d/e/dir": OLD + 2 * HOUR},
    ),
]  # fmt: skip

LINKS: Final = {
    "a/b/in": Link("../c/f"), "a/b/out": Link("../../../beside"), "a/b/abs": Link("/etc"),
    "a/c/f": "1", "a/b/chain": Link("hop/f"), "a/b/hop": Link("../../up"), "up": Link(".."),
    "a/b/dangling": Link("nowhere/at/all"), "a/b/round": Link("round"),
    "a/b/escape": Link("nowhere/../../../../x"), "a/b/self": Link("."), "a/b/root": Link("../.."),
}  # fmt: skip
LINKED: Final = [
    Case(
        "--safe-links goes by where links lead, and protects the namesakes of those left out",
        LINKS, ("--safe-links", "--delete"),
        ("+ a/b/dangling", "+ a/b/in", "+ a/b/root", "+ a/b/round", "+ a/b/self", "+ a/c/",
         "+ a/c/f", "- a/b/gone", ". a/", ". a/b/"),
        target={"a/b/out": "stays", "a/b/hop/in": "stays", "a/b/gone": "goes"},
    ),
    Case(
        "-L sends what links lead to",
        {"a/f": "1", "a/d/g": "2", "b/c/file": Link("../../a/f"), "b/c/dir": Link("../../a/d"),
         "b/c/twice": Link("file")},
        ("-L", "--delete"),
        ("+ a/", "+ a/d/", "+ a/d/g", "+ a/f", "+ b/c/dir/", "+ b/c/dir/g", "+ b/c/file",
         "+ b/c/twice", "- b/c/gone", ". b/", ". b/c/"),
        target={"b/c/gone": "1"}, oracle=("-L", "--delete"),
    ),
    Case(
        "-L: a link to nothing is a problem, and its namesake stays",
        {"a/b/c/dangling": Link("nowhere"), "a/b/c/f": "1"}, ("--copy-links", "--delete"),
        ("+ a/b/c/f", ". a/", ". a/b/", ". a/b/c/"),
        target={"a/b/c/dangling": "stays", "a/b/c/old": "stays too: something was wrong"},
        code=23, problems=("a/b/c/dangling",),
    ),
    Case(
        "-L: links that lead round in a circle end",
        {"a/b/loop": Link(".."), "a/b/f": "1", "c": Link("c")}, ("-L",),
        ("+ a/", "+ a/b/", "+ a/b/f", "+ a/b/loop/"), code=23, problems=("a/b/loop", "c"),
    ),
    Case(
        "-L: rules see what a link leads to, and what is excluded is not followed",
        {"d/x": "1", "as-dir": Link("d"), "gone": Link("nowhere"), "f": Link("d/x")},
        ("-L", "--exclude", "as-dir/", "--exclude", "gone"), ("+ d/", "+ d/x", "+ f"),
    ),
]  # fmt: skip

TIMES: Final = {"d/e/f": "same size", "d/e/g": "SAME SIZE", "d/e/h": "other"}
OTHER_TIMES: Final = {"d/e/f": "same size", "d/e/g": "same size", "d/e/h": "longer"}
CHANGES: Final = [
    Case("by size and time", TIMES, (), (". d/", ". d/e/", "> d/e/f", "> d/e/g", "> d/e/h"),
         target=OTHER_TIMES, oracle=()),
    Case("by content", TIMES, ("-c",), (". d/", ". d/e/", ". d/e/f", "> d/e/g", "> d/e/h"),
         target=OTHER_TIMES, oracle=("-c",)),
    Case("by size", TIMES, ("--size-only",), (". d/", ". d/e/", ". d/e/f", ". d/e/g", "> d/e/h"),
         target=OTHER_TIMES, oracle=("--size-only",)),
    Case("all of them", TIMES, ("-I",), (". d/", ". d/e/", "> d/e/f", "> d/e/g", "> d/e/h"),
         target=TIMES, oracle=("-I",)),
    Case("within a window", TIMES, ("--modify-window", "1h"), ("> d/e/h",), target=OTHER_TIMES),
    Case("beyond a window", TIMES, ("--modify-window", "3599"),
         (". d/", ". d/e/", "> d/e/f", "> d/e/g", "> d/e/h"), target=OTHER_TIMES),
]  # fmt: skip

CASES: Final = [
    *RULES, *IGNORE_FILES, *LISTED, *SIZED, *EXISTENCE, *LINKED, *CHANGES,
]  # fmt: skip


def prepared(place: Place, case: Case) -> Place:
    """Return a place of its own for one run of ``case``."""
    number = len(list(place.path.iterdir()))
    own = Place(place.path / f"run{number}", f"{place.url}/run{number}")
    lay(own.path / "source", case.source, {}, OLD + HOUR)
    lay(own.path / "target", case.target, case.times, OLD)
    for name, content in case.files.items():
        (own.path / name).write_text(content)
    return own


def result_in(place: Place) -> dict[bytes, Facts]:
    """Return what is in the target; times that nobody asked for are left to the clock."""
    found = snapshot(place.path / "target")
    return {
        path: facts if facts.mtime_ns <= OLD + 2 * HOUR else facts._replace(mtime_ns=0)
        for path, facts in found.items()
    }


def spelled(options: tuple[str, ...], place: Place) -> list[str]:
    return [option.replace("{here}", str(place.path)) for option in options]


def told(result: Result) -> list[str]:
    """Return the paths that the report names as problems."""
    return sorted(problem["path"] for problem in result.report["problems"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_selection_is_the_same_on_every_route(place: Place, case: Case) -> None:
    """The dry run says what the real run does; push, pull and local copy do the same."""
    results: list[dict[bytes, Facts]] = []
    for route in ROUTES:
        own = prepared(place, case)
        before = snapshot(own.path / "target")
        dry = own.transfer(route, "-i", "-n", *spelled(case.options, own))
        assert snapshot(own.path / "target") == before
        real = own.transfer(route, "-i", *spelled(case.options, own))
        assert real.changes == sorted(case.lines), (route, real.stderr)
        assert dry.changes == real.changes
        assert (dry.code, real.code) == (case.code, case.code), real.stderr
        assert told(dry) == told(real) == sorted(case.problems)
        again = own.transfer(route, "-i", "--modify-window", "0", *spelled(case.options, own))
        assert again.changes == [line for line in real.changes if line[0] == "!"] or (
            "-I" in case.options
        )
        results.append(result_in(own))
    assert results[0] == results[1] == results[2]


@needs_rsync
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.oracle is not None], ids=lambda case: case.name
)
def test_a_selection_is_what_rsync_makes_of_it(place: Place, case: Case) -> None:
    """From the same start the same words lead to the same tree."""
    assert case.oracle is not None
    own, other = prepared(place, case), prepared(place, case)
    own.transfer("push", *spelled(case.options, own))
    words = ["rsync", "-a", *spelled(case.oracle, other)]
    subprocess.run([*words, f"{other.path}/source/", f"{other.path}/target/"], check=True)
    assert result_in(own) == result_in(other)
    assert names(own.path / "target")
