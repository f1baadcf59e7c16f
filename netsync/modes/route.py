"""From where to where a watch goes, and what cannot be watched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from netsync.errors import UsageError
from netsync.model import Options
from netsync.modes.address import Remote, parse_address
from netsync.names import contains, shown
from netsync.plan.schedule import Schedule
from netsync.tree.roots import local_path, means_contents
from netsync.wire.messages import Place

COMPARED_DAILY: Final = Schedule(every=86400.0)
"""How often a watch compares the whole by default: what nobody told of is found."""


def check_watched(sources: Sequence[str], target: str) -> None:
    """Raise ``UsageError`` unless a watch can go from ``sources`` to ``target``."""
    if len(sources) != 1:
        raise UsageError("a watch has one source", op="watch", hint="give each a watch of its own")
    route_of(sources[0], target)


def check_watch(options: Options) -> None:
    """Raise ``UsageError`` for options that a watch cannot keep its word with."""
    if options.copy_links:
        words = "--copy-links cannot be watched: nobody tells what changes behind links"
        raise UsageError(words, op="watch", hint="push or pull on a schedule")
    if options.paths is not None:
        raise UsageError("--files-from names what to send, a watch finds it", op="watch")
    if options.dry_run:
        raise UsageError("--dry-run has no end here", op="watch", hint="push -n shows what differs")


@dataclass(frozen=True)
class Route:
    """From where to where a watch goes: the contents of ``source`` are those of ``target``."""

    source: bytes
    target: Remote | bytes


def route_of(source: str, target: str) -> Route:
    """Return the route for addresses as a user writes them. Raises ``UsageError``.

    A source without a slash at its end is created under the target by its own name, as ever.
    """
    path, there = parse_address(source), parse_address(target)
    if isinstance(path, Remote):
        raise UsageError("the source is remote", op="watch", hint="run the watch where it is")
    if isinstance(there, bytes) and contains(local_path(path), local_path(there)):
        words = f"the source {shown(path)} is or contains the destination"
        raise UsageError(words, op="watch", where=there)
    if means_contents(path):
        return Route(path, there)
    name = os.path.basename(path)
    if isinstance(there, Remote):
        place = Place(there.place.module, os.path.join(there.place.path, name))
        there = Remote(there.host, there.port, place)
    else:
        there = os.path.join(there, name)
    return Route(path + b"/", there)
