"""What to set on an entry at the target: the source's word, in local ids, as far as it is kept."""

from __future__ import annotations

from typing import Final

from netsync.errors import ProtocolError
from netsync.model import DEVICES, SPECIALS, XATTRS_UNKNOWN, Entry, Kind, Problem, Xattr
from netsync.plan.compare import Policy
from netsync.plan.stored import Record, narrowed, with_record
from netsync.plan.xattrs import (
    ACL,
    NAMESPACES,
    STORED,
    USER,
    Items,
    Scope,
    WantedXattrs,
    check,
    localised,
    namespace_of,
)
from netsync.transfer.neighbours import Bare
from netsync.transfer.storing import WITHOUT_RECORD, Storing
from netsync.transfer.tally import Tally
from netsync.tree.owners import IdMap, group_id, group_name, user_id, user_name
from netsync.tree.place import Attributes
from netsync.tree.xattrs import supports
from netsync.wire.messages import List, Offer, XattrSet

_SHOWN: Final = {ACL: "ACLs"}
"""Namespaces in words, where ``NAME attributes`` would be none."""
_MADE_MAX: Final = 1024
"""Owners and modes, with each other, whose meaning here is remembered."""
_NO_RECORD: Final = (
    "owners and attributes of some links, FIFOs and sockets were not kept: nothing can be stored"
    " beside them"
)


