"""Numeric ids and names: what a source tells of its owners, and what a target makes of it.

Owners travel as numbers with each number's name told once. The target looks the name up in its
own database and falls back to the number; ``--numeric-ids`` never asks. Id 0 is 0 everywhere.
"""

from __future__ import annotations

import grp
import os
import pwd
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from netsync.errors import UsageError
from netsync.model import IdRule, Name
from netsync.plan.ownership import ID_MAX, matching

NAMES_MAX: Final = 65536
"""Names looked up for one peer: more than any directory service gives one tree."""

NOBODY: Final = 0xFFFFFFFF
"""No id: the kernel gives it to nobody."""
_PAIR: Final = struct.Struct("<II")


class IdNames:
    """At the source: the names of ids not told before."""

    def __init__(self, look_up: Callable[[int], bytes | None]) -> None:
        self._look_up = look_up
        self._told: set[int] = {0}

    def new(self, ids: Iterable[int]) -> list[Name]:
        """Return the names of those ``ids`` that have one and were not told yet."""
        fresh = set(ids) - self._told
        self._told |= fresh
        named = ((number, self._look_up(number)) for number in sorted(fresh))
        return [Name(number, name) for number, name in named if name]


class IdMap(dict[int, int]):
    """At the target: source ids to local ones; unknown ids stay as they are.

    What ``rules`` say comes first. ``zero`` is the local name of id 0, which no source tells.
    """

    def __init__(
        self,
        look_up: Callable[[bytes], int | None],
        rules: Sequence[IdRule] = (),
        zero: bytes = b"",
    ) -> None:
        super().__init__()
        self._asked = 0
        self._look_up = look_up
        self._rules = rules
        self._zero = zero
        self._targets: list[int] = []

    def resolve(self) -> None:
        """Find out the local ids that the rules name. Raises ``UsageError`` where there is none."""
        self._targets = [self._local(rule.target) for rule in self._rules]

    def _local(self, target: bytes) -> int:
        if target.isdigit() and int(target) <= ID_MAX:
            return int(target)
        local = self._look_up(target)
        if local is None:
            raise UsageError(
                "the target knows no such user or group", op="map owners to", where=target
            )
        return local

    def learn(self, names: Iterable[Name]) -> None:
        """Take what the source told; past ``NAMES_MAX`` numbers stay numbers."""
        for named in names:
            if self._asked >= NAMES_MAX:
                return
            self._asked += 1
            local = self._look_up(named.name)
            place = matching(self._rules, named.id, named.name)
            if place is not None:
                self[named.id] = self._targets[place]
            elif named.id != 0 and (local is not None or self._rules):
                self[named.id] = named.id if local is None else local  # it has a name, at least

    def inverse(self) -> bytes:
        """Return which source id each local one stands for, in the form of ``pack_directory``.

        A local id that stands for several, or for none because its number became another, is
        ``NOBODY``'s; one that is left out stands for itself.
        """
        back: dict[int, int] = {}
        for number, local in self.items():
            if local != 0:
                back[local] = NOBODY if local in back else number
        for number in self:
            back.setdefault(number, NOBODY)
        return b"".join(_PAIR.pack(*pair) for pair in sorted(back.items()) if pair[0] != pair[1])

    def __missing__(self, number: int) -> int:
        """Return what a number becomes whose name was not told."""
        if not self._rules:
            return number
        place = matching(self._rules, number, b"" if number else self._zero)
        return number if place is None else self._targets[place]


def user_name(uid: int) -> bytes | None:
    """Return the local name of ``uid``."""
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return None


def group_name(gid: int) -> bytes | None:
    """Return the local name of ``gid``."""
    try:
        return os.fsencode(grp.getgrgid(gid).gr_name)
    except KeyError:
        return None


def user_id(name: bytes) -> int | None:
    """Return the local uid of ``name``."""
    try:
        return pwd.getpwnam(os.fsdecode(name)).pw_uid
    except (KeyError, ValueError):
        return None


def group_id(name: bytes) -> int | None:
    """Return the local gid of ``name``."""
    try:
        return grp.getgrnam(os.fsdecode(name)).gr_gid
    except (KeyError, ValueError):
        return None
