"""The messages of a target that has more than it was asked about: beginnings, and renamed files."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from netsync.model import U63
from netsync.wire.messages import Message

DIGESTS_MAX: int = 256
"""Files asked for their digest, or answered about, in one message."""
MaybeDigest = Annotated[bytes, Meta(max_length=32)]


class Digests(Message, frozen=True):
    """The answer to ``WantDigests``: BLAKE3 of each, empty where it is not as listed any more."""

    type = 40
    numbers: Annotated[list[U63], Meta(min_length=1, max_length=DIGESTS_MAX)]
    digests: Annotated[list[MaybeDigest], Meta(min_length=1, max_length=DIGESTS_MAX)]


class WantRest(Message, frozen=True):
    """In place of ``WantDelta``: what lies before ``offset`` we believe to have; send the rest."""

    type = 57
    number: U63
    offset: Annotated[int, Meta(ge=1, le=2**63 - 1)]


class WantDigests(Message, frozen=True):
    """Files wanted, of which the target may have the content under another name."""

    type = 56
    numbers: Annotated[list[U63], Meta(min_length=1, max_length=DIGESTS_MAX)]
