"""What a difference comes from, by what each side knows of its own file."""

from __future__ import annotations

import msgspec
import pytest

from netsync.model import Cause, Entry, History, Kind, Options, Slice
from netsync.plan.differing import WORDS, cause_of, is_in

FILE = Entry(b"f", Kind.FILE, 0o644, 0, 0, 10, 1000, digest=b"old old old old ")
OTHER = b"new new new new "
VERIFY = Options(verify=True, checksum=True, dry_run=True)
U, I, W, R, B = History  # noqa: E741 - the table below is read at a glance


@pytest.mark.parametrize(
    ("source", "target", "same_look", "source_newer", "older"),
    [
        (R, I, Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_SOURCE),
        (R, W, Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_SOURCE),
        (U, R, Cause.ROTTED_AT_TARGET, Cause.ROTTED_AT_TARGET, Cause.ROTTED_AT_TARGET),
        (R, R, Cause.ROTTED_AT_BOTH, Cause.ROTTED_AT_BOTH, Cause.ROTTED_AT_BOTH),
        (B, I, Cause.BUSY, Cause.BUSY, Cause.BUSY),
        (I, B, Cause.BUSY, Cause.BUSY, Cause.BUSY),
        (R, B, Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_SOURCE),
        (W, I, Cause.DIVERGED, Cause.EDITED_AT_SOURCE, Cause.EDITED_AT_SOURCE),
        (I, W, Cause.DIVERGED, Cause.CHANGED_AT_TARGET, Cause.CHANGED_AT_TARGET),
        (W, W, Cause.DIVERGED, Cause.CHANGED_AT_BOTH, Cause.CHANGED_AT_BOTH),
        (I, I, Cause.DIVERGED, Cause.EDITED_AT_SOURCE, Cause.UNKNOWN),
        (U, U, Cause.DIVERGED, Cause.EDITED_AT_SOURCE, Cause.UNKNOWN),
    ],
)
def test_the_words_of_both_sides_are_put_together(
    source: History, target: History, same_look: Cause, source_newer: Cause, older: Cause
) -> None:
    """For files that look the same, whose source is newer, and whose source is older."""
    listed = msgspec.structs.replace(FILE, history=source)
    for mtime_ns, cause in ((1000, same_look), (999, source_newer), (1001, older)):
        present = msgspec.structs.replace(FILE, history=target, mtime_ns=mtime_ns, digest=OTHER)
        assert cause_of(listed, present, VERIFY) is cause
    longer = msgspec.structs.replace(FILE, history=target, size=11, digest=OTHER)
    assert cause_of(listed, longer, VERIFY) is not Cause.DIVERGED


def test_times_within_the_window_are_the_same() -> None:
    present = msgspec.structs.replace(FILE, mtime_ns=900, digest=OTHER)
    window = msgspec.structs.replace(VERIFY, modify_window=100)
    assert cause_of(FILE, present, window) is Cause.DIVERGED


def test_no_cause_is_told_where_content_is_equal_or_nobody_asked() -> None:
    present = msgspec.structs.replace(FILE, digest=OTHER)
    link = msgspec.structs.replace(present, kind=Kind.SYMLINK)
    assert cause_of(FILE, FILE, VERIFY) is Cause.NONE
    assert cause_of(FILE, None, VERIFY) is Cause.NONE
    assert cause_of(FILE, link, VERIFY) is Cause.NONE
    assert cause_of(FILE, present, Options(checksum=True)) is Cause.NONE


def test_every_cause_has_words() -> None:
    assert set(WORDS) == set(Cause) - {Cause.NONE}


def test_each_file_is_in_one_part_for_good() -> None:
    paths = [b"d%d/f%d" % (number % 7, number) for number in range(2000)]
    parts = [[path for path in paths if is_in(path, Slice(index, 10))] for index in range(10)]
    assert sorted(path for part in parts for path in part) == sorted(paths)
    assert min(map(len, parts)) > 100  # none is empty, none has much more than its share
    assert is_in(b"a/b", Slice(3, 7)) is is_in(b"a/b", Slice(3, 7))
