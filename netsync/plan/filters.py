"""Which paths take part: ``--exclude`` and ``--include`` in gitignore syntax.

Rules are tried in the order of the command line and the first that matches decides. Both ends
evaluate the same rules: the source to choose what it lists, the target to protect what was
excluded from being deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pathspec.patterns.gitignore.basic import GitIgnoreBasicPattern

from netsync.errors import UsageError
from netsync.model import Rule
from netsync.names import as_text


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
            if pattern.match(text):
                return exclude
        return False


def _compile(text: str) -> re.Pattern[str]:
    """Compile one pattern; what ``!`` does in a file, ``--include`` does here."""
    try:
        pattern = GitIgnoreBasicPattern(text)
    except ValueError as error:
        raise UsageError(str(error), op="read pattern", where=text) from error
    if pattern.regex is None or not pattern.include:
        raise UsageError(
            "it selects nothing by itself",
            op="read pattern",
            where=text,
            hint="use --include to keep, and a backslash before a leading # or !",
        )
    return re.compile(pattern.regex.pattern, re.DOTALL)  # names may contain newlines
