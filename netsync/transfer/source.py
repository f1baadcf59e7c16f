"""The source's role: list, answer wants, end; the same for push, pull and local copies.

Four tasks share a channel. One receives and only enqueues, so it never waits for anything but
the peer. One lists within the credit the target grants. One reads wanted files in a worker
thread, and a sender beside it keeps the network busy meanwhile. Bounds: undecided entries by
the credit, wanted files by ``offers.WANTED_MAX``, signatures by ``SIGNATURES_MAX`` of
``signatures_taken``, frames ready to be sent by ``_READY_FRAMES`` of at most 2 MiB each.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import trio

from netsync.errors import ProtocolError, root_error
from netsync.model import ORIGINS_MAX, Kind, Options, Problem, Report
from netsync.net.channel import Channel
from netsync.plan.restriction import names_root
from netsync.state.verified import VerifiedFiles
from netsync.transfer.describing import Describer
from netsync.transfer.digests import HELD_MAX, Records, Told, relistings
from netsync.transfer.handing import hand_on
from netsync.transfer.judging import Judge
from netsync.transfer.listing import CREDIT_MIN, Lister
from netsync.transfer.matching import Arriving, send_matched
from netsync.transfer.offers import Chunk, Offered, Offers
from netsync.transfer.outgoing import DeltaRequest, Outgoing, RestRequest, next_frames
from netsync.transfer.reading import SMALL_MAX, Reader, ReadError
from netsync.transfer.signatures_taken import Ready, SignaturesTaken
from netsync.transfer.tally import Observer
from netsync.tree.origin import mounts_in, origin_of
from netsync.tree.roots import SourceRoot
from netsync.tree.scan import entry_at
from netsync.tree.threads import in_thread
from netsync.wire import messages as m
from netsync.wire import reuse
from netsync.wire.fine import FineSignature
from netsync.wire.frames import TAIL_MAX
from netsync.wire.order import State

CREDIT_MAX: Final = 64 * 1024
"""Entries listed ahead, whatever the target grants."""
_READY_FRAMES: Final = 2


class _DigestRequest(NamedTuple):
    """Files of which only the digests are wanted yet."""

    offered: list[Offered]


_Request: TypeAlias = Chunk | tuple[Offered, DeltaRequest | RestRequest] | Arriving | _DigestRequest


class Source:
    """One transfer's source. ``roots`` stay the caller's; ``problems`` were found opening them."""

    def __init__(
        self,
        channel: Channel,
        roots: Sequence[SourceRoot],
        options: Options,
        observer: Observer,
        problems: Sequence[Problem] = (),
        memory: VerifiedFiles | None = None,
    ) -> None:
        self._channel = channel
        self._roots = roots
        self._options = options
        self._observer = observer
        self._problems = problems
        self._root_problems: list[Problem] = []
        self._judge = Judge("source", memory, options)
        self._describer = Describer(options, self._root_problems.append)
        self._offers = Offers(options)
        self._credit = 0
        self._credit_came = trio.Event()
        self._records = Records()
        self._relists: deque[Told] = deque()
        self._relist_came = trio.Event()
        self._queue: deque[_Request] = deque()
        self._queue_came = trio.Event()
        self._wants_ended = False
        self._listed = False
        self._ended = False
        self._signatures = SignaturesTaken(self._offers)
        self._report: Report | None = None

    def close(self) -> None:
        """Drop what was kept on disk."""
        self._offers.close()

    async def run(self) -> Report:
        """Serve the target until it has committed; return its report."""
        self._channel.order.begin(State.TARGET_STARTS)
        await self._channel.send(await in_thread(self._offer))
        start = (await self._channel.receive()).message
        assert isinstance(start, m.Start)
        self._credit = min(start.credit, CREDIT_MAX)
        await in_thread(self._judge.begin)
        lister = Lister(
            self._roots, self._options, self._judge, start.name, self._problems, start.digests
        )
        lister.note(self._root_problems)
        reader = Reader(self._roots, sparse=self._options.keep.sparse)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._list, lister)
                nursery.start_soon(self._relist)
                nursery.start_soon(self._serve, reader)
                await self._receive()
        finally:
            lister.close()
            reader.close()
            with trio.CancelScope(shield=True):
                await in_thread(self._judge.close)
        self._channel.order.finish()
        assert self._report is not None
        notices = (*self._report.notices, *self._judge.notices)
        return msgspec.structs.replace(self._report, notices=notices)

    def _with_origins(self, offer: m.Offer) -> m.Offer:
        """Return ``offer`` with what the roots are, and what is mounted in them if it may go."""
        options = self._options
        origins = [origin for root in self._roots if (origin := origin_of(root)) is not None]
        mounts = mounts_in(self._roots) if options.paths is None or options.changes else None
        if mounts is None or len(origins) + len(mounts) > ORIGINS_MAX:
            return msgspec.structs.replace(offer, origins=origins[:ORIGINS_MAX])
        return msgspec.structs.replace(offer, origins=origins + mounts, tells_mounts=True)

    def _offer(self) -> m.Offer:
        """Describe the roots: a lone regular file, or a directory's own metadata."""
        single = False
        try:
            if len(self._roots) == 1 and self._roots[0].name:
                single = entry_at(self._roots[0].fd, self._roots[0].name).kind is Kind.FILE
            paths = self._options.paths
            named = paths is None or self._options.changes or names_root(paths)
            contents = [root for root in self._roots if not root.name and named]
            own = contents[0].fd if contents else None
            offer = self._describer.offer(own, single_file=single)
            return self._with_origins(offer)
        except OSError as error:
            raise root_error(error, op="read source", where=self._roots[0].listed) from error

    async def _list(self, lister: Lister) -> None:
        files = size = 0
        while True:
            while self._credit < CREDIT_MIN or self._records.size > HELD_MAX:
                self._credit_came = trio.Event()
                await self._credit_came.wait()
            batch = await in_thread(lister.next_batch)
            if batch is None:
                break
            self._credit -= batch.message.cost
            for chunk in batch.chunks:
                self._offers.add(chunk)
            for told in batch.told:
                self._records.add(told)
            files += batch.entries
            size += batch.size
            self._observer.listed(files, size, complete=False)
            await self._channel.send(batch.message)
        self._observer.listed(files, size, complete=True)
        self._listed = True
        notices, self._judge.notices = self._judge.notices, []
        await self._channel.send(m.ListEnd(lister.complete, lister.unsafe_links, notices))

    async def _relist(self) -> None:
        """List the directories whose digests were not the target's, in the order it asked."""
        while not self._wants_ended:
            if not self._relists:
                self._relist_came = trio.Event()
                await self._relist_came.wait()
            told = list(self._relists)
            self._relists.clear()
            messages = relistings(told)
            while (step := await in_thread(next, messages, None)) is not None:
                message, chunks = step
                for chunk in chunks:
                    self._offers.add(chunk)
                await self._channel.send(message)

    async def _receive(self) -> None:
        """Take what the target says; nothing here waits for disk or for sending."""
        while self._report is None:
            message, tail = await self._channel.receive()
            match message:
                case m.Credit(entries=entries):
                    self._credit = min(self._credit + entries, CREDIT_MAX)
                    self._credit_came.set()
                case m.Wants(whole=whole, deltas=deltas, decided=decided):
                    self._want(whole, deltas)
                    self._offers.decided(decided)
                    self._records.decided(decided)
                    self._credit_came.set()
                case m.Relist(directories=directories):
                    self._take_relist(directories)
                case m.WantDelta():
                    self._enqueue_ready(self._signatures.begin(message))
                case reuse.WantDigests() | reuse.WantRest():
                    self._reuse(message)
                case m.Signature() | FineSignature():
                    self._enqueue_ready(self._signatures.add(message, tail))
                case m.Applied():
                    self._applied(message)
                case m.WantsEnd():
                    self._end_wants()
                case m.Committed(report=report):
                    if not self._ended:
                        raise ProtocolError("committed before the end", op="receive")
                    self._report = report
                case _:
                    raise ProtocolError(f"unexpected {type(message).__name__}", op="receive")

    def _take_relist(self, directories: Sequence[int]) -> None:
        self._relists += [self._records.take(number) for number in directories]
        self._credit_came.set()
        self._relist_came.set()

    def _reuse(self, message: reuse.WantDigests | reuse.WantRest) -> None:
        if isinstance(message, reuse.WantDigests):
            self._enqueue([_DigestRequest([self._offers.ask(each) for each in message.numbers])])
        else:
            rest = RestRequest(message.offset)
            self._enqueue([(self._signatures.awaited(message.number), rest)])

    def _want(self, whole: Sequence[int], deltas: Sequence[int]) -> None:
        self._enqueue(list(self._offers.want_all(whole)))
        self._signatures.abandon(whole)
        for number in deltas:
            self._signatures.expect(number)

    def _end_wants(self) -> None:
        if not self._listed or not self._offers.all_settled:
            raise ProtocolError("the wants ended before all was listed and settled", op="receive")
        self._wants_ended = True
        self._queue_came.set()
        self._relist_came.set()

    def _applied(self, message: m.Applied) -> None:
        self._offers.settled(message.numbers)
        if message.settled_bytes:
            self._observer.settled(message.settled_bytes)
        if message.items:
            self._observer.items(message.items)

    def _enqueue(self, wanted: Sequence[_Request]) -> None:
        self._queue.extend(wanted)
        self._queue_came.set()

    def _enqueue_ready(self, ready: Ready | None) -> None:
        if ready is not None:
            self._enqueue([ready])

    async def _serve(self, reader: Reader) -> None:
        """Read wanted files and send them, in the order in which they were wanted."""
        send, receive = trio.open_memory_channel[Outgoing](_READY_FRAMES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_ready, receive)
            async with send:
                while await self._wait_for_wants():
                    await self._serve_next(reader, send)
        self._ended = True
        await self._channel.send(m.End())

    async def _wait_for_wants(self) -> bool:
        while not self._queue:
            if self._wants_ended:
                return False
            self._queue_came = trio.Event()
            await self._queue_came.wait()
        return True

    async def _serve_next(self, reader: Reader, send: trio.MemorySendChannel[Outgoing]) -> None:
        small = self._take_small()
        if small:
            await self._serve_small(reader, [small, self._take_small()], send)
            return
        first = self._queue.popleft()
        if isinstance(first, Chunk):
            if len(first.entries) > 1:
                self._queue.appendleft(first.part(first.first + 1, first.end))
            await self._serve_large(reader, first.offered(first.first), None, send)
            return
        if isinstance(first, _DigestRequest):
            steps = reader.digests(first.offered)
            while (frames := await in_thread(next, steps, None)) is not None:
                for frame in frames:
                    await hand_on(send, frame)
            return
        if isinstance(first, Arriving):
            await self._serve_matched(reader, first, send)
            return
        await self._serve_large(reader, *first, send)

    async def _serve_small(
        self,
        reader: Reader,
        batches: Sequence[Sequence[Chunk]],
        send: trio.MemorySendChannel[Outgoing],
    ) -> None:
        for read in await in_thread(reader.batches, batches):
            for outgoing in read.frames:
                await hand_on(send, outgoing)
            for offered in read.changed:
                await self._serve_large(reader, offered, None, send)

    async def _serve_matched(
        self, reader: Reader, arriving: Arriving, send: trio.MemorySendChannel[Outgoing]
    ) -> None:
        try:
            await send_matched(reader, arriving, send, self._observer)
        except ReadError as error:
            arriving.is_served = True
            await send.send(Outgoing(m.Unsent([arriving.want.number], [error.problem])))
        finally:
            self._signatures.served(arriving)

    async def _serve_large(
        self,
        reader: Reader,
        offered: Offered,
        request: DeltaRequest | RestRequest | None,
        send: trio.MemorySendChannel[Outgoing],
    ) -> None:
        try:
            publish = self._options.changing == "publish"
            last = publish and self._offers.is_last_attempt(offered.number)
            begin = functools.partial(reader.begin_large, take_changed=last)
            large, frames, more = await in_thread(begin, offered, request)
            try:
                while True:
                    for frame in frames:
                        await hand_on(send, frame)
                    self._observer.under_way(large.offset)
                    if not isinstance(frames[-1].message, m.Piece):
                        break
                    frames = await in_thread(next_frames, more)
            finally:
                large.close()
                self._observer.under_way(0)
        except ReadError as error:
            await send.send(Outgoing(m.Unsent([offered.number], [error.problem])))
        finally:
            if isinstance(request, DeltaRequest):
                self._signatures.served(request)

    def _take_small(self) -> list[Chunk]:
        """Take the small whole files at the front of the queue, as many as fit a frame."""
        taken: list[Chunk] = []
        room, count = TAIL_MAX, m.FILES_MAX
        while self._queue and isinstance(first := self._queue[0], Chunk):
            fit = 0
            for entry in first.entries[:count]:
                if entry.size > SMALL_MAX or entry.size > room:
                    break
                room -= entry.size
                fit += 1
            if fit == len(first.entries):
                taken.append(first)
                self._queue.popleft()
                count -= fit
                continue
            if fit:
                taken.append(first.part(first.first, first.first + fit))
                self._queue[0] = first.part(first.first + fit, first.end)
            break
        return taken

    async def _send_ready(self, ready: trio.MemoryReceiveChannel[Outgoing]) -> None:
        async for outgoing in ready:
            await self._channel.send(outgoing.message, outgoing.tail)


async def send_tree(
    channel: Channel,
    roots: Sequence[SourceRoot],
    options: Options,
    observer: Observer,
    problems: Sequence[Problem] = (),
    memory: VerifiedFiles | None = None,
) -> Report:
    """Be the source of one transfer and return the target's report.

    ``roots`` stay open and the caller's; ``problems`` are sources that could not be opened;
    ``memory`` is what is known of this host's files, which is written where files are hashed.
    Raises ``NetsyncError`` when the session ends early.
    """
    source = Source(channel, roots, options, observer, problems, memory)
    try:
        return await source.run()
    finally:
        source.close()
