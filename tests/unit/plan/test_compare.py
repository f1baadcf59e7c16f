"""Verdicts, one line a case, and the policy a target's options are narrowed to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from netsync.model import Entry, Keep, Kind, Options
from netsync.plan.compare import Capability, Policy, Verdict, decide, policy_for, times_differ

V = Verdict
ROOT = (0, 0)

FILE = Entry(b"n", Kind.FILE, 0o644, 0, 0, 100, 1000)
DIRECTORY = Entry(b"n", Kind.DIRECTORY, 0o755, 0, 0, 0, 1000)
LINK = Entry(b"n", Kind.SYMLINK, 0o777, 0, 0, 0, 1000, b"there")
FIFO = Entry(b"n", Kind.FIFO, 0o644, 0, 0, 0, 1000)
DEVICE = Entry(b"n", Kind.CHARACTER, 0o644, 0, 0, 0, 1000, b"", 0x103)


def but(entry: Entry, **changes: Any) -> Entry:
    return msgspec.structs.replace(entry, **changes)


def policy(*, privileged: bool = True, groups: tuple[int, ...] = (), special: bool = True,
           **options: Any) -> Policy:  # fmt: skip
    return policy_for(
        Options(**options),
        Capability(privileged, frozenset(groups), 0o022, 0 if privileged else 1000, privileged),
        special=special,
    )


PLAIN: dict[str, Any] = {}
CASES: list[tuple[str, Entry, Entry | None, dict[str, Any], Verdict]] = [
    ("nothing there", FILE, None, PLAIN, V.CREATE),
    ("nothing there, directory", DIRECTORY, None, PLAIN, V.CREATE),
    ("nothing there, --existing", FILE, None, {"existing": True}, V.SKIP),
    ("the same file", FILE, FILE, PLAIN, V.SAME),
    ("the same directory", DIRECTORY, DIRECTORY, PLAIN, V.SAME),
    ("the same link", LINK, LINK, PLAIN, V.SAME),
    ("the same fifo", FIFO, FIFO, PLAIN, V.SAME),
    ("the same device", DEVICE, DEVICE, PLAIN, V.SAME),
    ("another kind", FILE, LINK, PLAIN, V.REPLACE),
    ("a directory for a file", DIRECTORY, FILE, PLAIN, V.REPLACE),
    ("a file for a directory", FILE, DIRECTORY, PLAIN, V.REPLACE),
    ("a block for a character device", but(DEVICE, kind=Kind.BLOCK), DEVICE, PLAIN, V.REPLACE),
    ("another kind, --existing", FILE, LINK, {"existing": True}, V.REPLACE),
    ("another kind, --ignore-existing", FILE, LINK, {"ignore_existing": True}, V.SKIP),
    ("another kind, newer there, --update", FILE, but(LINK, mtime_ns=2000),
     {"update": True}, V.REPLACE),
    ("longer", but(FILE, size=101), FILE, PLAIN, V.CONTENT),
    ("longer, --size-only", but(FILE, size=101), FILE, {"size_only": True}, V.CONTENT),
    ("newer", but(FILE, mtime_ns=1001), FILE, PLAIN, V.CONTENT),
    ("older", but(FILE, mtime_ns=999), FILE, PLAIN, V.CONTENT),
    ("newer, --size-only", but(FILE, mtime_ns=1001), FILE, {"size_only": True}, V.METADATA),
    ("newer, --size-only, no times", but(FILE, mtime_ns=1001), FILE,
     {"size_only": True, "keep": Keep(times=False)}, V.SAME),
    ("newer, no times kept", but(FILE, mtime_ns=1001), FILE,
     {"keep": Keep(times=False)}, V.CONTENT),
    ("the same, --ignore-times", FILE, FILE, {"ignore_times": True}, V.CONTENT),
    ("at the window", but(FILE, mtime_ns=1010), FILE, {"modify_window": 10}, V.SAME),
    ("at the window, older", but(FILE, mtime_ns=990), FILE, {"modify_window": 10}, V.SAME),
    ("past the window", but(FILE, mtime_ns=1011), FILE, {"modify_window": 10}, V.CONTENT),
    ("equal digests", but(FILE, digest=b"a" * 32, mtime_ns=5), but(FILE, digest=b"a" * 32),
     {"checksum": True}, V.METADATA),
    ("other digests, same time", but(FILE, digest=b"a" * 32), but(FILE, digest=b"b" * 32),
     {"checksum": True}, V.CONTENT),
    ("any, --ignore-existing", but(FILE, size=1), FILE, {"ignore_existing": True}, V.SKIP),
    ("newer there, --update", FILE, but(FILE, mtime_ns=1001, size=1), {"update": True}, V.SKIP),
    ("older there, --update", FILE, but(FILE, mtime_ns=999), {"update": True}, V.CONTENT),
    ("as old there, other size, --update", FILE, but(FILE, size=1), {"update": True}, V.CONTENT),
    ("newer link there, --update", LINK, but(LINK, mtime_ns=1001, target=b"else"),
     {"update": True}, V.CONTENT),
    ("newer there within the window, --update", FILE, but(FILE, mtime_ns=1001, size=1),
     {"update": True, "modify_window": 1}, V.CONTENT),
    ("newer there beyond the window, --update", FILE, but(FILE, mtime_ns=1002),
     {"update": True, "modify_window": 1}, V.SKIP),
    ("newer directory there, --update", DIRECTORY, but(DIRECTORY, mtime_ns=1001),
     {"update": True}, V.METADATA),
    ("directory, --ignore-existing", DIRECTORY, but(DIRECTORY, mode=0o700),
     {"ignore_existing": True}, V.METADATA),
    ("another link text", but(LINK, target=b"elsewhere"), LINK, PLAIN, V.CONTENT),
    ("a link's mode", but(LINK, mode=0o755), LINK, PLAIN, V.SAME),
    ("a link's time", but(LINK, mtime_ns=1), LINK, PLAIN, V.METADATA),
    ("a link's owner", LINK, but(LINK, uid=7), PLAIN, V.METADATA),
    ("another device number", but(DEVICE, device=1), DEVICE, PLAIN, V.CONTENT),
    ("a fifo's time", but(FIFO, mtime_ns=1), FIFO, PLAIN, V.METADATA),
    ("mode", but(FILE, mode=0o600), FILE, PLAIN, V.METADATA),
    ("mode, no perms kept", but(FILE, mode=0o600), FILE, {"keep": Keep(perms=False)}, V.SAME),
    ("set-id bits", but(FILE, mode=0o4644), FILE, PLAIN, V.METADATA),
    ("owner there", FILE, but(FILE, uid=7), PLAIN, V.METADATA),
    ("group there", FILE, but(FILE, gid=7), PLAIN, V.METADATA),
    ("owner, none kept", FILE, but(FILE, uid=7), {"keep": Keep(owner=False)}, V.SAME),
    ("group, none kept", FILE, but(FILE, gid=7), {"keep": Keep(group=False)}, V.SAME),
    ("directory time", but(DIRECTORY, mtime_ns=1), DIRECTORY, PLAIN, V.METADATA),
    ("directory time, none kept", but(DIRECTORY, mtime_ns=1), DIRECTORY,
     {"keep": Keep(times=False)}, V.SAME),
    ("directory size says nothing", but(DIRECTORY, size=5), DIRECTORY, PLAIN, V.SAME),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "present", "options", "verdict"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_the_verdict(
    entry: Entry, present: Entry | None, options: dict[str, Any], verdict: Verdict
) -> None:
    assert decide(entry, present, policy(**options), ROOT) is verdict


def test_owners_are_compared_as_local_ids_not_as_listed_ones() -> None:
    listed, here = but(FILE, uid=1000, gid=1000), but(FILE, uid=5, gid=6)
    assert decide(listed, here, policy(), (5, 6)) is V.SAME
    assert decide(listed, here, policy(), (1000, 1000)) is V.METADATA


def test_unprivileged_the_owner_is_neither_compared_nor_set() -> None:
    ours = policy(privileged=False)
    assert not ours.owner
    assert decide(FILE, but(FILE, uid=1000), ours, ROOT) is V.SAME


def test_unprivileged_only_our_own_groups_are_compared_and_set() -> None:
    ours = policy(privileged=False, groups=(50,))
    assert ours.keeps_group(50)
    assert not ours.keeps_group(51)
    assert decide(FILE, but(FILE, gid=1), ours, (0, 50)) is V.METADATA
    assert decide(FILE, but(FILE, gid=1), ours, (0, 51)) is V.SAME


def test_privileged_any_group_is_kept_whatever_our_own_are() -> None:
    assert policy(groups=(50,)).keeps_group(12345)


@pytest.mark.parametrize(
    ("privileged", "special", "kept", "devices"),
    [(True, True, True, True), (False, True, True, False), (True, False, True, False),
     (True, True, False, False)],
)  # fmt: skip
def test_devices_need_privilege_the_modules_leave_and_the_option(
    privileged: bool, special: bool, kept: bool, devices: bool
) -> None:
    ours = policy(privileged=privileged, special=special, keep=Keep(devices=kept))
    assert ours.devices is devices


def test_a_module_without_special_strips_set_id_bits_but_not_the_sticky_one() -> None:
    strict = policy(special=False)
    assert strict.mode(but(FILE, mode=0o7755), ROOT) == 0o1755
    assert decide(but(FILE, mode=0o6644), FILE, strict, ROOT) is V.SAME
    assert decide(FILE, but(FILE, mode=0o4644), strict, ROOT) is V.METADATA


@pytest.mark.parametrize(
    ("owner", "mode"),
    [((1000, 50), 0o7755), ((0, 50), 0o3755), ((1000, 51), 0o5755), ((0, 51), 0o1755)],
)
def test_unprivileged_set_id_bits_go_where_their_owner_cannot_be_given(
    owner: tuple[int, int], mode: int
) -> None:
    ours = policy(privileged=False, groups=(50,))
    entry = but(FILE, mode=0o7755)
    assert ours.mode(entry, owner) == mode
    assert decide(entry, but(FILE, mode=mode, gid=50), ours, owner) is V.SAME


def test_set_id_bits_stay_where_owners_are_not_kept_by_wish() -> None:
    ours = policy(keep=Keep(owner=False, group=False))
    assert ours.mode(but(FILE, mode=0o6755), (1, 1)) == 0o6755


def test_other_attributes_alone_are_a_change_of_metadata() -> None:
    for entry in (FILE, DIRECTORY, LINK, FIFO):
        assert decide(entry, entry, policy(), ROOT, xattrs_differ=True) is V.METADATA
    newer = but(FILE, mtime_ns=1001)
    assert decide(newer, FILE, policy(), ROOT, xattrs_differ=True) is V.CONTENT


@pytest.mark.parametrize(
    ("privileged", "special", "namespaces"),
    [(True, True, "user trusted security acl"), (True, False, "user acl"),
     (False, True, "user acl")],
)  # fmt: skip
def test_attributes_that_grant_privileges_need_privilege_and_the_modules_leave(
    privileged: bool, special: bool, namespaces: str
) -> None:
    ours = policy(privileged=privileged, special=special)
    assert " ".join(ours.xattrs.namespaces) == namespaces


def test_root_of_a_container_has_no_trusted_attributes() -> None:
    contained = Capability(True, frozenset(), 0o022, 0, trusted=False)
    ours = policy_for(Options(), contained, special=True)
    assert ours.xattrs.namespaces == ("user", "security", "acl")


def test_without_perms_a_new_entry_gets_its_mode_less_umask_and_special_bits() -> None:
    assert policy(keep=Keep(perms=False)).mode(but(FILE, mode=0o7777), ROOT) == 0o755


def test_with_perms_a_new_entry_gets_its_mode_whatever_the_umask() -> None:
    assert policy().mode(but(FILE, mode=0o4777), ROOT) == 0o4777


def test_times_at_the_ends_of_their_range_are_compared() -> None:
    oldest, newest = but(FILE, mtime_ns=-(2**63)), but(FILE, mtime_ns=2**63 - 1)
    assert times_differ(oldest, newest, Options())
    assert not times_differ(oldest, oldest, Options())
