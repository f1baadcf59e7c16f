"""Restricted listings: what is asked of each directory, and which paths are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsync.plan.restriction import Restriction, names_root, parse_list


def asked(restriction: Restriction, directory: bytes) -> list[bytes]:
    return list(restriction.names_in(directory))


def test_each_directory_is_asked_for_the_names_that_lead_to_what_is_named() -> None:
    only = Restriction([b"a/b/c", b"a/b-c", b"a/b", b"z", b"a/d/", b"./x//y/."])
    assert asked(only, b"") == [b"a", b"x", b"z"]
    assert asked(only, b"a") == [b"b", b"b-c", b"d"]
    assert asked(only, b"a/b") == [b"c"]
    assert asked(only, b"a/b/c") == asked(only, b"a/d") == asked(only, b"q") == []
    assert only.opens(b"a/d")
    assert only.opens(b"x/y")
    assert not any(map(only.opens, [b"", b"a", b"a/b", b"z", b"d"]))
    assert only.leads_into(b"a/b")
    assert only.leads_into(b"a/d")
    assert not only.leads_into(b"a/b/c")
    assert not only.leads_into(b"a/b-")
    assert list(only.named_below(b"a/b")) == [b"a/b", b"a/b/c"]
    assert only.refused == []


def test_the_root_is_named_by_a_dot() -> None:
    for path in (b".", b"./", b"/", b"./."):
        assert Restriction([path]).opens(b"")
        assert names_root([b"a", path])
    assert not names_root([b"a", b"..", b"...", b"a/."])


@pytest.mark.parametrize(
    "path",
    [b"..", b"a/../b", b"../a", b"a/..", b".netsync", b"a/.netsync-1/b", b"a\0b", b"n" * 256],
)
def test_a_path_that_leads_out_or_is_no_name_is_refused(path: bytes) -> None:
    only = Restriction([path, b"good"])
    assert only.refused == [path]
    assert asked(only, b"") == [b"good"]


def test_an_absolute_path_is_below_the_source_as_with_rsync() -> None:
    assert asked(Restriction([b"/etc/passwd"]), b"") == [b"etc"]


NAMES = st.binary(min_size=1, max_size=3).filter(
    lambda name: name not in (b".", b"..") and not set(name) & {0, ord("/")}
)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=30))
def test_it_is_the_tree_of_the_paths(paths: list[list[bytes]]) -> None:
    """Whatever the names: directory by directory the same as sets of components."""
    only = Restriction([b"/".join(parts) for parts in paths])
    directories = {tuple(parts[:end]) for parts in paths for end in range(len(parts) + 1)}
    for directory in directories:
        depth = len(directory)
        below = {tuple(p)[depth] for p in paths if len(p) > depth and tuple(p[:depth]) == directory}
        assert asked(only, b"/".join(directory)) == sorted(below)


def test_lists_are_read_as_rsync_reads_them() -> None:
    content = b"a\r\n\n# no\n;no\n b \n./#c"
    assert parse_list(content, ends_with_nul=False) == [b"a", b" b ", b"./#c"]
    assert parse_list(b"a\nb\0\0#c\0;d", ends_with_nul=True) == [b"a\nb", b"#c", b";d"]
