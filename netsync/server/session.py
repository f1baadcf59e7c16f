"""One client's session: greet, then answer what it asks until it leaves.

The client is a certificate name; every request is checked against the module's rights before a
file is touched. What goes wrong is told to the client in one ``Fault`` and ends this session and
no other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from netsync.delta.signature import BLOCK_MIN, is_block_size
from netsync.errors import TEXT_MAX, NetworkError, ProtocolError, RefusedError, StateError
from netsync.model import Options, Origin, Report
from netsync.names import is_inside, one_line, shown
from netsync.net.channel import FEATURES, SOFTWARE, Received, StreamChannel, equip, kept_alive
from netsync.plan.guards import Changes
from netsync.server import confined
from netsync.server.browse import send_entries, send_modules
from netsync.server.committing import Committing
from netsync.server.confined import Job
from netsync.server.mirroring import Mirroring, Succeed
from netsync.server.mirrors import Mirrors
from netsync.server.modules import Module, Right, find_module, reached
from netsync.server.receiving import Receiving, place_of
from netsync.server.watching import Watching
from netsync.server.work import receive, send
from netsync.state.mirror_record import place_of as place_below
from netsync.state.mirror_record import refuse_mirrored
from netsync.state.pending import PendingPlace
from netsync.state.sources import RememberedSources
from netsync.state.verified import VerifiedFiles
from netsync.transfer.guarding import Guarding
from netsync.tree.roots import Anchor
from netsync.tree.threads import in_thread, working_within
from netsync.wire import messages as m
from netsync.wire.committing import Commit
from netsync.wire.mirroring import Adopt, Mirror, Stream
from netsync.wire.selection import Gathering
from netsync.wire.watching import Beat, Watch

GREETING_SECONDS: Final = 10.0
"""How long a client may take from the handshake to its ``Hello``."""


Waited = TypeVar("Waited")


@dataclass(frozen=True)
class Superseding:
    """How older sessions are ended: that in which this client's run with a token is under way, and
    that which mirrors to a place, unless it lives and is another's."""

    run: Callable[[bytes], Awaitable[None]]
    place: Succeed


