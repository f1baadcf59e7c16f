"""Names are bytes: whatever they hold, they arrive three levels down, and are shown escaped."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from netsync.names import as_text, shown
from tests.support.places import ROUTES, Place
from tests.support.processes import Result

ODD: Final = {
    "newline": b"a\nb",
    "ends with a newline": b"a\n",
    "carriage return and tab": b"\r\t",
    "escape sequence": b"\x1b[31mred",
    "no UTF-8": b"\xff\xfe",
    "half a character": b"caf\xc3",
    "surrogate in UTF-8": b"\xed\xa0\x80",
    "255 bytes": b"n" * 255,
    "255 bytes of no UTF-8": b"\x80" * 255,
    "NFC": "é".encode(),
    "NFD": "e\u0301".encode(),
    "leading dash": b"-rf",
    "two dashes": b"--delete",
    "star": b"*",
    "question mark": b"?",
    "bracket": b"[a-z]",
    "backslash": b"\\",
    "backslashes": b"\\n\\377",
    "space": b" ",
    "leading and trailing space": b" a ",
    "quote": b"'\"`$(true)",
    "hash": b"#c",
    "exclamation mark": b"!k",
    "colons": b"h::m",
    "every other byte": bytes(n for n in range(1, 256) if n != ord("/")),
    "right to left": "\u202egnp.exe".encode(),
    "almost reserved": b".netsyn",
    "three dots": b"...",
}  # fmt: skip
DEEP: Final = b"d" * 200
DEPTH: Final = 30
"""Levels of ``DEEP`` that make a path of 6,000 bytes: longer than any the system takes."""


def make(top: int, parts: list[bytes], content: bytes) -> None:
    """Write a file below the directory ``top``, however long its path."""
    fd = os.dup(top)
    for part in parts[:-1]:
        if part not in os.listdir(b"/proc/self/fd/%d" % fd):
            os.mkdir(part, dir_fd=fd)
        below = os.open(part, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open(parts[-1], os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
    os.write(file, content)
    os.close(file)
    os.close(fd)


def read(top: int, above: bytes = b"") -> Iterator[tuple[bytes, int, bytes]]:
    """Yield path, time and content of everything below the directory ``top``."""
    for text in os.listdir(top):
        name = os.fsencode(text)
        path = above + b"/" + name
        status = os.stat(name, dir_fd=top, follow_symlinks=False)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=top)
        if stat.S_ISDIR(status.st_mode):
            yield path, status.st_mtime_ns, b""
            yield from read(fd, path)
        else:
            yield path, status.st_mtime_ns, os.read(fd, 1 << 20)
        os.close(fd)


def tree(root: Path) -> dict[bytes, tuple[int, bytes]]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    found = {path: (mtime, content) for path, mtime, content in read(fd)}
    os.close(fd)
    return found


def build(root: Path, files: list[tuple[list[bytes], bytes]]) -> Path:
    root.mkdir()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for parts, content in files:
        make(fd, parts, content)
    os.close(fd)
    return root


def done(result: Result) -> Result:
    assert (result.code, result.stderr) == (0, ""), result
    return result


@pytest.mark.parametrize("route", ROUTES)
def test_every_name_arrives_and_is_shown_escaped(place: Place, route: str) -> None:
    """As a file, as a directory and as both, three levels down; dry and real lines agree."""
    paths = [[b"l1", b"l2", name] for name in ODD.values()]
    paths += [[b"dirs", b"below", name, name] for name in ODD.values()]
    source = build(place.path / "source", [(path, path[-1]) for path in paths])
    dry = place.transfer(route, "-i", "-n")
    real = done(place.transfer(route, "-i"))
    assert tree(place.path / "target") == tree(source)
    expected = ["+ dirs/", "+ dirs/below/", "+ l1/", "+ l1/l2/"]
    expected += [f"+ {shown(b'/'.join(path))}" for path in paths]
    expected += [f"+ {shown(b'/'.join(path[:-1]))}/" for path in paths if path[0] == b"dirs"]
    assert dry.changes == real.changes == sorted(expected)
    assert all(line.isprintable() for line in real.stdout.splitlines())
    again = done(place.transfer(route, "-i", "--delete"))
    assert again.changes == []


@pytest.mark.parametrize("route", ROUTES)
def test_every_name_is_deleted_when_the_source_has_it_no_more(place: Place, route: str) -> None:
    """And nothing beside it goes, whatever a shell or a pattern would make of the name."""
    build(place.path / "source", [([b"l1", b"l2", b"stays"], b"1")])
    kept = [[b"l1", b"l2", b"stays"]]
    gone = [[b"l1", b"l2", name] for name in ODD.values()]
    gone += [[b"l1", b"dirs", name, name] for name in ODD.values()]
    build(place.path / "target", [(path, b"1") for path in kept + gone])
    dry = place.transfer(route, "-i", "-n", "--delete")
    real = done(place.transfer(route, "-i", "--delete"))
    assert dry.changes == real.changes
    assert tree(place.path / "target").keys() == {b"/l1", b"/l1/l2", b"/l1/l2/stays"}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ODD.values(), ids=ODD.keys())
def test_a_listed_name_is_taken_as_it_is(place: Place, route: str, name: bytes) -> None:
    """A list ended by NULs finds exactly the one; what is missing is told in JSON and on stderr."""
    build(place.path / "source", [([b"a", b"b", name], b"1"), ([b"a", b"b", b"other"], b"2")])
    missing = b"a/b/missing" + name[:200]
    (place.path / "list").write_bytes(b"a/b/" + name + b"\0" + missing + b"\0")
    result = place.transfer(route, "--from0", "--files-from", str(place.path / "list"))
    assert result.code == 23
    assert tree(place.path / "target").keys() == {b"/a", b"/a/b", b"/a/b/" + name}
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["path"] == as_text(missing)
    assert f"netsync: read {shown(missing)}: no such file or directory" in result.stderr


@pytest.mark.parametrize("route", ROUTES)
def test_paths_longer_than_the_system_takes(place: Place, route: str) -> None:
    """Created, changed, linked by name in a list, and deleted: each step is one component."""
    deep = [DEEP] * DEPTH
    source = build(place.path / "source", [([*deep, b"f"], b"1"), ([*deep[:-1], b"g"], b"2")])
    dry = place.transfer(route, "-i", "-n")
    real = done(place.transfer(route, "-i"))
    assert dry.changes == real.changes
    assert len(real.changes) == DEPTH + 2
    assert tree(place.path / "target") == tree(source)
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    make(fd, [*deep, b"f"], b"changed")
    make(fd, [*deep, b".netsyncignore"], b"/kept\n")
    os.close(fd)
    fd = os.open(place.path / "target", os.O_RDONLY | os.O_DIRECTORY)
    for name in (b"kept", b"gone"):
        make(fd, [*deep, name], b"there")
    os.close(fd)
    dry = place.transfer(route, "-i", "-n", "-c", "--delete")
    real = done(place.transfer(route, "-i", "-c", "--delete"))
    assert dry.changes == real.changes
    found, wanted = tree(place.path / "target"), tree(source)
    assert found.pop(b"/" + b"/".join([*deep, b"kept"]))[1] == b"there"
    assert found == wanted
    (place.path / "list").write_bytes(b"/".join([*deep, b"f"]))
    done(place.transfer(route, "--files-from", str(place.path / "list"), target="third"))
    assert len(tree(place.path / "third")) == DEPTH + 1


def test_a_path_too_long_to_be_told_is_a_problem(place: Place) -> None:
    """Beyond 64 KiB no message holds it: what lies above is copied, and nothing is deleted."""
    levels = (1 << 16) // (len(DEEP) + 1) + 1
    build(place.path / "source", [([DEEP] * levels + [b"f"], b"1"), ([b"g"], b"2")])
    build(place.path / "target", [([b"old"], b"3")])
    result = place.transfer("push", "--delete")
    assert result.code == 23
    assert "its path is too long to be told" in result.stderr
    found = {path.rpartition(b"/")[2] for path in tree(place.path / "target")}
    assert found == {DEEP, b"g", b"old"}
    for root in ("source", "target"):
        subprocess.run(["rm", "-rf", place.path / root], check=True, timeout=60)
