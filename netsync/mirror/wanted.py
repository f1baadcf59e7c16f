"""What a mirror is to be, as its user wants it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from netsync.modes.address import Remote
from netsync.modes.session import Connection
from netsync.names import shown
from netsync.oplog.log import LogPolicy


@dataclass(frozen=True)
class WantedMirror:
    """A mirror as its user wants it. ``epoch`` None means the one that is remembered, or 1.

    ``adopt`` replaces what a standby holds that this primary does not know of.
    """

    source: bytes
    standbys: tuple[Remote, ...]
    connection: Connection
    state: Path
    policy: LogPolicy = field(default_factory=LogPolicy)
    epoch: int | None = None
    adopt: bool = False


def name_of(remote: Remote) -> str:
    """Return a standby's name: where it is, and which place."""
    path = shown(remote.place.path.strip(b"/"))
    return f"{remote.shown}::{remote.place.module}" + (f"/{path}" if path else "")
