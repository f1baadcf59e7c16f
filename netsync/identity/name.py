"""The name in a certificate: how it is written, and how it is read back.

A certificate carries its name once, as the SAN entry ``netsync://NAME``. The common name repeats
it for human eyes and is never read: it has no defined syntax, and a CA that signs for other
purposes too may put anything there. Nothing here opens a file or knows a library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

SCHEME: Final = "netsync://"
"""Marks the one SAN URI that is an identity; URIs of other schemes are ignored."""

NAME_MAX: Final = 64
"""Characters in a name: the limit X.520 sets for the common name that repeats it."""

NAME_RULE: Final = f"1 to {NAME_MAX} letters, digits, dots, dashes and underscores"

_NAME: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_MAX}}}")


def is_name(name: str) -> bool:
    """Tell whether ``name`` may be the name of a certificate."""
    return _NAME.fullmatch(name) is not None


def uri_of(name: str) -> str:
    """Return the SAN URI that stands for ``name``."""
    return SCHEME + name


def name_in(uris: Iterable[str]) -> str | None:
    """Return the name in a certificate's SAN URIs; None unless exactly one, well formed."""
    ours = [uri[len(SCHEME) :] for uri in uris if uri.lower().startswith(SCHEME)]
    if len(ours) == 1 and is_name(ours[0]):
        return ours[0]
    return None