class Session:
    """Serves one welcomed client over ``channel``; ``modules`` are those of its beginning.

    ``state`` is the directory that remembers what must outlive the session. ``run_token`` is that
    of the run under way. A client that was cut off may be back before we have noticed:
    ``superseding`` ends what is left of it.
    """

    def __init__(
        self,
        channel: StreamChannel,
        identity: str,
        modules: Mapping[str, Module],
        state: Path,
        superseding: Superseding,
        mirrors: Mirrors,
    ) -> None:
        self._done: list[str] = []
        self._changed = 0
        self.doing = ""
        self.run_token = b""
        self._superseding = superseding
        self._channel = channel
        self._identity = identity
        self._modules = modules
        self._state = state
        self._watching = Watching(modules, identity)
        self._mirroring = Mirroring(channel, identity, state, mirrors)
        self._receiving = Receiving(state, identity)
        self._committing = Committing(channel, modules, identity, state)
        self._idle = trio.CancelScope()
        self._draining = ""

    @property
    def mirrored_place(self) -> bytes:
        """The place that the client mirrors to, on this host; empty if it does not."""
        return self._mirroring.place

    def refuse_other(self, generation: bytes) -> None:
        """Raise ``NetworkError`` if the client lives and mirrors another ``generation``."""
        self._mirroring.refuse_other(generation)

    @property
    def done(self) -> list[str]:
        """What was done so far, as lines for the log; one for all that was sent as it changed."""
        changed = f"watched: {self._changed} entries looked at as they changed"
        return [*self._done, *[changed] * bool(self._changed), *self._committing.done]

    @property
    def is_watching(self) -> bool:
        """Tell whether the client has us watch for changes, or tells us of its own."""
        return self._watching.is_watching or self._receiving.is_told

    def drain(self, why: str = "the server is shutting down") -> None:
        """End the session as soon as it is between two requests, and say ``why``."""
        self._draining = why
        self._idle.cancel()

    async def serve(self) -> None:
        """Answer a welcomed client until it leaves. Raises ``NetsyncError``."""
        with contextlib.ExitStack() as stack:
            for part in (self._watching, self._receiving, self._mirroring):
                stack.enter_context(contextlib.closing(part))
            async with kept_alive(self._channel):
                while (request := await self._next_request()) is not None:
                    self.doing = _shown(request)
                    module = self._modules.get(_module_of(request))
                    with working_within(None if module is None else module.threads):
                        more = await self._answer(request)
                    if not more:
                        return
                    self._receiving.answered()

    async def _answer(self, request: m.Message) -> bool:
        """Do what is asked; tell whether more may be asked."""
        match request:
            case m.Browse():
                await self._browse(request)
            case m.Open(direction=m.Direction.PUSH):
                await self._push(request)
            case m.Open():
                await self._pull(request)
            case Beat(place=place):
                module = find_module(self._modules, place.module)
                module.require(self._identity, Right.PUSH)
                await self._channel.send(await self._receiving.hear(module, request))
            case Commit():
                await self._committing.commit(request)
            case Watch():
                answer = await self._while_idle(lambda: self._watching.answer(request))
                await self._channel.send(answer)
            case Mirror():
                module = find_module(self._modules, request.place.module)
                await self._mirroring.open(request, module, self._superseding.place)
            case Adopt():
                await self._mirroring.adopt(request)
            case Stream():
                await self._mirroring.stream(request, self._while_idle)
                return False
            case _:
                raise ProtocolError("options of no request", op="receive")
        return True

    async def greet(self) -> None:
        """Take the client's ``Hello`` and welcome it. Raises ``NetsyncError``."""
        with trio.move_on_after(GREETING_SECONDS) as scope:
            hello = (await self._channel.receive()).message
        if scope.cancelled_caught:
            raise ProtocolError("the client said nothing", op="greet", where=self._channel.peer)
        assert isinstance(hello, m.Hello)
        if hello.protocol != m.PROTOCOL:
            raise ProtocolError(
                f"{hello.software} speaks protocol {hello.protocol}, this server {m.PROTOCOL}",
                op="greet",
                where=self._channel.peer,
                hint="install the same version on both hosts",
            )
        self._channel.heed(hello.timeout, hello.features)
        timeout = max(1, round(self._channel.timeout))
        await self._channel.send(m.Welcome(m.PROTOCOL, SOFTWARE, FEATURES, self._identity, timeout))

    async def _next_request(self) -> m.Message | None:
        request = (await self._receive_idly()).message
        return None if isinstance(request, m.Bye) else request

    async def _receive_idly(self) -> Received:
        return await self._while_idle(self._channel.receive)

    async def _while_idle(self, wait: Callable[[], Awaitable[Waited]]) -> Waited:
        """Wait for something that a draining server does not wait for."""
        with trio.CancelScope() as self._idle:
            if self._draining:  # since it was busy
                self._idle.cancel()
            return await wait()
        raise NetworkError(self._draining, hint="try again later")

    async def _push(self, request: m.Open) -> None:
        """Receive a tree into a module."""
        if len(request.places) != 1:
            raise ProtocolError("a push has one destination", op="receive")
        place = request.places[0]
        module = find_module(self._modules, place.module)
        is_comparison = await self._is_mirrored(module, place.path)
        if is_comparison:
            module.require(self._identity, Right.MIRROR)
        else:
            self._require(module, request.options)
        options = await self._options(request)
        if not is_block_size(options.block_size or BLOCK_MIN):
            raise ProtocolError(f"{options.block_size} is no block size", op="receive")
        if options.backup_dir and not is_inside(options.backup_dir):
            raise ProtocolError("the backup directory is no path inside", op="receive")
        if contradiction := options.contradiction():
            raise ProtocolError(contradiction, op="receive")
        if request.run:
            await self._superseding.run(request.run)
        self.run_token = request.run
        await self._mind_mirrors(module, place.path, options, is_comparison=is_comparison)
        whole = msgspec.structs.replace(request, options=options)
        memory = self._memory(module, place.path)
        changes = await self._receiving.changes(module, place.path, options)
        async with reached(module) as anchor, self._receiving.busy(module, place.path):
            if module.user is None:
                pending = PendingPlace(self._state, place_of(module, place.path))
                verified = VerifiedFiles(self._state)
                guarding = Guarding(module.max_delete, memory, pending, verified, changes)
                report = await receive(
                    self._channel, anchor, whole, guarding, special=module.special
                )
            else:
                report = await self._push_as(module, anchor, whole, memory, changes)
        await self._receiving.book(module, place.path, options, report)
        if options.changes:
            self._changed += report.files.considered
        else:
            self._note(f"{_verb(options, 'push')} {place.module}", report)

    def _require(self, module: Module, options: Options) -> None:
        """Raise ``RefusedError`` unless the client may do to a module what it asks for.

        A verification changes nothing and tells what is there: that is what pulling does, and who
        may push can find it out by a dry run.
        """
        if options.verify and Right.PULL in module.rights_of(self._identity):
            return
        module.require(self._identity, Right.PUSH)
        if (options.delete or options.delete_excluded) and not options.verify:
            module.require(self._identity, Right.DELETE)

    async def _mind_mirrors(
        self, module: Module, path: bytes, options: Options, *, is_comparison: bool
    ) -> None:
        """Let a mirror's copy rest while its primary compares it; refuse others who would write."""
        if is_comparison:
            await self._mirroring.hold_still()
        elif not (options.dry_run or options.verify):
            where = os.fsencode(module.path) + b"/" + path
            await in_thread(refuse_mirrored, self._state, where)

    async def _is_mirrored(self, module: Module, path: bytes) -> bool:
        """Tell whether this session mirrors to the place, and may compare it as a whole."""
        if not self.mirrored_place:
            return False
        base = await in_thread(os.path.realpath, os.fsencode(module.path))
        return self.mirrored_place == place_below(base, path)

    async def _push_as(
        self,
        module: Module,
        anchor: Anchor,
        request: m.Open,
        memory: RememberedSources,
        changes: Changes,
    ) -> Report:
        """Have a module's user receive a tree; remembering is left to us."""
        assert module.user is not None
        known, trouble = await trio.to_thread.run_sync(_recalled, memory)
        job = Job(0, [], request, None, module.special, module.max_delete, known, trouble, changes)

        async def remember(origins: list[Origin]) -> None:
            with contextlib.suppress(StateError):  # said where it was read, and no harm done
                await trio.to_thread.run_sync(memory.remember, origins)

        return await confined.transfer(self._channel, module.user, job, [anchor], remember)

    async def _browse(self, request: m.Browse) -> None:
        """Tell the modules, or the entries of a path in one."""
        if not request.module:
            await send_modules(self._channel, self._modules, self._identity)
            return
        module = find_module(self._modules, request.module)
        module.require(self._identity, Right.PULL)
        async with reached(module) as anchor:
            if module.user is None:
                await send_entries(self._channel, anchor, request.path)
            else:
                job = Job(0, [], browsed=request)
                await confined.browse(self._channel, module.user, job, [anchor])

    def _memory(self, module: Module, path: bytes) -> RememberedSources:
        """Return what is remembered of the sources of this client's ``path`` in a module."""
        return RememberedSources(self._state, place_of(module, path), self._identity)

    async def _pull(self, request: m.Open) -> None:
        """Send trees out of modules."""
        for place in request.places:
            find_module(self._modules, place.module).require(self._identity, Right.PULL)
        options = await self._options(request)
        if options.changes:
            raise ProtocolError("what changed is told by who watches it, not asked", op="send")
        if options.paths is not None and len(request.places) != 1:
            raise ProtocolError("a restricted listing has one source", op="send")
        equip(self._channel, options)
        modules = [find_module(self._modules, place.module) for place in request.places]
        user = modules[0].user
        if any(module.user != user for module in modules):
            raise RefusedError("modules of several users in one transfer", op="use module",
                               hint="pull from one after the other")  # fmt: skip
        async with contextlib.AsyncExitStack() as stack:
            anchors = [await stack.enter_async_context(reached(module)) for module in modules]
            if user is None:
                memory = VerifiedFiles(self._state)
                report = await send(self._channel, anchors, request.places, options, memory)
            else:
                whole = msgspec.structs.replace(request, options=options)
                job = Job(0, [], whole)
                report = await confined.transfer(self._channel, user, job, anchors)
        self._note(f"{_verb(options, 'pull')} {request.places[0].module}", report)

    async def _options(self, request: m.Open) -> Options:
        """Return the options, with what of them follows the request."""
        gathering = Gathering(request.options)
        for _ in range(request.selections):
            part = (await self._channel.receive()).message
            if not isinstance(part, m.Selection):
                raise ProtocolError("the rest of the options is missing", op="receive")
            gathering.add(part)
        return gathering.options

    def _note(self, what: str, report: Report) -> None:
        files, size = report.files, report.bytes
        self._done.append(
            f"{what}: {files.considered} entries, {files.created} created, "
            f"{files.updated} updated, {files.deleted} deleted, {files.failed} failed, "
            f"{size.literal} bytes of data, {size.matched} matched"
            + (f"; {one_line(report.held, TEXT_MAX)}" if report.held else "")
        )


def _verb(options: Options, otherwise: str) -> str:
    return "verify" if options.verify else otherwise


def _recalled(memory: RememberedSources) -> tuple[list[Origin], str]:
    """Return what is remembered, and why nothing is."""
    try:
        return memory.known(), ""
    except StateError as error:
        return [], str(error)


def _shown(request: m.Message) -> str:
    """Return what the client is at, as the beginning of a line of the log."""
    match request:
        case m.Open(direction=direction):
            what = direction.value
        case m.Browse():
            what = "ls"
        case Commit():
            what = "commit"
        case Beat():
            what = "watched"
        case Watch():
            what = "watch"
        case Mirror():
            what = "mirror"
        case _:
            return ""
    return f"{what} {shown(_module_of(request).encode())}: "


def _module_of(request: m.Message) -> str:
    """Return the module that a request is about, the first of several; empty if it names none."""
    match request:
        case m.Open(places=[place, *_]) | Watch(places=[place, *_]):
            return place.module
        case m.Browse(module=module) | Commit(module=module):
            return module
        case Beat(place=place) | Mirror(place=place):
            return place.module
        case _:
            return ""
