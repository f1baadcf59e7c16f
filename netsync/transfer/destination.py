"""Where a transfer writes: one value for all who work there."""

from __future__ import annotations

from typing import NamedTuple

from netsync.model import Options
from netsync.transfer.preparing import Preparation
from netsync.tree.large_files import Stage


class Destination(NamedTuple):
    """The open directory ``root``, whether it was there before, and its stage.

    ``preparation`` is there where all is published at once. All of it stays the caller's.
    """

    root: int
    exists: bool
    options: Options
    stage: Stage
    preparation: Preparation | None = None
