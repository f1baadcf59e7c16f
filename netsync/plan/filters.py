"""Which paths take part: ``--exclude`` and ``--include`` in gitignore syntax.

Rules are tried in the order of the command line and the first that matches decides. Both ends
evaluate the same rules: the source to choose what it lists, the target to protect what was
excluded from being deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pathspec.patterns.gitignore.basic import GitIgnoreBasicPattern

from netsync.errors import UsageError
from netsync.model import Rule
from netsync.names import as_text

_STAR: Final = "[^/]*"
"""What the library makes of ``*``."""
_INSIDE_COMPONENT: Final = re.compile(r"(?:\\.|\[(?:\\.|[^\]])*\]|[^/\\()|\[])*", re.DOTALL)
_DEEP_STARS_MAX: Final = 3
"""``**`` in one pattern: each multiplies the work for a path by its depth."""


class Filter:
    """The rules of one transfer, compiled."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [(rule.exclude, _compile(rule.pattern)) for rule in rules]

    def excludes(self, path: bytes, *, directory: bool) -> bool:
        """Tell whether the entry at ``path`` (relative to the transfer's root) is left out.

        What lies below an excluded directory is never asked for: it goes with the directory.
        """
        if not self._rules:
            return False
        text = as_text(path) + ("/" if directory else "")
        for exclude, pattern in self._rules:
            if pattern.fullmatch(text):
                return exclude
        return False


def _compile(pattern: bytes) -> re.Pattern[str]:
    """Compile one pattern; what ``!`` does in a file, ``--include`` does here."""
    text = as_text(pattern)
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
