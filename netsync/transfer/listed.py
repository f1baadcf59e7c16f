"""A directory while its listing arrives: what the target knows of it so far."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Final

import msgspec

from netsync.errors import ProtocolError
from netsync.model import Entry, Kind
from netsync.names import are_components, join
from netsync.plan.asked import Asked
from netsync.tree.place import Attributes

ENTER: Final = 0o700
"""What lets an owner work in a directory."""


class ListedDirectory:
    """A listed directory that is not compared to its end yet.

    ``fresh``: it was not there before (in a dry run it still is not). ``lost``: it could not be
    made or opened, so what is in it fails with it. ``left``: options leave it out. ``hands_down``:
    new entries get an ACL of it (None: not asked yet).
    """

    __slots__ = (
        "fresh", "hands_down", "last", "left", "lost", "names_read", "path", "present", "touched",
        "wanted",
    )  # fmt: skip

    def __init__(self, path: bytes, wanted: Attributes, *, fresh: bool) -> None:
        self.path = path
        self.wanted = wanted
        self.fresh = fresh
        self.lost = False
        self.hands_down: bool | None = None
        self.left = False
        self.touched = fresh
        self.present: set[bytes] = set()
        self.names_read = fresh
        self.last = b""

    def admit(self, entries: Sequence[Entry], asked: Asked | None) -> None:
        """Refuse entries that an honest source cannot have listed next."""
        if not entries:
            return
        names = [entry.name for entry in entries]
        in_order = self.last < names[0] and all(map(operator.lt, names, names[1:]))
        if not in_order or not are_components(names):
            raise ProtocolError("a listed name is not allowed or out of order", op="receive")
        self.last = names[-1]
        for entry in entries:
            if entry.kind is Kind.SYMLINK and (not entry.target or b"\0" in entry.target):
                raise ProtocolError("a listed link has no valid text", op="receive")
            if asked is not None:
                asked.check(self.path, join(self.path, entry.name), entry)

    def enter(self, present: Entry) -> bool:
        """Tell whether a directory that was ``present`` is ours and closed to ourselves.

        Whoever opens it changes its mode: the one it is to have is set at the end.
        """
        closed = present.mode & ENTER != ENTER
        if not closed or present.uid != os.geteuid() or not os.geteuid():
            return False
        self.touched = True
        if self.wanted.mode is None:
            self.wanted = msgspec.structs.replace(self.wanted, mode=present.mode)
        return True
