"""What to do about one entry: the source's word against what the target has.

Pure: values in, a verdict out. The caller has mapped owners to local ids, has hashed the
target's file where ``--checksum`` needs it, and acts on the verdict.
"""

from __future__ import annotations

import enum
import stat
from typing import Final, NamedTuple

from msgspec import Struct

from netsync.model import DEVICES, Entry, Kind, Options
from netsync.plan.asked import Asked
from netsync.plan.xattrs import TRUSTED, Scope, scope_for

_SET_ID_AND_STICKY: Final = 0o7000
_SET_ID: Final = 0o6000
_ALL_BITS: Final = 0o7777


class Verdict(enum.Enum):
    """What the target must do for one entry."""

    CREATE = "create"
    REPLACE = "replace"  # something of another kind is in the way
    CONTENT = "content"  # size, time, digest, link text or device number differ
    METADATA = "metadata"
    SAME = "same"
    SKIP = "skip"  # an option says to leave it


class Capability(NamedTuple):
    """What the operating system lets a target's process do to files.

    ``groups`` are those it belongs to, ``uid`` the user it acts as; ``trusted`` says whether it
    sees and sets the attributes that are for administrators alone.
    """

    privileged: bool
    groups: frozenset[int]
    umask: int
    uid: int
    trusted: bool


class Policy(Struct, frozen=True):
    """The options of a transfer, narrowed to what this target can and may keep.

    ``owner`` and ``devices`` are off on an unprivileged target; ``groups`` are the ones it may
    give away (None: any); ``mode_mask`` takes the bits away that a module forbids; ``umask``
    applies to what is created while permissions are not kept. ``uid`` is the user it acts as,
    ``xattrs`` are the extended attributes it may keep. ``stores`` says that what it may not set is
    kept in records. ``asked`` is what a source may list at all (None: anything).
    """

    options: Options
    owner: bool
    devices: bool
    groups: frozenset[int] | None
    mode_mask: int
    umask: int
    uid: int
    xattrs: Scope
    stores: bool = False
    asked: Asked | None = None

    def keeps_group(self, gid: int) -> bool:
        """Tell whether ``gid`` (local) is compared and set."""
        return self.options.keep.group and (self.groups is None or gid in self.groups)

    def mode(self, entry: Entry, owner: tuple[int, int]) -> int:
        """Return the mode of an entry whose local ``owner`` and group are these.

        Set-id bits go where the owner or group cannot be given: they would act for another.
        """
        if not self.options.keep.perms:
            return entry.mode & ~self.umask & ~_SET_ID_AND_STICKY
        mode = entry.mode & self.mode_mask
        if mode & stat.S_ISUID and self._cannot_give(owner[0]):
            mode &= ~stat.S_ISUID
        if mode & stat.S_ISGID and self.options.keep.group and not self.keeps_group(owner[1]):
            mode &= ~stat.S_ISGID
        return mode

    def _cannot_give(self, uid: int) -> bool:
        return self.options.keep.owner and not self.owner and uid != self.uid


def policy_for(options: Options, capability: Capability, *, special: bool) -> Policy:
    """Return the policy of a target that can do so much and may keep specials or not.

    ``special`` allows device nodes, set-user and set-group bits, and attributes that grant
    privileges (a module's setting).
    """
    privileged = capability.privileged
    xattrs = scope_for(options.keep, privileged=privileged, special=special)
    return Policy(
        options=options,
        owner=options.keep.owner and privileged,
        devices=options.keep.devices and privileged and special,
        groups=None if privileged else capability.groups,
        mode_mask=_ALL_BITS if special else _ALL_BITS & ~_SET_ID,
        umask=capability.umask,
        uid=capability.uid,
        xattrs=xattrs if capability.trusted else xattrs.without(TRUSTED),
        stores=options.store_metadata and not privileged,
    )


def decide(
    entry: Entry,
    present: Entry | None,
    policy: Policy,
    owner: tuple[int, int],
    *,
    xattrs_differ: bool = False,
) -> Verdict:
    """Compare ``entry`` with what is ``present``; ``owner`` is its local uid and gid.

    ``xattrs_differ`` is what the caller found of the extended attributes that are kept.
    """
    options = policy.options
    if present is None:
        return Verdict.SKIP if options.existing else Verdict.CREATE
    if entry.kind is not present.kind:
        return Verdict.SKIP if options.ignore_existing else Verdict.REPLACE
    if entry.kind is not Kind.DIRECTORY:
        if options.ignore_existing or (options.update and _is_newer(present, entry, options)):
            return Verdict.SKIP
        if _content_differs(entry, present, options):
            return Verdict.CONTENT
    if xattrs_differ or _metadata_differs(entry, present, policy, owner):
        return Verdict.METADATA
    return Verdict.SAME


def times_differ(entry: Entry, present: Entry, options: Options) -> bool:
    """Tell whether modification times differ by more than the window allows."""
    return abs(entry.mtime_ns - present.mtime_ns) > options.modify_window


def _is_newer(present: Entry, entry: Entry, options: Options) -> bool:
    """Tell whether the target's file is the newer one; links and devices have no say (rsync)."""
    if entry.kind is not Kind.FILE:
        return False
    return present.mtime_ns - entry.mtime_ns > options.modify_window


def _content_differs(entry: Entry, present: Entry, options: Options) -> bool:
    if entry.kind is Kind.FILE:
        if entry.size != present.size or options.ignore_times:
            return True
        if options.checksum:
            return entry.digest != present.digest
        return not options.size_only and times_differ(entry, present, options)
    if entry.kind in DEVICES:
        return entry.device != present.device
    return entry.target != present.target


def _metadata_differs(entry: Entry, present: Entry, policy: Policy, owner: tuple[int, int]) -> bool:
    keep = policy.options.keep
    is_link = entry.kind is Kind.SYMLINK
    return (
        (keep.perms and not is_link and policy.mode(entry, owner) != present.mode)
        or (keep.times and times_differ(entry, present, policy.options))
        or (policy.owner and owner[0] != present.uid)
        or (owner[1] != present.gid and policy.keeps_group(owner[1]))
    )
