"""Records of what could not be set: what is taken for one, and whose is believed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsync.model import Entry, Kind
from netsync.plan import acl
from netsync.plan.ownership import ID_MAX
from netsync.plan.stored import (
    RECORD_MAX,
    Record,
    fits,
    is_believed,
    narrowed,
    pack,
    parse,
    restored,
    restored_xattrs,
    with_record,
)
from netsync.plan.xattrs import STORED_NAME, Scope
from tests.support.xattrs import acl_value

CAPABILITY = (b"security.capability", b"\x01")
ACL = (acl.ACCESS, acl_value([(5, 7)]))
PLAIN = Record(1, Kind.FILE, 0o4755, 0, 0)
DEVICE = Record(1, Kind.BLOCK, 0o660, 0, 6, b"", b"disk", 0x801, (CAPABILITY,))
FILE = Entry(b"n", Kind.FILE, 0o644, 1000, 1000, 0, 5)


def but(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


@pytest.mark.parametrize(
    "record",
    [
        PLAIN,
        DEVICE,
        but(PLAIN, mode=None, uid=None, gid=None),
        but(PLAIN, xattrs=(CAPABILITY, ACL)),
    ],
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert parse(pack(record)) == record


@pytest.mark.parametrize(
    "record",
    [
        but(PLAIN, version=2),
        but(PLAIN, kind=Kind.SYMLINK),
        but(PLAIN, kind=Kind.FIFO),
        but(PLAIN, kind=9),
        but(PLAIN, mode=0o10000),
        but(PLAIN, uid=-1),
        but(PLAIN, uid=ID_MAX + 1),
        but(PLAIN, device=1),
        but(PLAIN, user=b"r\0t"),
        but(PLAIN, user=b"u" * 256),
        but(PLAIN, xattrs=((b"user.a", b""),)),
        but(PLAIN, xattrs=((STORED_NAME, b""),)),
        but(PLAIN, xattrs=((acl.DEFAULT, ACL[1]),)),
        but(PLAIN, xattrs=((acl.ACCESS, b"none"),)),
        but(PLAIN, xattrs=(ACL, CAPABILITY)),
        but(PLAIN, xattrs=(CAPABILITY, CAPABILITY)),
        but(PLAIN, xattrs=tuple((b"security.%d" % n, b"x" * 60_000) for n in range(2))),
    ],
)
def test_what_no_target_writes_is_no_record(record: Record) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(pack(record))


def test_a_record_is_bounded_and_whole() -> None:
    for data in (b"", pack(PLAIN)[:-1], pack(PLAIN) + b"\0", b"\0" * (RECORD_MAX + 1)):
        with pytest.raises(ValueError, match=r"."):
            parse(data)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_value_error(data: bytes) -> None:
    try:
        record = parse(data)
    except ValueError:
        return
    assert parse(pack(record)) == record


@pytest.mark.parametrize(
    ("uid", "mode", "believed"),
    [(7, 0o644, True), (7, 0o4755, True), (8, 0o644, False), (0, 0o600, False),
     (7, 0o664, False), (7, 0o646, False)],
)  # fmt: skip
def test_only_what_nobody_else_can_have_written_is_believed(
    uid: int, mode: int, believed: bool
) -> None:
    assert is_believed(uid, mode, frozenset({7})) is believed


@given(st.integers(0, 0o7777), st.sampled_from([PLAIN, DEVICE, but(PLAIN, xattrs=(ACL,))]))
def test_what_is_stored_will_be_believed_and_can_be_read_again(mode: int, record: Record) -> None:
    assert is_believed(7, narrowed(mode, record), frozenset({7}))
    assert narrowed(mode, record) & 0o600 == 0o600


def test_the_mask_of_a_stored_acl_is_no_leave_of_the_group() -> None:
    assert narrowed(0o755, but(PLAIN, xattrs=(ACL,))) == 0o700


def test_a_device_is_an_empty_file_and_all_else_of_its_own_kind() -> None:
    assert fits(DEVICE, FILE)
    assert fits(PLAIN, but(FILE, size=5))
    assert not fits(DEVICE, but(FILE, size=5))
    assert not fits(PLAIN, but(FILE, kind=Kind.DIRECTORY))


def test_an_entry_becomes_what_its_record_says_and_keeps_what_that_leaves_open() -> None:
    device = restored(FILE, DEVICE, (0, 6))
    assert device == Entry(b"n", Kind.BLOCK, 0o660, 0, 6, 0, 5, device=0x801)
    nothing = but(PLAIN, mode=None, uid=None, gid=None)
    assert restored(FILE, nothing, (None, None)) == FILE


def test_attributes_come_from_where_they_are_kept() -> None:
    record = but(PLAIN, xattrs=(CAPABILITY, ACL))
    mine = ((b"user.a", b"1"),)
    kept = with_record((ACL, *mine), record)
    assert kept == ((b"user.a", b"1"), (STORED_NAME, pack(record)))
    theirs = ((b"security.capability", b"of here"), *mine)
    assert restored_xattrs(theirs, record) == tuple(sorted([CAPABILITY, ACL, *mine]))


def test_records_are_in_scope_only_where_they_are_asked_for() -> None:
    assert not Scope(("user",)).keeps(STORED_NAME)
    assert Scope(("user",)).plus("stored").keeps(STORED_NAME)
    assert not Scope(("user",)).plus("stored").keeps(b"user.netsync.other")
