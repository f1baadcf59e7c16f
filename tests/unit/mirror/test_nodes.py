"""Nodes: what the kernel knows by number, and what it is called now."""

from __future__ import annotations

import errno

import pytest

from netsync.mirror.nodes import ROOT, Nodes


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def test_a_path_follows_a_directory_that_is_renamed(nodes: Nodes) -> None:
    a = nodes.name(10, nodes.root, b"a")
    file = nodes.name(11, a, b"file")
    assert nodes.path(file) == b"a/file"
    nodes.name(10, nodes.root, b"moved")
    nodes.unname(a, nodes.root, b"a")
    assert nodes.path(file) == b"moved/file"
    assert nodes.path(nodes.root) == b""


def test_a_file_with_several_names_has_the_first_that_is_left(nodes: Nodes) -> None:
    file = nodes.name(11, nodes.root, b"one")
    assert nodes.name(11, nodes.root, b"two") is file
    assert nodes.path(file) == b"one"
    nodes.unname(file, nodes.root, b"one")
    assert nodes.path(file) == b"two"
    nodes.unname(file, nodes.root, b"two")
    assert nodes.path(file) is None


def test_moves_are_counted_so_that_paths_may_be_kept(nodes: Nodes) -> None:
    file = nodes.name(11, nodes.root, b"one")
    before = nodes.moves
    nodes.name(11, nodes.root, b"one")
    assert nodes.moves == before
    nodes.unname(file, nodes.root, b"one")
    assert nodes.moves > before


def test_a_directory_is_kept_as_long_as_something_in_it_is_known(nodes: Nodes) -> None:
    a = nodes.name(10, nodes.root, b"a")
    a.lookups = 1
    file = nodes.name(11, a, b"file")
    file.lookups = 2
    assert nodes.forget(a, 1) == []
    assert nodes.forget(file, 1) == []
    assert nodes.forget(file, 1) == [file, a]
    assert len(nodes) == 1
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        nodes.find(10)
    assert caught.value.errno == errno.ESTALE


def test_an_open_file_is_kept_though_the_kernel_forgets_it(nodes: Nodes) -> None:
    file = nodes.name(11, nodes.root, b"file")
    file.opened = 1
    assert nodes.forget(file) == []
    file.opened = 0
    assert nodes.forget(file) == [file]


def test_the_root_is_never_forgotten_and_no_file_is_taken_for_it(nodes: Nodes) -> None:
    assert nodes.forget(nodes.root) == []
    assert nodes.find(ROOT) is nodes.root
    assert nodes.known(ROOT) is None
