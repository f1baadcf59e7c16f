"""Names as netsync checks and shows them.

Paths and names are bytes everywhere inside; they become text only at the edges (terminal,
log, JSON) and only through the functions here. A name that came from a peer is one path
component and is checked here before anything touches a file system with it.
"""

from __future__ import annotations

import re
from bisect import bisect_left as _place
from collections.abc import Sequence
from typing import Final

RESERVED_PREFIX: Final = b".netsync"
"""Names netsync keeps for itself: stages, temporaries, per-directory ignore files excepted."""

_PAST: Final = RESERVED_PREFIX[:-1] + bytes([RESERVED_PREFIX[-1] + 1])
"""What sorts behind all names under the reserved prefix."""

IGNORE_FILE: Final = b".netsyncignore"
"""The one name under the reserved prefix that users own and netsync copies."""

NAME_MAX: Final = 255
"""Bytes in one component: the limit of every Linux file system."""

_COMPONENT: Final = re.compile(rb"(?!\.{1,2}\Z)[^/\0]{1,%d}" % NAME_MAX, re.DOTALL)
_NEVER: Final = frozenset({b"", b".", b".."})


def is_reserved(name: bytes) -> bool:
    """Tell whether ``name`` belongs to netsync's own stages and temporaries."""
    return name.startswith(RESERVED_PREFIX) and name != IGNORE_FILE


def is_session_work(path: bytes) -> bool:
    """Tell whether a session left it, in a stage or as a temporary: it is nobody's content."""
    return any(map(is_reserved, path.split(b"/")))


def is_component(name: bytes) -> bool:
    """Tell whether ``name`` may stand as one path component offered by a peer."""
    return _COMPONENT.fullmatch(name) is not None and not is_reserved(name)


def are_components(names: Sequence[bytes]) -> bool:
    """Tell whether each of ``names``, which are sorted, may stand as a component.

    It is ``is_component`` of them all, for the tenth part of the time.
    """
    text = b"".join(names)
    return not (
        b"/" in text
        or b"\0" in text
        or max(map(len, names), default=0) > NAME_MAX
        or not _NEVER.isdisjoint(names)
        or any(map(is_reserved, names[_place(names, RESERVED_PREFIX) : _place(names, _PAST)]))
    )


def is_inside(path: bytes) -> bool:
    """Tell whether ``path`` is relative, leads down only, and holds no reserved name."""
    return all(map(is_component, path.split(b"/")))


def join(directory: bytes, name: bytes) -> bytes:
    """Join a relative directory path (empty for the root) and one component."""
    return directory + b"/" + name if directory else name


def contains(outer: bytes, inner: bytes) -> bool:
    """Tell whether the path ``outer`` equals ``inner`` or contains it; both are resolved."""
    outer, inner = outer.rstrip(b"/"), inner.rstrip(b"/")
    return inner == outer or inner.startswith(outer + b"/")


def shown(name: bytes) -> str:
    r"""Return ``name`` for a terminal or a log: control and undecodable bytes as ``\ooo``."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_shown_character(character) for character in text)


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    raw = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\{byte:03o}" for byte in raw)


def one_line(text: str, most: int) -> str:
    r"""Return a peer's or a program's ``text`` for a terminal or a log: one line, not too long.

    Control characters become ``\ooo``; of more than ``most`` characters the beginning is left.
    """
    if not text.isprintable():
        text = "".join(each if each.isprintable() else _shown_character(each) for each in text)
    return text if len(text) <= most else text[:most] + "…"


def as_text(name: bytes) -> str:
    """Return ``name`` for JSON: UTF-8, other bytes as surrogate escapes."""
    return name.decode("utf-8", "surrogateescape")
