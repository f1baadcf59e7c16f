"""Which paths take part: patterns in gitignore syntax, from the command line and from the tree.

Rules are tried in the order of the command line and the first that matches decides; the lines of
one pattern file are a group at its place in that order, and in a group the last match decides.
After them come the ``.netsyncignore`` files of the source, deepest first, each a group whose
patterns are relative to its own directory. Both ends evaluate the same rules: the source to choose
what it lists, the target to protect what was excluded from being deleted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from netsync.errors import UsageError
from netsync.model import Rule
from netsync.names import as_text

IGNORE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of patterns from the tree that one transfer remembers, on both ends."""
_RULE_BYTES: Final = 64
"""What a remembered rule costs beside its text."""
_COMPILED_MAX: Final = 64
"""Groups from the tree held compiled: those of a depth-first walk, and copies of the same file."""
_STAR: Final = "[^/]*"
"""What the library makes of ``*``."""
_INSIDE_COMPONENT: Final = re.compile(r"(?:\\.|\[(?:\\.|[^\]])*\]|[^/\\()|\[])*", re.DOTALL)
_DEEP_STARS_MAX: Final = 3
"""``**`` in one pattern: each multiplies the work for a path by its depth."""
_TRAILING_SPACES: Final = re.compile(r"(?<!\\) +\Z")

_Compiled = Sequence[tuple[bool, re.Pattern[str]]]
"""Whether it excludes, and what it matches; the first that matches decides."""


class Filter:
    """The rules of one transfer, compiled. Without ``rules_known`` nothing is left out so far."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = _compiled(tuple(rules))
        self.rules_known = bool(self._rules)
        self._learned: dict[bytes, tuple[Rule, ...]] = {}
        self._learned_bytes = 0
        self._compiled = functools.lru_cache(_COMPILED_MAX)(_compiled)
        self._chain_of: bytes | None = None
        self._chain: list[tuple[int, tuple[Rule, ...]]] = []

    def learn(self, directory: bytes, rules: Sequence[Rule]) -> None:
        """Take the rules of the ignore file in ``directory``.

        Raises ``UsageError`` for a pattern that cannot be used and when too much was learned.
        """
        self._learned_bytes += sum(len(rule.pattern) + _RULE_BYTES for rule in rules)
        if self._learned_bytes > IGNORE_BYTES_MAX:
            raise UsageError(
                f"the tree's ignore files hold more than {IGNORE_BYTES_MAX >> 20} MiB",
                op="read patterns in",
                where=directory or b".",
            )
        learned = tuple(rules)
        self._compiled(learned)
        self._learned[directory] = learned
        self.rules_known = True
        self._chain_of = None

    def concerns(self, directory: bytes) -> bool:
        """Tell whether an ignore file above or in ``directory`` has rules for what is in it."""
        return bool(self._learned) and any(base in self._learned for base in _ancestors(directory))

    def excludes(self, path: bytes, *, directory: bool) -> bool:
        """Tell whether the entry at ``path`` (relative to the transfer's root) is left out.

        What lies below an excluded directory is never asked for: it goes with the directory.
        """
        if not self.rules_known:
            return False
        text = as_text(path) + ("/" if directory else "")
        for exclude, pattern in self._rules:
            if pattern.fullmatch(text):
                return exclude
        if self._learned:
            for start, rules in self._chain_above(path):
                below = text[start:]  # a start given to the match would not be one for its "^"
                for exclude, pattern in self._compiled(rules):
                    if pattern.fullmatch(below):
                        return exclude
        return False

    def _chain_above(self, path: bytes) -> list[tuple[int, tuple[Rule, ...]]]:
        """Return the ignore files that concern ``path``, deepest first.

        With each comes where in the path's text the part begins that is relative to it.
        """
        parent = path.rpartition(b"/")[0]
        if parent != self._chain_of:
            bases = _ancestors(parent) if parent.count(b"/") < len(self._learned) else self._learned
            concerned = [base for base in bases if base in self._learned and _holds(base, parent)]
            concerned.sort(key=len, reverse=True)
            self._chain_of = parent
            self._chain = [
                (len(as_text(base)) + 1 if base else 0, self._learned[base]) for base in concerned
            ]
        return self._chain


def _ancestors(path: bytes) -> Iterator[bytes]:
    """Yield ``path`` and every directory above it, the root (empty) last."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b""


def _holds(base: bytes, directory: bytes) -> bool:
    return not base or directory == base or directory.startswith(base + b"/")


def _compiled(rules: tuple[Rule, ...]) -> _Compiled:
    """Compile rules in the order in which they are to be tried: groups from their end."""
    compiled: list[tuple[bool, re.Pattern[str]]] = []
    for group, members in groupby(rules, lambda rule: rule.group):
        patterns = [(rule.exclude, _compile(rule.pattern)) for rule in members]
        compiled += reversed(patterns) if group else patterns
    return compiled


def check_pattern(pattern: bytes) -> None:
    """Raise ``UsageError`` for a pattern that cannot be used."""
    _compile(pattern)


def _compile(pattern: bytes) -> re.Pattern[str]:
    """Compile one pattern; what ``!`` does in a file, ``--include`` does here."""
    from pathspec.patterns.gitignore.basic import (  # noqa: PLC0415 - 15 ms few runs need
        GitIgnoreBasicPattern,
    )

    text = _trimmed(as_text(pattern))
    try:
        parsed = GitIgnoreBasicPattern(text)
        if parsed.regex is None or not parsed.include or not text.strip("/"):
            raise UsageError(
                "it selects nothing by itself",
                op="read pattern",
                where=pattern,
                hint="use --include to keep, and a backslash before a leading # or !",
            )
        return re.compile(_linear(_of_entry(text, parsed.regex.pattern)), re.DOTALL)
    except (ValueError, re.error) as error:
        raise UsageError(str(error), op="read pattern", where=pattern) from error


def _trimmed(text: str) -> str:
    """Return ``text`` without trailing spaces, as git takes them off.

    The library takes off more (tabs, and all that Unicode calls a space) unless it is bracketed.
    """
    text = _TRAILING_SPACES.sub("", text)
    last = text[-1:]
    return f"{text[:-1]}[{last}]" if last.isspace() and last != " " else text


def _of_entry(text: str, regex: str) -> str:
    """Return the library's ``regex`` so that it fits an entry's whole path and no path below.

    The library means "or anything in it"; here a walk leaves out what is in a directory together
    with the directory, and a rule after this one may decide otherwise about what is in it.
    """
    if regex in (".", "/"):  # everything, or every directory
        return ".*" + regex
    for ending in ("(?:/|$)", "/?$"):
        if regex.endswith(ending):
            return regex.removesuffix(ending) + "/?"
    if text.endswith("/**"):
        return regex + ".+"
    return regex + ".+/" if text.endswith("/**/") else regex


def _linear(regex: str) -> str:
    """Return ``regex`` without the backtracking that many stars cause.

    A star that another star of the same component follows may take the first place where the
    text between them fits: if a later place leads to a match, so does the first. Only the last
    star of a component needs to try them all. Rules come from peers, and ``*a*a*a*a*b`` would
    otherwise take minutes for one long name.
    """
    first, *rest = regex.split(_STAR)
    if regex.count(".+") > _DEEP_STARS_MAX:
        raise ValueError(f"more than {_DEEP_STARS_MAX} double stars")
    built = [first]
    for index, between in enumerate(rest):
        ends_component = index == len(rest) - 1 or not _INSIDE_COMPONENT.fullmatch(between)
        built.append(_STAR + between if ends_component else f"(?>{_STAR}?{between})")
    return "".join(built)
