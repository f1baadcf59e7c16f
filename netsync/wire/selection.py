"""Long options in parts: rules and paths that do not fit the message that opens a transfer.

A list of a hundred thousand names, or a long pattern file, follows ``Open`` in as many
``Selection`` messages as it takes; ``Open`` says how many. What they may add up to is bounded
by the receiver.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from netsync.errors import ProtocolError
from netsync.model import PATHS_MAX, RULES_MAX, Move, Options, Path, Rule
from netsync.wire.batches import batches
from netsync.wire.messages import Selection

SELECTED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of patterns and paths of one transfer."""
_OPEN_BYTES: Final = 32 * 1024
"""Estimated bytes of rules and paths up to which they stay in ``Open``: half its limit."""
_MOVES_BYTES: Final = 16 * 1024
"""Bytes of moves in ``Open``, a quarter of its limit. Those beyond are left out: they are hints."""
_PART_RULES: Final = 4096
_PART_PATHS: Final = 16384
_EACH_BYTES: Final = 8
"""Bytes of a rule or path on the wire beside its text."""


def split(options: Options) -> tuple[Options, list[Selection]]:
    """Return the options to open with, and what must follow.

    Of the moves they have the first, as many as fit. Raises ``ValueError`` for more than a peer
    takes.
    """
    options = msgspec.structs.replace(options, moves=_moves_that_fit(options.moves))
    size = selected_bytes(options)
    if size > SELECTED_BYTES_MAX:
        raise ValueError(f"patterns and names of more than {SELECTED_BYTES_MAX >> 20} MiB")
    if size + _EACH_BYTES * (len(options.rules) + len(options.paths or ())) <= _OPEN_BYTES:
        return options, []
    short = msgspec.structs.replace(options, rules=(), paths=None if options.paths is None else ())
    return short, list(_parts(options))


def _moves_that_fit(moves: Sequence[Move]) -> tuple[Move, ...]:
    sizes = itertools.accumulate(len(move.old) + len(move.new) + 2 * _EACH_BYTES for move in moves)
    return tuple(move for move, size in zip(moves, sizes, strict=True) if size <= _MOVES_BYTES)


def _parts(options: Options) -> Iterator[Selection]:
    for rules in batches(options.rules, _rule_bytes, _PART_RULES):
        yield Selection(rules=rules)
    for paths in batches(options.paths or (), _path_bytes, _PART_PATHS):
        yield Selection(paths=paths)


def _rule_bytes(rule: Rule) -> int:
    return len(rule.pattern) + _EACH_BYTES


def _path_bytes(path: bytes) -> int:
    return len(path) + _EACH_BYTES


def selected_bytes(options: Options) -> int:
    """Return the bytes of all patterns and paths."""
    patterns = sum(len(rule.pattern) for rule in options.rules)
    return patterns + sum(map(len, options.paths or ()))


class Gathering:
    """Options while their parts arrive."""

    def __init__(self, opened: Options) -> None:
        self._opened = opened
        self._rules = list(opened.rules)
        self._paths: list[Path] = list(opened.paths or ())
        self._bytes = selected_bytes(opened)

    def add(self, part: Selection) -> None:
        """Take one part. Raises ``ProtocolError`` when it is too much."""
        self._rules += part.rules
        self._paths += part.paths
        self._bytes += sum(len(rule.pattern) for rule in part.rules) + sum(map(len, part.paths))
        if part.paths and self._opened.paths is None:
            raise ProtocolError("paths for a listing that is not restricted", op="receive")
        if (
            self._bytes > SELECTED_BYTES_MAX
            or len(self._rules) > RULES_MAX
            or len(self._paths) > PATHS_MAX
        ):
            raise ProtocolError("too many patterns or paths for one transfer", op="receive")

    @property
    def options(self) -> Options:
        """The whole of what was asked for."""
        paths = None if self._opened.paths is None else tuple(self._paths)
        return msgspec.structs.replace(self._opened, rules=tuple(self._rules), paths=paths)
