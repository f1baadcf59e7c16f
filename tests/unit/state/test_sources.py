"""What is remembered of sources, and a state directory in every condition."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from netsync.errors import StateError
from netsync.model import Origin
from netsync.state.database import FILE, VERSION, default_directory
from netsync.state.sources import RememberedSources
from tests.support.confined import as_nobody, needs_known_calls, needs_root

A = Origin(b"", 2**63 - 1, 2**63 - 1, bytes(16))
B = Origin(b"n\xff", 5, 0)


def test_what_is_remembered_is_known_again(tmp_path: Path) -> None:
    """By place and client, each by itself; the directory is private."""
    directory = tmp_path / "deep" / "state"
    here = RememberedSources(directory, b"/srv/\xff", "primary1")
    assert here.known() == []
    assert not directory.exists(), "asking makes nothing"
    here.remember([A, B])
    assert here.known() == [A, B]
    assert RememberedSources(directory, b"/srv/\xff", "other").known() == []
    assert RememberedSources(directory, b"/srv", "primary1").known() == []
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_name_is_replaced_whole_and_others_stay(tmp_path: Path) -> None:
    here = RememberedSources(tmp_path, b"/srv", "")
    second = Origin(b"", 7, 7)
    here.remember([A, second, B])
    here.remember([Origin(b"", 8, 8)])
    assert here.known() == [Origin(b"", 8, 8), B]


def test_mounts_are_replaced_whole_by_those_that_are_told(tmp_path: Path) -> None:
    """Of this destination only; they end with a slash, whatever else is in their paths."""
    here, other = (RememberedSources(tmp_path, place, "") for place in (b"/srv", b"/other"))
    one, two = Origin(b"a/b\xff/", 0, 0), Origin(b"c/", 0, 0)
    for memory in (here, other):
        memory.remember([A, one])
    here.remember([A, two])
    assert here.known() == [A, two]
    here.remember([A])
    assert (here.known(), other.known()) == ([A], [A, one])


def _work(directory: Path, number: int) -> None:
    own = RememberedSources(directory, b"/p%d" % number, "c")
    own.known()
    own.remember([A])
    os._exit(0 if own.known() == [A] else 1)


def test_those_who_begin_at_once_agree(tmp_path: Path) -> None:
    """Eight processes find no database and all remember."""
    start = multiprocessing.get_context("fork").Process
    workers = [start(target=_work, args=(tmp_path / "s", number)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0] * 8


def garbage(file: Path) -> None:
    file.write_bytes(b"no database" * 500)


def newer(file: Path) -> None:
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()


def directory_instead(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize("damage", [garbage, newer, directory_instead])
def test_a_damaged_database_is_one_error_and_stays_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(tmp_path / FILE)
    here = RememberedSources(tmp_path, b"/srv")
    for ask in (here.known, lambda: here.remember([A])):
        with pytest.raises(StateError) as caught:
            ask()
        assert str(tmp_path) in str(caught.value)
    if damage is garbage:
        assert (tmp_path / FILE).read_bytes() == b"no database" * 500


def test_an_empty_file_is_a_database_to_be(tmp_path: Path) -> None:
    """Someone else may be creating it just now."""
    (tmp_path / FILE).touch()
    here = RememberedSources(tmp_path, b"/srv")
    assert here.known() == []
    here.remember([A])
    assert here.known() == [A]


@needs_root
@needs_known_calls
def test_who_may_not_write_can_be_told_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    def remember() -> None:
        RememberedSources(tmp_path / "state", b"/srv").remember([A])

    with pytest.raises(StateError, match="permission denied"):
        as_nobody(remember)


def test_the_default_directory_follows_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/var/lib/netsync")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/st")
    assert default_directory() == Path("/home/u/st/netsync")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/u")
    assert default_directory() == Path("/home/u/.local/state/netsync")
