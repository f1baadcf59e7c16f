"""What arrives of file data, handed to whom it concerns, in the landing worker."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import trio

from netsync.errors import NetsyncError, is_cut
from netsync.net.channel import Received
from netsync.transfer.landing import Lander
from netsync.transfer.moving import Mover
from netsync.tree.threads import in_thread
from netsync.wire import messages as m
from netsync.wire import reuse


class Arrivals:
    """Hands messages to ``lander`` and ``mover``, and flushes what is enough for a batch."""

    def __init__(self, lander: Lander, mover: Mover) -> None:
        self._lander = lander
        self._mover = mover

    def take(self, received: Sequence[Received]) -> None:
        """Take what has come, in order; nothing means that the batch should be flushed."""
        for each in received:
            self._take_one(each)
            if self._lander.is_full:
                self._lander.flush()
        if not received:
            self._lander.flush()

    async def salvage(self, error: BaseException) -> None:
        """Publish what arrived whole, if ``error`` says that the connection was cut.

        Else who is cut more often than a batch is flushed would never get on.
        """
        if is_cut(error):
            with trio.CancelScope(shield=True), contextlib.suppress(NetsyncError):
                await in_thread(self._lander.flush)

    def _take_one(self, received: Received) -> None:
        message, tail = received
        match message:
            case m.Files():
                self._lander.small_files(message, tail)
            case m.Piece():
                self._lander.piece(message, tail)
            case m.FileEnd():
                self._lander.file_end(message)
            case m.Unsent():
                self._lander.unsent(message)
            case reuse.Digests():
                self._mover.take(message)