class Attribution:
    """Maps owners by name and narrows metadata to what ``policy`` lets the target keep.

    ``root`` is the target's root: what its file system cannot hold is told once, in ``tally``,
    and then not compared.
    """

    def __init__(self, policy: Policy, root: int, tally: Tally) -> None:
        self._policy = policy
        self._root = root
        self._tally = tally
        options = policy.options
        self._users = IdMap(user_id, options.usermap, user_name(0) or b"")
        self._groups = IdMap(group_id, options.groupmap, group_name(0) or b"")
        self._drops_owner = policy.options.keep.owner and not policy.owner
        self._drops_group = policy.options.keep.group and policy.groups is not None
        self._storing = Storing(policy)
        self._scope = Scope()
        self._unsupported: set[str] = set()
        self._told: set[str] = set()
        self._nothing: WantedXattrs | None = None
        self._made: dict[tuple[int, int, int], Bare] = {}
        self.table: list[WantedXattrs] = []
        self.inverses = (b"", b"")
        """Which of the source's users and groups the local ones stand for."""

    def begin(self, offer: Offer) -> None:
        """Learn what the source sees of attributes; refer to those of its root from now on.

        Raises ``UsageError`` where an owner that others are mapped to does not exist here.
        """
        self._users.resolve()
        self._groups.resolve()
        scope = self._policy.xattrs.within(offer.namespaces)
        for namespace in scope.namespaces:
            if not supports(self._root, namespace):
                self._unsupported.add(namespace)
                scope = scope.without(namespace)
        self._scope = self._with_records(scope)
        scope = self._scope
        self._nothing = WantedXattrs(scope) if scope else None
        self._users.learn(offer.users)
        self._groups.learn(offer.groups)
        self._storing.learn(offer.users, offer.groups)
        self.inverses = (self._users.inverse(), self._groups.inverse())
        self.table = [self._localised(offer.xattrs)] if offer.xattrs else []

    def learn(self, message: List) -> None:
        """Take the names of owners and the sets of attributes that came with a listing.

        An entry means the sets of the message it came with: ``table`` is put back for one that
        is compared later.
        """
        if message.users or message.groups:
            self._made.clear()
            self._users.learn(message.users)
            self._groups.learn(message.groups)
            self._storing.learn(message.users, message.groups)
            self.inverses = (self._users.inverse(), self._groups.inverse())
        self.table = [self._localised(items) for items in message.xattrs]

    def admit(self, entry: Entry) -> None:
        """Refuse an entry that refers to attributes which did not come with it."""
        if entry.xattrs and len(self.table) < entry.xattrs != XATTRS_UNKNOWN:
            raise ProtocolError("an entry refers to attributes that were not told", op="receive")

    def _with_records(self, scope: Scope) -> Scope:
        """Return ``scope`` with records, which a target that runs as root only removes."""
        if not self._policy.options.store_metadata:
            return scope
        if supports(self._root, USER):
            return scope.plus(STORED)
        if self._storing.active:
            self._storing.active = False
            words = "the target's file system has no user attributes: nothing can be stored"
            self._tally.problem(Problem(b".", "store metadata below", words))
        return scope

    def _localised(self, items: XattrSet) -> WantedXattrs:
        try:
            check(items)
            kept = localised(items, self._users, self._groups)
        except ValueError as error:
            raise ProtocolError(f"attributes are malformed: {error}", op="receive") from error
        self._tell_what_is_left_out(kept)
        storable = self._storing.storable(kept)
        return WantedXattrs(self._scope, self._scope.kept(kept), storable)

    def _tell_what_is_left_out(self, items: Items) -> None:
        """Say once for each namespace what this target cannot keep, and why."""
        found = {namespace_of(name) for name, _ in items}
        if found.issubset(self._scope.namespaces):
            return
        keep = self._policy.options.keep
        for namespace in NAMESPACES:
            asked_for = keep.acls and keep.perms if namespace == ACL else keep.xattrs
            if namespace not in found or namespace in self._told or not asked_for:
                continue
            what = _SHOWN.get(namespace, f"{namespace} attributes")
            if namespace in self._unsupported:
                self._told.add(namespace)
                words = f"the target's file system has no {what}: all were left out"
                self._tally.problem(Problem(b".", "set metadata below", words))
            elif namespace not in self._policy.xattrs.namespaces and not self._storing.active:
                self._told.add(namespace)
                self._tally.notice(
                    f"{what} were not kept: the target does not run as root or forbids them"
                )

    def cannot_keep(self, entry: Entry) -> bool:
        """Tell whether this target may not hold such an entry; say once what it leaves out."""
        if self._storing.active:
            self._tell_what_has_no_record(entry)
        elif self._drops_owner or self._drops_group:
            self._tell_owner(entry)
        if entry.kind is Kind.FILE or entry.kind is Kind.DIRECTORY:
            return False
        if entry.kind in DEVICES | SPECIALS and not self._policy.options.keep.devices:
            return True
        if entry.kind in DEVICES and not self._policy.devices and not self._storing.active:
            self._tally.notice(
                "device nodes were left out: the target does not run as root or forbids them"
            )
            return True
        return False

    def _tell_what_has_no_record(self, entry: Entry) -> None:
        if entry.kind in WITHOUT_RECORD and self._storing.needed(
            entry, self.owner(entry), self._stored_of(entry)
        ):
            self._tally.notice(_NO_RECORD)

    def _stored_of(self, entry: Entry) -> Items:
        known = entry.xattrs and entry.xattrs != XATTRS_UNKNOWN
        return self.table[entry.xattrs - 1].storable if known else ()

    def _record(self, entry: Entry) -> Record | None:
        """Return what is written down of an entry that was listed last.

        Where its attributes could not be read they stay as they are, and its record with them;
        only what a placeholder stands for is told all the same.
        """
        if not self._storing.active:
            return None
        if entry.xattrs == XATTRS_UNKNOWN and entry.kind not in DEVICES:
            return None
        return self._storing.record(entry, self.owner(entry), self._stored_of(entry))

    def here(self, entry: Entry) -> tuple[Entry, tuple[int, int]]:
        """Return ``entry`` with the mode that a record leaves it, and its local owner and group."""
        return self._storing.narrowed(entry, self._record(entry)), self.owner(entry)

    def _tell_owner(self, entry: Entry) -> None:
        uid, gid = self.owner(entry)
        if self._drops_owner and uid != self._policy.uid:
            self._drops_owner = False
            self._tally.notice("owners were not kept: the target does not run as root")
        if self._drops_group and not self._policy.keeps_group(gid):
            self._drops_group = False
            self._tally.notice("some groups were not kept: the target's user is not in them")

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Return the local user and group of a listed entry."""
        return self._users[entry.uid], self._groups[entry.gid]

    def xattrs(self, entry: Entry) -> WantedXattrs | None:
        """Return the attributes of an entry that was listed last; None leaves them as they are."""
        return self._xattrs(entry, self._record(entry))

    def _xattrs(self, entry: Entry, record: Record | None) -> WantedXattrs | None:
        unknown = entry.xattrs == XATTRS_UNKNOWN
        if record is not None:
            items = self.table[entry.xattrs - 1].items if entry.xattrs and not unknown else ()
            return WantedXattrs(self._scope, with_record(items, record))
        if not entry.xattrs:
            return self._nothing
        return None if unknown else self.table[entry.xattrs - 1]

    def kept(self, items: tuple[Xattr, ...]) -> WantedXattrs | None:
        """Return ``items``, read at the target, as what a file's replacement gets."""
        return WantedXattrs(self._scope, self._scope.kept(items)) if self._scope else None

    @property
    def scope(self) -> Scope:
        """The attributes that are compared."""
        return self._scope

    def of_bare(self, entry: Entry) -> Bare:
        """Return what to set on a new file that is to have no extended attributes, and has none.

        Not where records are made.
        """
        key = (entry.mode, entry.uid, entry.gid)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= _MADE_MAX:
                self._made.clear()
            what = self.of(entry)
            mode, uid, gid = (-1 if n is None else n for n in (what.mode, what.uid, what.gid))
            made = self._made[key] = (mode, uid, gid)
        return made

    def of(self, entry: Entry, present: Entry | None = None, *, new: bool = True) -> Attributes:
        """Return what to set on a ``new`` entry, or on one that replaces ``present``."""
        owner = uid, gid = self.owner(entry)
        keep = self._policy.options.keep
        mode = present.mode & self._policy.mode_mask if present is not None else None
        if keep.perms or (new and present is None):
            mode = self._policy.mode(entry, owner)
        record = self._record(entry)
        if record is not None and mode is not None:
            mode = narrowed(mode, record)
        return Attributes(
            mode,
            uid if self._policy.owner else None,
            gid if self._policy.keeps_group(gid) else None,
            entry.mtime_ns if keep.times else None,
            self._xattrs(entry, record),
            record is not None and record.kind in DEVICES,
        )
