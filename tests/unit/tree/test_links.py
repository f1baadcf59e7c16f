"""Where links lead, found by hand: inside, out, round in a circle, or nowhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.tree.directories import Directories
from netsync.tree.links import LINK_HOPS_MAX, LeadsOutError, Resolver
from tests.support.trees import Value, make_tree, opened


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Directories]:
    table: dict[str, Value] = {
        "a": {"b": {"f": b"1", "up": "..", "out": "../../..", "abs": "/", "self": "self"}},
        "c": "a/b", "d": "c/up/../c/f", "leave": "c/out/x", "ping": "pong", "pong": "ping",
        ".netsync-stage": {"f": b"2"}, "reserved": ".netsync-stage/f",
    }  # fmt: skip
    root = make_tree(tmp_path / "root", table)
    for number in range(LINK_HOPS_MAX + 1):
        (root / f"l{number + 1}").symlink_to(f"l{number}" if number else "a")
    with opened(root) as fd, Directories(fd) as directories:
        yield directories


@pytest.mark.parametrize(
    ("directory", "text", "found"),
    [
        (b"", b"a/b/f", (b"a/b", b"f")),
        (b"a/b", b"../b/./f", (b"a/b", b"f")),
        (b"", b"c/f", (b"a/b", b"f")),
        (b"", b"d", (b"a/b", b"f")),
        (b"a/b", b"up/b", (b"a", b"b")),
        (b"a", b"..", (b"", b"")),
        (b"", b".", (b"", b"")),
        (b"", b"l%d" % LINK_HOPS_MAX, None),
        (b"", b"l%d" % (LINK_HOPS_MAX - 1), (b"", b"a")),
    ],
)
def test_a_link_leads_to_one_place(
    below: Directories, directory: bytes, text: bytes, found: tuple[bytes, bytes] | None
) -> None:
    resolver = Resolver(below, bounded=True)
    if found is None:
        with pytest.raises(OSError, match="Too many levels") as caught:
            resolver.resolve(directory, text)
        assert caught.value.errno == errno.ELOOP
    else:
        assert resolver.resolve(directory, text) == found
    assert not resolver.leads_out(directory, text)


@pytest.mark.parametrize(
    "text", [b"/", b"/a", b"..", b"a/../../x", b"leave", b"a/b/abs", b"c/out", b"reserved"]
)
def test_the_first_step_out_is_seen(below: Directories, text: bytes) -> None:
    resolver = Resolver(below, bounded=True)
    assert resolver.leads_out(b"", text)
    with pytest.raises(LeadsOutError):
        resolver.resolve(b"", text)


@pytest.mark.parametrize("text", [b"nowhere", b"a/b/f/x", b"no/such/../dir"])
def test_what_is_not_there_leads_nowhere_and_not_out(below: Directories, text: bytes) -> None:
    resolver = Resolver(below, bounded=True)
    assert not resolver.leads_out(b"", text)
    with pytest.raises(OSError, match=r"No such file|Not a directory"):
        resolver.resolve(b"", text)


def test_what_would_lead_out_once_it_is_there_is_seen(below: Directories) -> None:
    assert Resolver(below, bounded=True).leads_out(b"a", b"nowhere/../../../x")


def test_a_circle_leads_nowhere(below: Directories) -> None:
    resolver = Resolver(below, bounded=True)
    for text in (b"ping", b"a/b/self"):
        assert not resolver.leads_out(b"", text)
        with pytest.raises(OSError, match="Too many levels"):
            resolver.resolve(b"", text)


def test_without_a_bound_the_root_is_its_own_parent(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"1"})
    with opened(Path("/")) as fd, Directories(fd) as directories:
        resolver = Resolver(directories, bounded=False)
        directory, name = os.path.split(os.fsencode(os.path.realpath(tmp_path / "f")))
        assert resolver.resolve(b"", b"../.." + directory + b"/f") == (directory[1:], name)
        assert resolver.resolve(b"etc", directory + b"/f") == (directory[1:], name)
