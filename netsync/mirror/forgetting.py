"""A mirror that is given up: its primary remembers nothing of it any more.

As long as something is remembered, a mirror that nobody runs is told as one that protects nothing.
The standby is not asked: what it has stays its copy, until it is promoted there.
"""

from __future__ import annotations

from pathlib import Path

from netsync.errors import UsageError
from netsync.names import shown
from netsync.state.activity import remove_activity
from netsync.state.live import PrimaryLive, read_live, remove_live
from netsync.state.primary_record import known_primaries, open_primary, primary_directory


def forget(state: Path, source: bytes) -> list[str]:
    """Forget the mirror of the directory ``source``; return its standbys' names. Blocks.

    Raises ``UsageError`` where none is known, ``StateError`` where one is at work.
    """
    known = sorted(record.source for record in known_primaries(state))
    if source not in known:
        names = ", ".join(map(shown, known)) or "none"
        raise UsageError("no mirror of it is known", op="forget", where=source,
                         hint=f"mirrored from this host are: {names}")  # fmt: skip
    directory = primary_directory(state, source)
    slots = open_primary(directory)
    try:
        live = read_live(directory, PrimaryLive)
        slots.clear()
        remove_live(directory)
        remove_activity(directory)
    finally:
        slots.close()
    return [each.name for each in live.standbys] if live else []
