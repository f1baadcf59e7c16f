"""Content that got another name while it was owed, in steps that nothing connects.

A move is told as one. ``link`` and ``unlink``, or a move out of the tree and in again, are a name
that comes and one that goes. A transfer that finds the old name gone has sent nothing, and the new
one would be owed only since it came: a claim would be made for content that is nowhere yet. So what
came is owed as long as what went may have been, unless its file is younger than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netsync.modes.job import Site
from netsync.modes.observing import Observing
from netsync.modes.owing import Owing
from netsync.tree.birth import births
from netsync.tree.threads import in_thread
from netsync.tree.watched import WatchedDirectory

_ROUNDS: Final = 4
"""How often names are looked for again that were gone when they were looked at."""


async def date_back(
    owing: Owing, observing: Observing, directory: WatchedDirectory, since: float, site: Site
) -> None:
    """Let what came be owed ``since`` then, or since its file was made if that is later.

    To be called when all is heard that happened before the look that found names gone, and before
    what that look took is clean.
    """
    seen: set[bytes] = set()
    vanished: Sequence[bytes] = ()
    for _ in range(_ROUNDS):
        paths = [each.path for each in owing.dirty.came() if each.path not in seen]
        if not paths:
            return
        seen.update(paths)
        found = await in_thread(births, directory.root, paths)
        now, steady = site.now(), site.steady()
        for path, born in found.items():
            if born is not None:
                made = steady - (now - born) if born <= now else since  # else a clock was set back
                owing.dirty.date_back(path, max(since, made))
        vanished = [path for path, born in found.items() if born is None]
        if not vanished:
            return
        await observing.drain()  # where they went has come since
    for path in vanished:
        owing.dirty.date_back(path, since)
