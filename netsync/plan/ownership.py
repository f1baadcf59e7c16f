"""``--usermap``, ``--groupmap`` and ``--chown``: who the source's owners become at the target.

The syntax is rsync's: ``FROM:TO`` parts divided by commas, tried in order, the first that matches
decides. FROM is a name at the source, which may hold ``*``, ``?`` and ``[...]``, or a number, or
a range of numbers. An owner without a name has an empty one: ``*`` and an empty FROM match it.
TO is a name or number at the target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from netsync.model import IdRule

NAME_MAX: Final = 255
ID_MAX: Final = 2**32 - 2
"""The largest number of an owner; the next one means none to the kernel."""
RULES_MAX: Final = 1024

_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")


def parse_map(text: str) -> tuple[IdRule, ...]:
    """Return the rules in ``text``. Raises ``ValueError`` with what is wrong."""
    rules = tuple(_rule(part) for part in text.split(","))
    if len(rules) > RULES_MAX:
        raise ValueError(f"more than {RULES_MAX} parts")
    return rules


def parse_chown(text: str) -> tuple[tuple[IdRule, ...], tuple[IdRule, ...]]:
    """Return the rules for users and for groups of ``USER:GROUP``, either of which may be empty.

    Raises ``ValueError``.
    """
    user, _, group = text.partition(":")
    if not user and not group:
        raise ValueError("give USER, USER:GROUP or :GROUP")
    return _all_to(user), _all_to(group)


def _all_to(name: str) -> tuple[IdRule, ...]:
    return (IdRule(b"*", _target(name)),) if name else ()


def _rule(part: str) -> IdRule:
    source, colon, target = part.rpartition(":")
    if not colon:
        raise ValueError(f"{part!r} is not FROM:TO")
    numbers = _RANGE.fullmatch(source)
    if numbers is None:
        return IdRule(_name(source), _target(target))
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if not first <= last <= ID_MAX:
        raise ValueError(f"{source!r} is no range of numbers")
    return IdRule(b"", _target(target), first, last)


def _target(name: str) -> bytes:
    if not name:
        raise ValueError("a name or number after the colon is missing")
    if name.isdecimal() and int(name) > ID_MAX:
        raise ValueError(f"{name} is too large a number")
    return _name(name)


def _name(text: str) -> bytes:
    name = text.encode("utf-8", "surrogateescape")
    if len(name) > NAME_MAX or b"\0" in name:
        raise ValueError("a name is too long")
    return name


def matching(rules: Sequence[IdRule], number: int, name: bytes) -> int | None:
    """Return the place of the first rule for an owner, whose ``name`` may be empty, or None."""
    for place, rule in enumerate(rules):
        if rule.first is None:
            if fnmatchcase(name, rule.name):
                return place
        elif rule.first <= number <= (rule.first if rule.last is None else rule.last):
            return place
    return None
