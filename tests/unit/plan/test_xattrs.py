"""Which attributes take part, in what form they are compared, and what a peer may name."""

from __future__ import annotations

import pytest

from netsync.model import Keep, Xattr
from netsync.plan import acl
from netsync.plan.acl import AclEntry
from netsync.plan.xattrs import (
    SET_MAX,
    Scope,
    canonical,
    check,
    equal,
    localised,
    named_ids,
    namespace_of,
    scope_for,
    size_of,
    with_mode,
)
from tests.support.xattrs import acl_value

EVERYTHING = Scope(("user", "trusted", "security", "acl"))
A: Xattr = (b"user.a", b"1")
LABEL: Xattr = (b"security.selinux", b"label")


@pytest.mark.parametrize(
    ("name", "namespace"),
    [(b"user.a", "user"), (b"user..", "user"), (b"trusted.overlay.opaque", "trusted"),
     (b"security.capability", "security"), (acl.ACCESS, "acl"), (acl.DEFAULT, "acl"),
     (b"user.", None), (b"user", None), (b"", None), (b"system.nfs4_acl", None),
     (b"btrfs.compression", None), (b"user.netsync.x", None), (b"user.netsyncx", "user"),
     (b"USER.a", None)],
)  # fmt: skip
def test_the_namespace_decides_whether_an_attribute_takes_part(
    name: bytes, namespace: str | None
) -> None:
    assert namespace_of(name) == namespace
    assert EVERYTHING.keeps(name) is (namespace is not None)


@pytest.mark.parametrize(
    ("keep", "privileged", "special", "expected"),
    [(Keep(), True, True, "user trusted security acl"), (Keep(), False, True, "user acl"),
     (Keep(), True, False, "user acl"), (Keep(xattrs=False), True, True, "acl"),
     (Keep(acls=False), False, True, "user"), (Keep(perms=False), False, True, "user"),
     (Keep(xattrs=False, acls=False), True, True, "")],
)  # fmt: skip
def test_the_scope_is_what_is_kept_and_may_be_set(
    keep: Keep, privileged: bool, special: bool, expected: str
) -> None:
    scope = scope_for(keep, privileged=privileged, special=special)
    assert " ".join(scope.namespaces) == expected
    assert bool(scope) is bool(expected)


def test_a_scope_is_narrowed_to_what_the_other_end_has_too() -> None:
    assert EVERYTHING.within(["acl", "user", "future"]) == Scope(("user", "acl"))
    assert EVERYTHING.without("acl").namespaces == ("user", "trusted", "security")


@pytest.mark.parametrize(
    "items",
    [[(b"user.b", b""), (b"user.a", b"")], [A, A], [(b"user.netsync.a", b"")], [(b"x.y", b"")],
     [(b"user.a\0", b"")], [(b"user." + b"n" * 251, b"")]],
)  # fmt: skip
def test_names_a_peer_may_not_list_are_refused(items: list[Xattr]) -> None:
    with pytest.raises(ValueError, match="not allowed or out of order"):
        check(tuple(items))


def test_names_in_order_are_allowed() -> None:
    check(((acl.ACCESS, b""), (b"trusted.a", b""), A))


def test_a_set_too_large_is_refused() -> None:
    check(((b"user.a", b"v" * (SET_MAX - 22)),))
    with pytest.raises(ValueError, match="too large"):
        check(((b"user.a", b"v" * (SET_MAX - 21)),))


def test_an_access_acl_that_says_no_more_than_the_mode_is_none() -> None:
    minimal = acl.pack((AclEntry(1, 6, 0), AclEntry(4, 4, 0), AclEntry(32, 4, 0)))
    assert canonical([(acl.ACCESS, minimal), (acl.DEFAULT, minimal)]) == ((acl.DEFAULT, minimal),)


def test_the_order_of_named_entries_makes_no_difference() -> None:
    one, other = acl_value([(1, 7), (2, 5)]), acl_value([(2, 5), (1, 7)])
    assert canonical([(acl.ACCESS, one)]) == canonical([(acl.ACCESS, other)])


def test_acls_are_translated_and_other_values_are_not() -> None:
    value = acl_value([(1, 7)], [(2, 5)])
    local = localised([(acl.ACCESS, value), A], {1: 10}, {2: 20})
    assert local == ((acl.ACCESS, acl_value([(10, 7)], [(20, 5)])), A)
    assert named_ids(local) == ({10}, {20})


def test_labels_that_the_kernel_gives_are_not_to_be_removed_but_may_be_set() -> None:
    assert equal((LABEL, A), (A,))
    assert not equal((A,), (LABEL, A))
    assert not equal(((b"security.selinux", b"other"), A), (LABEL, A))
    assert not equal(((b"security.x", b""), A), (A,))


def test_a_changed_mode_goes_into_the_access_acl_alone() -> None:
    value = acl_value([(1, 7)], mode=0o777)
    items = ((acl.ACCESS, value), (acl.DEFAULT, value), A)
    changed = acl_value([(1, 7)], mode=0o640)
    assert with_mode(items, 0o640) == ((acl.ACCESS, changed), (acl.DEFAULT, value), A)


def test_the_size_counts_names_values_and_something_for_each() -> None:
    assert size_of([A, A]) == 2 * (6 + 1 + 16)
