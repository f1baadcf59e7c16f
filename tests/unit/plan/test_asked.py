"""What the user of a pull asked for: an honest source's listing fits, anything more does not."""

from __future__ import annotations

import pytest

from netsync.errors import ProtocolError
from netsync.model import Entry, Keep, Kind, Options, Rule
from netsync.plan.asked import Asked

ROOT = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0, 5)


def admitted(asked: Asked, path: bytes, kind: Kind = Kind.FILE) -> bool:
    directory, _, name = path.rpartition(b"/")
    try:
        asked.check(directory, path, Entry(name, kind, 0o644, 0, 0, 0, 5, b"x"))
    except ProtocolError:
        return False
    return True


def test_names_in_the_root_are_those_that_were_asked_for() -> None:
    asked = Asked(Options(), [b"a", b"d"])
    assert admitted(asked, b"a")
    assert admitted(asked, b"d/anything")
    assert not admitted(asked, b"b")


def test_the_contents_of_a_directory_may_have_any_name() -> None:
    assert admitted(Asked(Options(), None), b"anything")


def test_a_lone_file_comes_under_the_name_it_was_given() -> None:
    asked = Asked(Options(), [b"a.img"]).renamed(b"b.img")
    assert admitted(asked, b"b.img")
    assert not admitted(asked, b"a.img")
    same = Asked(Options(), [b"a.img"])
    assert same.renamed(b"") is same


def test_what_a_rule_excludes_was_not_asked_for() -> None:
    asked = Asked(Options(rules=(Rule(False, b"/keep.key"), Rule(True, b"*.key"))), None)
    assert admitted(asked, b"keep.key")
    assert not admitted(asked, b"d/id.key")


def test_a_directory_that_a_rule_excludes_is_told_from_a_file() -> None:
    asked = Asked(Options(rules=(Rule(True, b"d/"),)), None)
    assert admitted(asked, b"d")
    assert not admitted(asked, b"d", Kind.DIRECTORY)


@pytest.mark.parametrize("options", [Options(keep=Keep(links=False)), Options(copy_links=True)])
def test_no_link_comes_where_none_can(options: Options) -> None:
    assert not admitted(Asked(options, None), b"l", Kind.SYMLINK)


def test_of_a_list_come_its_names_and_the_directories_above() -> None:
    asked = Asked(Options(paths=(b"a/b", b"whole/")), None)
    for path in (b"a", b"a/b", b"whole", b"whole/x"):
        assert admitted(asked, path, Kind.DIRECTORY), path
    for path in (b"b", b"a/c", b"a/b/c", b"whole/x/y"):
        assert not admitted(asked, path), path


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (Asked(Options(), None), True),
        (Asked(Options(), [b"a"]), False),
        (Asked(Options(paths=(b"a",)), None), False),
        (Asked(Options(paths=(b"a", b".")), None), True),
    ],
)
def test_the_root_gets_metadata_only_where_it_was_asked_for(asked: Asked, allowed: bool) -> None:
    asked.check_root(None)
    if allowed:
        asked.check_root(ROOT)
        return
    with pytest.raises(ProtocolError):
        asked.check_root(ROOT)
