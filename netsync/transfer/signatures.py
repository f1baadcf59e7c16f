"""The target's signing task: signatures in the order of wants, answers about them before all."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterable
from typing import Final

import trio

from netsync.model import Options
from netsync.net.channel import Channel
from netsync.transfer.outgoing import next_frame
from netsync.transfer.signing import Signer
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.threads import in_thread
from netsync.wire.fine import WantFine
from netsync.wire.messages import Wants
from netsync.wire.reuse import WantRest

WANTED_SIGNATURES: Final = 64 * 1024 * 1024
"""Bytes of basis signatures in flight; one larger one goes alone."""


class Signatures:
    """Signs bases below ``root``, which stays the caller's, and sends what comes of it.

    ``progress`` is notified of by whoever changes something; ``notify`` does so.
    """

    def __init__(
        self,
        channel: Channel,
        root: int,
        options: Options,
        progress: trio.Condition,
        notify: Callable[[], Awaitable[None]],
    ) -> None:
        self._channel = channel
        self._progress = progress
        self._notify = notify
        self._directories = Directories(root)
        self._signer = Signer(self._directories, options)
        self._waiting: deque[Wanted] = deque()
        self._sent: dict[int, int] = {}  # signature bytes, by file
        self._busy = False
        self._all_wanted = False

    def close(self) -> None:
        """Let go of all descriptors."""
        self._directories.close()

    def extend(self, files: Iterable[Wanted]) -> None:
        """Take files to be signed."""
        self._waiting.extend(files)

    def ask(self, question: WantFine) -> None:
        """Take a question about a signature. Raises ``ProtocolError``."""
        self._signer.ask(question)

    def settled(self, numbers: Iterable[int], more_comes: Container[int]) -> None:
        """Files are done; of those in ``more_comes`` the source does not know it yet."""
        if not (self._sent or self._signer.has_begun):
            return
        for number in numbers:
            self._sent.pop(number, None)
            if number not in more_comes:
                self._signer.forget(number)

    def end(self) -> None:
        """Nothing more will be wanted."""
        self._all_wanted = True

    @property
    def is_busy(self) -> bool:
        """Tell whether something is being sent, or should be."""
        return self._busy or self._signer.asked

    @property
    def _may_sign(self) -> bool:
        return bool(self._waiting) and sum(self._sent.values()) <= WANTED_SIGNATURES

    async def run(self) -> None:
        """Send signatures, one file at a time, until nothing more is wanted."""
        while True:
            async with self._progress:
                while not (self._signer.asked or self._may_sign):
                    if self._all_wanted:
                        return
                    await self._progress.wait()
            self._busy = True
            await self._answer()
            if self._may_sign:
                await self._sign(self._waiting.popleft())
            self._busy = False
            await self._notify()

    async def _sign(self, wanted: Wanted) -> None:
        """Send one signature, as long as somebody needs it."""
        self._sent[wanted.number] = 0
        if wanted.rest:
            await self._channel.send(WantRest(wanted.number, wanted.rest))
            return
        frames = self._signer.frames(wanted)
        try:
            while (frame := await in_thread(next_frame, frames)) is not None:
                await self._channel.send(frame.message, frame.tail)
                if wanted.number not in self._sent:  # settled: the new file is much shorter
                    break
                self._sent[wanted.number] += sum(map(len, frame.tail))
                await self._answer()
        except OSError:  # no basis after all: the whole file will do
            wanted.basis_size = 0
            wanted.attempts += 1
            await self._channel.send(Wants([wanted.number], [], 0))
        finally:
            frames.close()

    async def _answer(self) -> None:
        """Send the fine signatures asked for: a file that is being sent waits for them."""
        while self._signer.asked:
            frames = self._signer.answers()
            while (frame := await in_thread(next_frame, frames)) is not None:
                await self._channel.send(frame.message, frame.tail)
