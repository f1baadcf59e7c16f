"""The messages by which a standby learns that it is worth fetching: asked, and answered once."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from netsync.model import Text
from netsync.wire.messages import Message, Place

WATCH_SECONDS_MAX: int = 3600
"""Longest time that an answer may be held back."""


class Watch(Message, frozen=True):
    """Tell me when something at these places changes, and after ``seconds`` in any case.

    What counts is what changed since the answer before to the same places in this session; the
    first is answered at once.
    """

    type = 16
    places: Annotated[list[Place], Meta(min_length=1, max_length=256)]
    seconds: Annotated[int, Meta(ge=1, le=WATCH_SECONDS_MAX)]


class Changed(Message, frozen=True):
    """The answer to ``Watch``: ``changed``, or nothing did for the seconds asked.

    With ``watched`` False nobody is watching, and ``why`` says what keeps the server from it.
    """

    type = 17
    changed: bool
    watched: bool = True
    why: Text = ""
