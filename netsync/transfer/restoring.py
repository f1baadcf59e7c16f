"""What a source with ``--store-metadata`` reads of the records that an unprivileged target left.

Whom it believes is the rule of ``plan/stored.py``; a record of somebody else's is told of once
and then passed over, a damaged one of a believed user keeps its entry from being listed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from netsync.errors import UsageError
from netsync.model import Entry, Kind, Options, Problem
from netsync.plan.ownership import ID_MAX
from netsync.plan.stored import Record, is_believed, restored
from netsync.tree.owners import NAMES_MAX, group_id, group_name, user_id, user_name
from netsync.tree.stored import find_record, may_have_record, parsed

_NOT_BELIEVED: Final = (
    "it was written by another than the user who runs the source, or others may write to the"
    " entry: it was passed over, as all others like it"
)


class Restoring:
    """Reads records; ``trouble`` gets what is wrong. ``users`` and ``groups`` are names of
    numbers that have none here.

    Raises ``UsageError`` where the user whom the options vouch for does not exist.
    """

    def __init__(self, options: Options, trouble: Callable[[Problem], None]) -> None:
        self.users: dict[int, bytes] = {}
        self.groups: dict[int, bytes] = {}
        self._numeric = options.numeric_ids
        self._trouble = trouble
        self._told = False
        self._numbers: dict[tuple[bool, int | None, bytes], int | None] = {}
        self._believed = frozenset({os.geteuid(), *_vouched_for(options.stored_by)})

    def record(
        self, entry: Entry, place: tuple[int, bytes], path: bytes, told: bytes | None = None
    ) -> Record | None:
        """Return the record of an ``entry`` as the file system has it, if it is believed.

        ``place`` is its directory and its name there; ``told`` are the names of attributes that a
        scan found. Raises ``OSError``.
        """
        if entry.kind is not Kind.FILE and entry.kind is not Kind.DIRECTORY:
            return None
        if not may_have_record(told) or (found := find_record(*place)) is None:
            return None
        if is_believed(found.uid, found.mode, self._believed):
            return parsed(found.data, entry)
        if not self._told:
            self._told = True
            self._trouble(Problem(path, "believe the stored metadata of", _NOT_BELIEVED))
        return None

    def restored(self, entry: Entry, record: Record) -> Entry:
        """Return ``entry`` as ``record`` says, with its owners' numbers as they are here."""
        uid = self._number(record.uid, record.user, users=True)
        gid = self._number(record.gid, record.group, users=False)
        return restored(entry, record, (uid, gid))

    def _number(self, number: int | None, name: bytes, *, users: bool) -> int | None:
        """Return the number that a stored owner has here; note its name if it has none here."""
        if number is None or not name or self._numeric:
            return number
        key = (users, number, name)
        if key not in self._numbers:
            if len(self._numbers) >= NAMES_MAX:
                self._numbers.clear()
            self._numbers[key] = self._looked_up(number, name, users=users)
        return self._numbers[key]

    def _looked_up(self, number: int, name: bytes, *, users: bool) -> int:
        look_up, name_of = (user_id, user_name) if users else (group_id, group_name)
        local = look_up(name)
        if local is not None:
            return local
        names = self.users if users else self.groups
        if name_of(number) is None and len(names) < NAMES_MAX:
            names.setdefault(number, name)
        return number


def _vouched_for(user: bytes) -> tuple[int, ...]:
    if not user:
        return ()
    number = int(user) if user.isdigit() and len(user) <= len(str(ID_MAX)) else user_id(user)
    if number is None:
        raise UsageError("the source knows no such user", op="believe", where=user)
    return (number,)
