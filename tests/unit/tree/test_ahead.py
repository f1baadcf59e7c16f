"""What is read ahead is used once and soon, on terms that allow it, for the directory it is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsync.model import Keep, Options
from netsync.tree.ahead import AGE_MAX, Ahead, may_read_ahead, presumed
from netsync.tree.native import NAME, Coverage
from netsync.tree.packing import Known
from netsync.tree.roots import SourceRoot
from tests.support.trees import make_tree, needs_mount, open_descriptors, opened, small_disk

OPTIONS = Options()
TERMS = presumed(OPTIONS)._replace(whole_modes=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", {"a": {"f": b"1"}, "b": {}})


def claimed(ahead: Ahead, path: Path, name: bytes = b"") -> Known:
    with opened(path) as fd:
        return ahead.claim(SourceRoot(fd, name, name), TERMS)


def read(path: Path) -> Ahead:
    ahead = Ahead(bytes(path), presumed(OPTIONS))
    ahead.read()
    return ahead


def test_a_thread_reads_and_leaving_ends_it(tree: Path) -> None:
    before = open_descriptors()
    with Ahead(bytes(tree), presumed(OPTIONS)) as ahead:
        pass
    assert set(claimed(ahead, tree)) <= {b"", b"a", b"b"}
    assert open_descriptors() == before


def test_it_is_given_once(tree: Path) -> None:
    ahead = read(tree)
    assert list(claimed(ahead, tree)) == [b"", b"a", b"b"]
    assert claimed(ahead, tree) == {}, "a second attempt reads anew"


def test_a_named_source_has_its_name_in_the_paths(tree: Path) -> None:
    assert list(claimed(read(tree), tree.parent, b"tree")) == [b"tree", b"tree/a", b"tree/b"]


def test_another_directory_of_that_name_is_not_what_was_read(tree: Path) -> None:
    first, second, third = read(tree), read(tree), read(tree)
    tree.rename(tree.with_name("old"))
    make_tree(tree, {"a": {}, "b": {}})
    assert claimed(first, tree) == {}
    tree.rename(tree.with_name("new"))
    tree.symlink_to("old")
    assert claimed(second, tree.parent, b"tree") == {}, "a link is listed as a link"
    tree.unlink()
    assert claimed(third, tree.parent, b"tree") == {}


@needs_mount
def test_where_something_was_mounted_since_it_is_read_anew(tree: Path) -> None:
    before, between = read(tree), read(tree)
    with small_disk(tree / "b", 1 << 20):
        assert claimed(before, tree) == {}
        mounted = read(tree)
        make_tree(tree, {"b": {"in": {}}, "b2": {}})
        found = claimed(read(tree), tree.parent, b"tree")
        assert list(found) == [b"tree", b"tree/a", b"tree/b2"], "what is mounted is read anew"
        (tree / "b2").rmdir()
    assert claimed(mounted, tree) == {}
    assert list(claimed(between, tree)) == [b"", b"a", b"b"]


def test_what_is_old_is_not_used(tree: Path) -> None:
    times = iter([5.0, 5.0 + AGE_MAX + 0.1, 7.0, 7.0 + AGE_MAX])
    for found in (False, True):
        ahead = Ahead(bytes(tree), presumed(OPTIONS), lambda: next(times))
        ahead.read()
        assert bool(claimed(ahead, tree)) is found


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        (TERMS, True),
        (TERMS._replace(mode_mask=0o7777), True),
        (TERMS._replace(mode_mask=0o777), False),
        (TERMS._replace(kinds=0xFF), True),
        (TERMS._replace(kinds=2), False),
        (TERMS._replace(owner=False), False),
        (TERMS._replace(group=False), False),
        (TERMS._replace(single_links=False), False),
        (TERMS._replace(no_attributes=False), False),
        (TERMS._replace(room=100), False),
    ],
)
def test_other_terms_than_were_presumed_have_it_read_anew(
    tree: Path, terms: Coverage, found: bool
) -> None:
    ahead = read(tree)
    with opened(tree) as fd:
        assert bool(ahead.claim(SourceRoot(fd, b"", b""), terms)) is found


def test_what_a_mask_may_change_is_left_to_the_listing(tree: Path) -> None:
    (tree / "a" / "f").chmod(0o4755)
    assert list(claimed(read(tree), tree)) == [b"", b"b"]


def test_a_source_that_is_missing_or_a_file_is_nothing(tree: Path) -> None:
    assert claimed(read(tree / "missing"), tree) == {}
    assert claimed(read(tree / "a" / "f"), tree / "a", b"f") == {}


def test_only_transfers_that_may_tell_digests_are_read_ahead() -> None:
    assert may_read_ahead(OPTIONS) is (NAME == "compiled")
    assert not may_read_ahead(Options(checksum=True))
    assert not may_read_ahead(Options(one_file_system=True))
    assert not may_read_ahead(Options(keep=Keep(times=False)))
    assert not may_read_ahead(Options(paths=(b"a",)))
