"""``--chmod``: how modes change on their way, in rsync's and chmod's notation.

Parts are divided by commas and applied in order. A part is octal, or letters of ``ugoa``, then
one or more times ``+``, ``-`` or ``=`` with letters of ``rwxXst``. ``D`` in front is for
directories only, ``F`` for all else. Without ``ugoa`` the umask of whoever asks is spared. ``X``
is execute for directories and for what somebody could execute before. An octal part sets all
twelve bits; ``=`` leaves set-id bits alone unless it names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from netsync.model import ModeRule

ALL_BITS: Final = 0o7777
RULES_MAX: Final = 256

_PART: Final = re.compile(
    r"(?P<kind>[DF]?)(?:(?P<octal>[0-7]{1,4})|(?P<who>[ugoa]*)(?P<actions>(?:[-+=][rwxXst]*)+))"
)
_ACTION: Final = re.compile(r"([-+=])([rwxXst]*)")
_COPIES: Final = re.compile(r"[DF]?[ugoa]*[-+=][ugo]")
_WHO: Final = {"u": 0o100, "g": 0o010, "o": 0o001, "a": 0o111}
_SET_ID: Final = {"u": 0o4000, "g": 0o2000, "o": 0, "a": 0o6000}
_BITS: Final = {"r": 4, "w": 2, "x": 1, "X": 1, "s": 0, "t": 0}
_EXECUTE: Final = 0o111
_STICKY: Final = 0o1000


def parse_chmod(text: str, umask: int) -> tuple[ModeRule, ...]:
    """Return the changes that ``text`` asks for. Raises ``ValueError`` with what is wrong."""
    rules = tuple(rule for part in text.split(",") for rule in _rules(part, umask))
    if len(rules) > RULES_MAX:
        raise ValueError(f"more than {RULES_MAX} changes")
    return rules


def _rules(part: str, umask: int) -> Iterator[ModeRule]:
    match = _PART.fullmatch(part)
    if match is None:
        if _COPIES.fullmatch(part):
            raise ValueError(f"{part!r} copies permissions, which is not supported")
        raise ValueError(f"{part!r} is not like D755, Fgo-w or +X")
    directories, files = match["kind"] != "F", match["kind"] != "D"
    if match["octal"]:
        yield ModeRule(directories, files, 0, int(match["octal"], 8))
        return
    for operator, letters in _ACTION.findall(match["actions"]):
        keep, add = _masks(match["who"], operator, letters, umask)
        yield ModeRule(directories, files, keep, add, "X" in letters)


def _masks(who: str, operator: str, letters: str, umask: int) -> tuple[int, int]:
    """Return the bits that one action leaves, and those that it adds."""
    where = _union(_WHO[each] for each in who or "a")
    bits = where * _union(_BITS[each] for each in letters)
    if not who:
        bits &= ~umask
    set_id = _union(_SET_ID[each] for each in who or "a") if "s" in letters else 0
    bits |= set_id | (_STICKY if "t" in letters else 0)
    if operator == "+":
        return ALL_BITS, bits
    if operator == "-":
        return ALL_BITS & ~bits, 0
    return ALL_BITS & ~(where * 7) & ~set_id, bits


def _union(bits: Iterable[int]) -> int:
    union = 0
    for each in bits:
        union |= each
    return union


def changed(mode: int, rules: Iterable[ModeRule], *, directory: bool) -> int:
    """Return ``mode`` after the changes that are for a directory, or for anything else."""
    executable = directory or mode & _EXECUTE
    for rule in rules:
        if rule.directories if directory else rule.files:
            spared = _EXECUTE if rule.only_executable and not executable else 0
            mode = mode & rule.keep | rule.add & ~spared
    return mode
