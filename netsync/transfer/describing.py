"""What the source says of its entries beside their content: attributes, and modes as asked for.

Attributes are read only where the scan found names of some. Equal sets are told once in each
message: whole trees share a handful of ACLs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from netsync.errors import reason
from netsync.model import XATTRS_UNKNOWN, Entry, Kind, Name, Options, Problem
from netsync.plan.chmod import changed
from netsync.plan.stored import Record, restored_xattrs
from netsync.plan.xattrs import (
    SECURITY,
    SET_MAX,
    TRUSTED,
    Items,
    canonical,
    named_ids,
    scope_for,
    size_of,
    with_mode,
)
from netsync.transfer.restoring import Restoring
from netsync.tree.capability import sees_trusted
from netsync.tree.owners import IdNames, group_name, user_name
from netsync.tree.scan import root_entry
from netsync.tree.xattrs import Where, read_set
from netsync.wire.messages import Offer

NONE: Final[Items] = ()
KNOWN_MAX: Final = 64
"""Sets of attributes whose canonical form is remembered: 8 MiB at the very worst."""
NAMES_TOLD_MAX: Final = 256
"""Users, and groups, named with a root: with the longest names still far below the limit."""


class XattrTable:
    """The distinct sets of attributes of one message; ``users`` and ``groups`` their ACLs name."""

    def __init__(self) -> None:
        self.sets: list[Items] = []
        self.users: set[int] = set()
        self.groups: set[int] = set()
        self.size = 0
        self._numbers: dict[Items, int] = {}

    def told(self, entry: Entry, items: Items | None) -> Entry:
        """Return ``entry`` as it is listed with the attributes ``items`` (None: not known)."""
        if items is None:
            return replace(entry, xattrs=XATTRS_UNKNOWN)
        number = self._numbers.get(items)
        if number is None:
            self.sets.append(items)
            self._numbers[items] = number = len(self.sets)
            self.size += size_of(items)
            users, groups = named_ids(items)
            self.users |= users
            self.groups |= groups
        return replace(entry, xattrs=number)


class Describer:
    """Reads what ``options`` keep; trouble with attributes goes to ``trouble``."""

    def __init__(self, options: Options, trouble: Callable[[Problem], None]) -> None:
        scope = scope_for(options.keep, privileged=os.geteuid() == 0)
        self.scope = scope if sees_trusted() else scope.without(TRUSTED)
        self.restoring = Restoring(options, trouble) if options.store_metadata else None
        self._told_scope = self.scope
        if self.restoring is not None and options.keep.xattrs:
            self.scope = self.scope.plus(SECURITY)  # whoever sees a file may read these
            self._told_scope = self.scope.plus(TRUSTED)
        self._options = options
        self._trouble = trouble
        self._known: dict[Items, Items] = {}

    def offer(self, root: int | None, *, single_file: bool) -> Offer:
        """Return what is said first; ``root`` is a directory offered by its contents."""
        namespaces = list(self._told_scope.namespaces)
        if root is None:
            return Offer(single_file, None, namespaces)
        table = XattrTable()
        found = root_entry(root)
        record = (
            None if self.restoring is None else self.restoring.record(found, (root, b"."), b".")
        )
        entry = self.changed(self.as_stored(found, record))
        items = self.xattrs(root, b".", record=record) if self._told_scope else NONE
        if items != NONE:
            items = self.with_mode(items, entry)
            entry = table.told(entry, items)
        users, groups = {entry.uid} | table.users, {entry.gid} | table.groups
        return Offer(
            single_file, entry, namespaces, items or NONE,
            *self._names(users, groups),
        )  # fmt: skip

    def _names(self, users: set[int], groups: set[int]) -> tuple[list[Name], list[Name]]:
        """Return the names of a root's owners, as many as fit its message."""
        if self._options.numeric_ids:
            return [], []
        most = NAMES_TOLD_MAX
        return (
            IdNames(self.user_name).new(users)[:most],
            IdNames(self.group_name).new(groups)[:most],
        )

    def user_name(self, uid: int) -> bytes | None:
        """Return the name of a listed user: the one here, else the one that was stored."""
        return user_name(uid) or (self.restoring and self.restoring.users.get(uid)) or None

    def group_name(self, gid: int) -> bytes | None:
        """Return the name of a listed group."""
        return group_name(gid) or (self.restoring and self.restoring.groups.get(gid)) or None

    def as_stored(self, entry: Entry, record: Record | None) -> Entry:
        """Return ``entry`` as its ``record`` says, if it has one."""
        if record is None or self.restoring is None:
            return entry
        return self.restoring.restored(entry, record)

    def changed(self, entry: Entry) -> Entry:
        """Return ``entry`` with the mode that ``--chmod`` gives it."""
        rules = self._options.chmod
        if not rules or entry.kind is Kind.SYMLINK:
            return entry
        directory = entry.kind is Kind.DIRECTORY
        return replace(entry, mode=changed(entry.mode, rules, directory=directory))

    def with_mode(self, items: Items | None, entry: Entry) -> Items | None:
        """Return attributes whose ACL agrees with the mode that ``entry`` was given."""
        if not items or not self._options.chmod or entry.kind is Kind.SYMLINK:
            return items
        return with_mode(items, entry.mode)

    def xattrs(
        self, where: Where, path: bytes, told: bytes | None = None, record: Record | None = None
    ) -> Items | None:
        """Return an entry's attributes, or None where they cannot be read or sent.

        ``told`` are the names a scan found; ``record`` is believed. Raises
        ``FileNotFoundError`` if the entry is gone.
        """
        try:
            items = read_set(where, self.scope, told)
            if record is not None:
                items = self._told_scope.kept(restored_xattrs(items, record))
            items = self._canonical(items)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._trouble(Problem(path, "read the attributes of", reason(error)))
            return None
        except ValueError as error:
            self._trouble(Problem(path, "read the attributes of", f"its ACL is damaged: {error}"))
            return None
        if (size := size_of(items)) > SET_MAX:
            words = f"they take {size} bytes and at most {SET_MAX} can be sent: left as they are"
            self._trouble(Problem(path, "send the attributes of", words))
            return None
        return items

    def _canonical(self, items: Items) -> Items:
        """Return attributes in their canonical form; that of the few that recur is remembered."""
        known = self._known.get(items)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[items] = known = canonical(items)
        return known
