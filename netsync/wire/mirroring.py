"""The messages of a synchronous mirror: a primary streams operations, a standby says what it has.

The primary is the client. ``Mirror`` opens a place and is answered by ``Mirrored``: what the
standby has. If that is too little for the log to be continued, an ordinary push to the place makes
the trees equal and ``Adopt`` says from where the log goes on. ``Stream`` begins it. Operations are
numbered; acknowledgements are cumulative.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from netsync.model import U63
from netsync.operation import Level
from netsync.wire.frames import CONTROL_MAX, TAIL_MAX, Limits
from netsync.wire.messages import Message, Place

MIRROR_FEATURE: Final = "mirror"
"""The feature of servers that can be standbys."""
BATCH_OPERATIONS: Final = 4096
"""Operations in one frame: some milliseconds of checking."""

OPERATIONS_MAX: Final = TAIL_MAX + 16 * 1024
"""Bytes of the operations in one frame: two of the largest writes, with their paths."""

Chain = Annotated[bytes, Meta(min_length=16, max_length=16)]
Generation = Annotated[bytes, Meta(min_length=16, max_length=16)]
Epoch = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Mirror(Message, frozen=True):
    """I write to this place from now on.

    ``generation`` is this life of the primary's log, ``head`` the last operation of it, and
    ``parents`` those that this primary remembers the standby to be in, if any. ``adopt`` says that
    its user knows the standby to hold something else, which is to be replaced.
    """

    type = 64
    place: Place
    generation: Generation
    epoch: Epoch
    head: U63 = 0
    parents: Annotated[tuple[Generation, ...], Meta(max_length=8)] = ()
    adopt: bool = False


class Mirrored(Message, frozen=True):
    """What the standby has, durably: all of ``generation`` up to ``seq``, whose chain it tells.

    An empty ``generation`` means that the trees must be compared. With ``complete`` what is there
    is a whole copy all the same, and to be kept until a newer one is.
    """

    type = 65
    generation: Annotated[bytes, Meta(max_length=16)]
    epoch: U63
    seq: U63
    chain: Chain
    complete: bool = False


class Adopt(Message, frozen=True):
    """Our trees are equal: the log goes on behind ``seq``. Answered by ``Mirrored``."""

    type = 66
    seq: U63
    chain: Chain


class Stream(Message, frozen=True):
    """Operations follow, and nothing else until ``Bye``; ``level`` is what is waited for."""

    type = 67
    level: Level = Level.DURABLE


class Operations(Message, frozen=True):
    """The next ``count`` operations, in the tail; ``chain`` is that after the last.

    With ``sync`` all up to the last are to be made durable.
    """

    type = 68
    limits = Limits(CONTROL_MAX, OPERATIONS_MAX)
    first: Annotated[int, Meta(ge=1, le=2**62)]
    count: Annotated[int, Meta(ge=1, le=BATCH_OPERATIONS)]
    chain: Chain
    sync: bool = False


class Sync(Message, frozen=True):
    """Make everything up to ``seq`` durable, which was sent before."""

    type = 69
    seq: U63


class ResyncBegin(Message, frozen=True):
    """What follows makes up for operations that are not kept any more.

    It has numbers of its own, from 1, and counts only when its end is there.
    """

    type = 70


class ResyncEnd(Message, frozen=True):
    """With these ``count`` operations the standby is where ``seq`` is, whose chain is told."""

    type = 71
    count: U63
    seq: U63
    chain: Chain


class Acked(Message, frozen=True):
    """The standby has everything up to these numbers, at each level; ``chain`` is at ``durable``.

    ``applied`` is what its tree shows. Each number only ever rises.
    """

    type = 72
    received: U63
    written: U63
    durable: U63
    applied: U63
    chain: Chain
