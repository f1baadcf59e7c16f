"""What to set on an entry at the target: the source's word, in local ids, as far as it is kept."""

from __future__ import annotations

from netsync.model import Entry
from netsync.plan.compare import Policy
from netsync.tree.owners import IdMap, group_id, user_id
from netsync.tree.place import Attributes
from netsync.wire.messages import List


class Attribution:
    """Maps owners by name and narrows metadata to what ``policy`` lets the target keep."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._users = IdMap(user_id)
        self._groups = IdMap(group_id)

    def learn(self, message: List) -> None:
        """Take the names of owners that came with a listing."""
        self._users.learn(message.users)
        self._groups.learn(message.groups)

    def owner(self, entry: Entry) -> tuple[int, int]:
        """Return the local user and group of a listed entry."""
        return self._users[entry.uid], self._groups[entry.gid]

    def of(self, entry: Entry, present: Entry | None = None, *, new: bool = True) -> Attributes:
        """Return what to set on a ``new`` entry, or on one that replaces ``present``."""
        uid, gid = self.owner(entry)
        keep = self._policy.options.keep
        mode = present.mode & self._policy.mode_mask if present is not None else None
        if keep.perms or (new and present is None):
            mode = self._policy.mode(entry)
        return Attributes(
            mode,
            uid if self._policy.owner else None,
            gid if self._policy.keeps_group(gid) else None,
            entry.mtime_ns if keep.times else None,
        )
