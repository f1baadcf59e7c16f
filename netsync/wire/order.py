"""Which message may come when: one table, one error path.

A side is watched by an ``Order`` for each peer: it starts where that peer speaks first and moves
on with each message received. During a transfer the peer speaks as source or as target, and
afterwards returns to where it came from. The table knows no transport and no values; what a
message refers to is the business of the role that receives it.
"""

from __future__ import annotations

import enum
from typing import Final

from netsync.errors import ProtocolError
from netsync.wire.committing import (
    Commit,
    CommitData,
    CommitEnd,
    CommitFile,
    CommitResults,
)
from netsync.wire.fine import FineSignature, WantFine
from netsync.wire.messages import (
    Applied,
    Browse,
    Browsed,
    Bye,
    Committed,
    Credit,
    End,
    Fault,
    FileEnd,
    Files,
    Hello,
    List,
    ListEnd,
    Message,
    Offer,
    Open,
    Opened,
    Piece,
    Ping,
    Relist,
    Relisted,
    Selection,
    Signature,
    Start,
    Unsent,
    WantDelta,
    Wants,
    WantsEnd,
    Welcome,
)
from netsync.wire.mirroring import (
    Acked,
    Adopt,
    Mirror,
    Mirrored,
    Operations,
    ResyncBegin,
    ResyncEnd,
    Stream,
    Sync,
)
from netsync.wire.reuse import Digests, WantDigests, WantRest
from netsync.wire.watching import Beat, Changed, Heard, Watch


class State(enum.Enum):
    """Where the peer is in the conversation."""

    CLIENT_GREETS = "client greets"
    CLIENT_ASKS = "client asks"
    CLIENT_STREAMS = "client streams"
    CLIENT_COMMITS = "client commits"
    CLIENT_GONE = "client gone"
    SERVER_GREETS = "server greets"
    SERVER_ANSWERS = "server answers"
    SOURCE_OFFERS = "source offers"
    SOURCE_LISTS = "source lists"
    SOURCE_SENDS = "source sends"
    SOURCE_DONE = "source done"
    TARGET_STARTS = "target starts"
    TARGET_WANTS = "target wants"
    TARGET_SETTLES = "target settles"
    TARGET_DONE = "target done"
    FAILED = "failed"


S = State
_SENDING: Final[tuple[type[Message], ...]] = (
    Relisted, Files, Piece, FileEnd, Unsent, WantFine
)  # fmt: skip
_WANTING: Final[tuple[type[Message], ...]] = (
    Credit, Relist, Wants, WantDelta, WantRest, WantDigests, Signature, FineSignature, Applied
)  # fmt: skip

TRANSITIONS: Final[dict[State, dict[type[Message], State]]] = {
    S.CLIENT_GREETS: {Hello: S.CLIENT_ASKS},
    S.CLIENT_ASKS: {
        **dict.fromkeys((Browse, Open, Selection, Watch, Beat, Mirror, Adopt), S.CLIENT_ASKS),
        Stream: S.CLIENT_STREAMS,
        Commit: S.CLIENT_COMMITS,
        Bye: S.CLIENT_GONE,
    },
    S.CLIENT_STREAMS: {
        **dict.fromkeys((Operations, Sync, ResyncBegin, ResyncEnd), S.CLIENT_STREAMS),
        Bye: S.CLIENT_GONE,
    },
    S.CLIENT_COMMITS: {
        **dict.fromkeys((CommitFile, CommitData), S.CLIENT_COMMITS),
        CommitEnd: S.CLIENT_ASKS,
    },
    S.CLIENT_GONE: {},
    S.SERVER_GREETS: {Welcome: S.SERVER_ANSWERS},
    S.SERVER_ANSWERS: dict.fromkeys(
        (Browsed, Opened, Changed, Heard, Mirrored, Acked, CommitResults), S.SERVER_ANSWERS
    ),
    S.SOURCE_OFFERS: {Offer: S.SOURCE_LISTS},
    S.SOURCE_LISTS: {
        List: S.SOURCE_LISTS,
        ListEnd: S.SOURCE_SENDS,
        **dict.fromkeys(_SENDING, S.SOURCE_LISTS),
    },
    S.SOURCE_SENDS: {
        **dict.fromkeys((*_SENDING, Digests), S.SOURCE_SENDS),
        End: S.SOURCE_DONE,
    },
    S.SOURCE_DONE: {},
    S.TARGET_STARTS: {Start: S.TARGET_WANTS},
    S.TARGET_WANTS: {
        **dict.fromkeys(_WANTING, S.TARGET_WANTS),
        WantsEnd: S.TARGET_SETTLES,
    },
    S.TARGET_SETTLES: {Applied: S.TARGET_SETTLES, Committed: S.TARGET_DONE},
    S.TARGET_DONE: {},
    S.FAILED: {},
}
"""state -> message -> next state. ``Ping`` and ``Fault`` may come in every state but FAILED."""


class Order:
    """Follows one peer through the table."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._resume: State | None = None

    def begin(self, role: State) -> None:
        """The peer now speaks as the source or target of a transfer."""
        self._resume, self.state = self.state, role

    def finish(self) -> None:
        """The transfer is over: the peer speaks again as it did before."""
        if self._resume is not None:
            self.state, self._resume = self._resume, None

    def check(self, message: Message) -> None:
        """Move on with ``message``; raise ``ProtocolError`` if it may not come now."""
        if isinstance(message, Ping | Fault) and self.state is not State.FAILED:
            return
        following = TRANSITIONS[self.state].get(type(message))
        if following is None:
            name, state = type(message).__name__, self.state.value
            self.state = State.FAILED
            raise ProtocolError(f"{name} may not come now ({state})", op="receive")
        self.state = following
