"""What a target writes down because it may not set it: the record of an entry, with the option."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from netsync.model import DEVICES, SPECIALS, Entry, Kind, Name
from netsync.plan import acl
from netsync.plan.compare import Policy
from netsync.plan.stored import VERSION, Record, is_storable, narrowed
from netsync.plan.xattrs import Items
from netsync.tree.owners import NAMES_MAX, group_name, user_name

WITHOUT_RECORD: Final = SPECIALS | {Kind.SYMLINK}
"""Kinds that have no attributes for users."""
_SET_ID: Final = 0o6000


class Storing:
    """Makes the records of a target that ``policy`` lets store."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._told_users: dict[int, bytes] = {}
        self._told_groups: dict[int, bytes] = {}
        self._users: dict[int, bytes] = {}
        self._groups: dict[int, bytes] = {}
        self.active = policy.stores

    def learn(self, users: Iterable[Name], groups: Iterable[Name]) -> None:
        """Take names that the source told; past ``NAMES_MAX`` numbers stay without one."""
        if not self.active or self._policy.options.numeric_ids:
            return
        for names, told in ((users, self._told_users), (groups, self._told_groups)):
            for named in names:
                if len(told) < NAMES_MAX:
                    told[named.id] = named.name

    def storable(self, items: Items) -> Items:
        """Return those of an entry's attributes that its record holds, if it gets one."""
        if not self.active:
            return ()
        keep = self._policy.options.keep
        acls = keep.acls and keep.perms
        return tuple(
            (name, value) for name, value in items
            if is_storable(name) and (acls if name == acl.ACCESS else keep.xattrs)
        )  # fmt: skip

    def needed(self, entry: Entry, owner: tuple[int, int], items: Items) -> bool:
        """Tell whether this target may not set something of an entry."""
        if not self.active:
            return False
        policy, (uid, gid) = self._policy, owner
        keep = policy.options.keep
        return (
            entry.kind in DEVICES
            or (keep.owner and uid != policy.uid)
            or (keep.group and not policy.keeps_group(gid))
            or (keep.perms and bool(entry.mode & _SET_ID & ~policy.mode(entry, owner)))
            or any(name != acl.ACCESS for name, _ in items)
        )

    def record(self, entry: Entry, owner: tuple[int, int], items: Items) -> Record | None:
        """Return what is written down beside an entry; None if nothing need or can be."""
        if entry.kind in WITHOUT_RECORD or not self.needed(entry, owner, items):
            return None
        keep, (uid, gid) = self._policy.options.keep, owner
        user = group = b""
        if not self._policy.options.numeric_ids:
            user = self._name(uid, entry.uid, self._users, self._told_users)
            group = self._name(gid, entry.gid, self._groups, self._told_groups)
        return Record(
            VERSION,
            entry.kind,
            entry.mode if keep.perms else None,
            uid if keep.owner else None,
            gid if keep.group else None,
            user if keep.owner else b"",
            group if keep.group else b"",
            entry.device,
            items,
        )

    def _name(
        self, local: int, listed: int, known: dict[int, bytes], told: dict[int, bytes]
    ) -> bytes:
        """Return the name of ``local`` here; without one that of ``listed``, if they are one."""
        name = known.get(local)
        if name is None:
            if len(known) >= NAMES_MAX:
                known.clear()
            look_up = user_name if known is self._users else group_name
            known[local] = name = look_up(local) or b""
        return name or (told.get(listed, b"") if local == listed else b"")

    def narrowed(self, entry: Entry, record: Record | None) -> Entry:
        """Return ``entry`` with the mode that it gets beside its ``record``."""
        if record is None:
            return entry
        return msgspec.structs.replace(entry, mode=narrowed(entry.mode, record))
