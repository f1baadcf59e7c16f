"""Pattern files: gitignore's lines as rules, for ``--exclude-from`` and ``.netsyncignore``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from netsync.model import Rule

PATTERN_MAX: Final = 4096
"""Bytes in one pattern."""
IGNORE_FILE_MAX: Final = 64 * 1024
"""Bytes in one ``.netsyncignore``: it travels with the listing of its directory."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def parse_patterns(content: bytes, group: int) -> Iterator[tuple[int, Rule]]:
    """Yield each pattern of a file as a rule of ``group``, with its line's number from 1.

    Blank lines and comments are passed over, ``!`` keeps. Whether a pattern can be used shows
    when it is compiled. Raises ``ValueError`` for a pattern that is too long.
    """
    for number, line in enumerate(content.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        text = line.removesuffix(b"\r")
        if not text.strip(b" ") or text.startswith(b"#"):
            continue
        if len(text) > PATTERN_MAX:
            raise ValueError(f"line {number} is longer than {PATTERN_MAX} bytes")
        excludes = not text.startswith(b"!")
        if not excludes:
            text = text[1:]
            if text.startswith((b"!", b"#")):
                text = b"\\" + text
        yield number, Rule(excludes, text, group)
