"""What a server does before it serves: it finishes runs that were committed and cut short.

A run that is published at once leaves a journal where it writes. It is looked for in the modules'
own directories, and where the state directory says that a run had committed. What cannot be
finished now is told, and left: the next run there says what to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from netsync.errors import NetsyncError, StateError
from netsync.names import contains, shown
from netsync.state.pending import PendingPlace, pending_places
from netsync.tree.directories import OPEN_DIRECTORY, Directories
from netsync.tree.publication import recover

log = logging.getLogger("netsync")


def recover_all(modules: Iterable[Path], state: Path) -> None:
    """Finish what runs to ``modules``, or to other places that ``state`` knows, have committed.

    Blocks; raises nothing.
    """
    roots = [os.path.normpath(os.fsencode(module)) for module in modules]
    try:
        places = pending_places(state)
    except StateError as error:
        log.warning("%s: --atomic runs below the modules that were cut short are not known", error)
        places = []
    for place in dict.fromkeys([*roots, *places]):
        try:
            records = _recover_one(place, roots)
        except FileNotFoundError:  # not mounted, perhaps: it stays noted
            continue
        except (OSError, NetsyncError) as error:
            log.error("%s: a run that was cut short waits: %s", shown(place), error)  # noqa: TRY400
            continue
        if records:
            log.info("%s: finished a run that was cut short, %d changes", shown(place), records)
        if place in places:
            PendingPlace(state, place).forget()


def _recover_one(place: bytes, roots: list[bytes]) -> int:
    """Finish what is at ``place``; of its path only what the operator gave may be links."""
    root = max((each for each in roots if contains(each, place)), key=len, default=b"/")
    fd = os.open(root, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
    try:
        with Directories(fd) as directories:
            recovered = recover(directories.fd(place[len(root) :].strip(b"/")))
    finally:
        os.close(fd)
    for path, refusals in recovered.refused:
        for refusal in refusals:
            log.warning("%s %s: %s", refusal.op, shown(path), refusal.error)
    return recovered.records
