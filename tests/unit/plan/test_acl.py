"""ACLs as bytes: what is taken, what is refused with words, and what translation makes of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.plan import acl
from netsync.plan.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Acl, AclEntry
from tests.support.xattrs import acl_value

unhurried = settings(deadline=None, derandomize=True)

MINIMAL = (AclEntry(USER_OBJ, 6, 0), AclEntry(GROUP_OBJ, 4, 0), AclEntry(OTHER, 0, 0))
FULL = acl.parse(acl_value([(3, 7), (1, 4)], [(9, 5)]))

bits = st.integers(0, 7)
numbers = st.integers(0, 2**32 - 2)


@st.composite
def acls(draw: st.DrawFn) -> Acl:
    """Draw any ACL that the kernel would take."""
    users = draw(st.dictionaries(numbers, bits, max_size=5))
    groups = draw(st.dictionaries(numbers, bits, max_size=5))
    masked = bool(users or groups) or draw(st.booleans())
    mask = [AclEntry(MASK, draw(bits), 0)] if masked else []
    return (
        AclEntry(USER_OBJ, draw(bits), 0),
        *(AclEntry(USER, each, number) for number, each in users.items()),
        AclEntry(GROUP_OBJ, draw(bits), 0),
        *(AclEntry(GROUP, each, number) for number, each in groups.items()),
        *mask,
        AclEntry(OTHER, draw(bits), 0),
    )


@unhurried
@given(acls())
def test_what_was_packed_is_parsed(value: Acl) -> None:
    assert acl.parse(acl.pack(value)) == value


@unhurried
@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: b"\2\0\0\0" + rest))
def test_any_bytes_are_an_acl_or_refused(value: bytes) -> None:
    try:
        parsed = acl.parse(value)
    except ValueError:
        return
    assert acl.pack(parsed)[:4] == value[:4]


@unhurried
@given(acls(), st.data())
def test_an_acl_cut_anywhere_is_refused_or_another_acl(value: Acl, data: st.DataObject) -> None:
    packed = acl.pack(value)
    with pytest.raises(ValueError, match=r"."):
        acl.parse(packed[: data.draw(st.integers(0, len(packed) - 1))])


@unhurried
@given(acls())
def test_the_canonical_form_is_one_and_says_the_same(value: Acl) -> None:
    once = acl.canonical(value)
    assert acl.canonical(once) == once
    assert set(once) == set(value)
    acl.parse(acl.pack(once))


@unhurried
@given(acls(), st.dictionaries(numbers, numbers))
def test_a_translation_is_an_acl_and_gives_nobody_more(value: Acl, moves: dict[int, int]) -> None:
    class Moved(dict[int, int]):
        def __missing__(self, number: int) -> int:
            return moves.get(number, number % 3)

    moved = Moved()
    translated = acl.translated(value, moved, moved)
    assert acl.parse(acl.pack(translated)) == translated
    assert acl.canonical(translated) == translated
    for entry in value:
        local = moved[entry.id] if entry.tag in (USER, GROUP) else 0
        (there,) = [each for each in translated if (each.tag, each.id) == (entry.tag, local)]
        assert there.permissions & ~entry.permissions == 0


@unhurried
@given(acls(), st.integers(0, 0o777))
def test_a_changed_mode_reads_back_from_the_acl(value: Acl, mode: int) -> None:
    changed = acl.with_mode(value, mode)
    said = {entry.tag: entry.permissions for entry in changed}
    group = said.get(MASK, said[GROUP_OBJ])
    assert said[USER_OBJ] << 6 | group << 3 | said[OTHER] == mode
    named = {entry for entry in value if entry.tag in (USER, GROUP)}
    assert named <= set(changed)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "length"),
        (b"\2\0\0", "length"),
        (b"\2\0\0\0\1", "length"),
        (b"\1\0\0\0" + acl.pack(MINIMAL)[4:], "version"),
        (b"\2\0\0\0", "missing"),
        (acl.pack(MINIMAL[:2]), "missing"),
        (acl.pack((*MINIMAL, MINIMAL[2])), "twice"),
        (acl.pack(MINIMAL[::-1]), "order"),
        (acl.pack((MINIMAL[0], AclEntry(USER, 7, 5), *MINIMAL[1:])), "no mask"),
        (acl.pack((MINIMAL[0]._replace(permissions=8), *MINIMAL[1:])), "unknown"),
        (acl.pack((MINIMAL[0], AclEntry(USER, 7, 2**32 - 1), *FULL[3:])), "no number"),
        (acl.pack((MINIMAL[0]._replace(tag=0x40), *MINIMAL[1:])), "unknown"),
    ],
)
def test_what_the_kernel_would_not_take_is_refused_with_words(value: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        acl.parse(value)


def test_named_ids_are_those_of_users_and_of_groups() -> None:
    assert acl.named_ids(FULL) == ({1, 3}, {9})


def test_only_the_three_of_a_mode_say_no_more_than_it() -> None:
    assert acl.says_no_more_than_a_mode(MINIMAL)
    assert not acl.says_no_more_than_a_mode(FULL)


def test_two_users_who_become_one_keep_what_both_had() -> None:
    moved = {3: 10, 1: 10}
    merged = acl.translated(FULL, moved, {9: 9})
    assert [entry for entry in merged if entry.tag == USER] == [AclEntry(USER, 7 & 4, 10)]


def test_setfacl_and_chmod_agree(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    os.setxattr(path, acl.ACCESS, acl.pack(acl.canonical(FULL)))
    path.chmod(0o615)
    after = acl.parse(os.getxattr(path, acl.ACCESS))
    assert after == acl.with_mode(acl.canonical(FULL), 0o615)
    shown = subprocess.run(["stat", "-c", "%a", path], capture_output=True, check=True)
    assert shown.stdout.strip() == b"615"
