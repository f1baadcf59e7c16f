"""Who writes into a synchronous mirror, and the links to its standbys.

For programs: ``mirror``, ``Mirror``, ``BlockingMirror``, ``Indeterminate``, looked up when they are
asked for, since the rest of the folder does not need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netsync.mirror.api import Indeterminate, mirror
    from netsync.mirror.blocking import BlockingMirror
    from netsync.mirror.writer import Mirror

__all__ = ["BlockingMirror", "Indeterminate", "Mirror", "mirror"]


def __getattr__(name: str) -> object:
    """Return what programs use."""
    if name in __all__:
        from netsync.mirror import api  # noqa: PLC0415 - it imports what this package holds

        return getattr(api, name)
    raise AttributeError(name)
