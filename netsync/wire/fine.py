"""The messages of the fine level of a delta: the source asks, the target answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from netsync.model import U63
from netsync.wire.frames import BULK_MAX, CONTROL_MAX, TAIL_MAX, Limits
from netsync.wire.messages import Message

RANGES_MAX: int = 16384
"""Numbers in one ``WantFine``, two for each run of blocks."""


class WantFine(Message, frozen=True):
    """Which coarse blocks of a basis the source needs fine entries of: ``first, count, …``.

    Runs rise and are apart. ``FineSignature`` frames answer, in the order of the questions.
    """

    type = 42
    limits = Limits(BULK_MAX, 0)
    number: U63
    ranges: Annotated[list[U63], Meta(min_length=2, max_length=RANGES_MAX)]


class FineSignature(Message, frozen=True):
    """The next fine entries that were asked for, in the tail."""

    type = 59
    limits = Limits(CONTROL_MAX, TAIL_MAX)
    number: U63
