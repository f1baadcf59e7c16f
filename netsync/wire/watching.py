"""The messages by which a standby learns how it stands: asked, and answered once.

``Watch`` asks whether it is worth fetching, ``Beat`` is told by a primary that sends as it happens.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from netsync.model import U63, Text
from netsync.wire.messages import Message, Place

WATCH_SECONDS_MAX: int = 3600
"""Longest time that an answer may be held back."""

BEAT_SECONDS_MAX: int = 60
"""Longest time from one beat to the next: for so long silence means nothing."""
Span = Annotated[float, Meta(ge=0, le=1e9)]
"""Seconds. Never a moment: no host's clock means anything to another."""


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


class Beat(Message, frozen=True):
    """All that was written up to ``behind`` seconds before this was sent is with you on disk.

    None says that not all ever was. ``rested`` is the time from your last answer to this. The next
    such message comes within ``every`` seconds; with ``leaving`` none does, on purpose. ``rpo`` is
    what the sender is to hold, ``files`` and ``size`` what is outstanding (None: not known),
    ``trouble`` what keeps it from being sent.
    """

    type = 18
    place: Place
    every: Annotated[float, Meta(ge=0, le=BEAT_SECONDS_MAX)]
    behind: Span | None = None
    rested: Span = 0.0
    rpo: Span | None = None
    files: U63 | None = None
    size: U63 | None = None
    trouble: Text = ""
    leaving: bool = False


class Heard(Message, frozen=True):
    """The answer to ``Beat``. ``entries`` is how many the place is known to hold (0: unknown)."""

    type = 19
    entries: U63 = 0
