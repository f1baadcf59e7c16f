"""The activity log: what was written since everything was flushed, as a crash leaves it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from netsync.errors import StateError
from netsync.state import activity
from netsync.state.activity import EVERYTHING, Activity, read_activity


def test_what_is_noted_is_there_after_a_crash(tmp_path: Path) -> None:
    log = Activity(tmp_path)
    assert log.new([b"a", b"b"]) == {b"a", b"b"}
    log.note([b"a", b"b\xff"])
    assert log.new([b"a", b"c"]) == {b"c"}
    assert read_activity(tmp_path) == {b"a", b"b\xff"}, "it was not closed"
    log.close()


def test_a_torn_path_was_never_acted_on(tmp_path: Path) -> None:
    log = Activity(tmp_path)
    log.note([b"first"])
    log.note([b"second"])
    log.close()
    file = tmp_path / "activity"
    file.write_bytes(file.read_bytes()[:-1])
    assert read_activity(tmp_path) == {b"first"}


def test_emptying_keeps_what_is_written_meanwhile(tmp_path: Path) -> None:
    log = Activity(tmp_path)
    log.note([b"before", b"both"])
    log.begin_emptying()
    assert read_activity(tmp_path) == {b"before", b"both"}, "until it is flushed"
    assert log.new([b"both"]) == {b"both"}, "what is written from now on is noted anew"
    log.note([b"both"])
    log.finish_emptying()
    assert read_activity(tmp_path) == {b"both"}
    log.note([b"after"])
    assert read_activity(tmp_path) == {b"both", b"after"}
    log.begin_emptying()
    log.finish_emptying()
    assert log.is_empty
    assert read_activity(tmp_path) == set()
    log.close()


def test_a_full_disk_does_not_hide_what_is_noted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that stops halfway leaves no torn path, before which reading would end."""
    log = Activity(tmp_path)
    log.note([b"before"])
    write, calls = os.write, []

    def write_half_then_fail(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:5])

    monkeypatch.setattr(os, "write", write_half_then_fail)
    with pytest.raises(StateError, match="space"):
        log.note([b"torn"])
    assert log.new([b"torn"]) == {b"torn"}, "it is not noted"
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    log.note([b"later"])
    monkeypatch.undo()
    assert read_activity(tmp_path) == log.noted == {b"before", b"later"}
    log.close()


def test_too_many_are_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "PATHS_MAX", 3)
    log = Activity(tmp_path)
    log.note([b"%d" % number for number in range(4)])
    assert EVERYTHING in read_activity(tmp_path)
    assert log.new([b"any"]) == set()
    log.close()
