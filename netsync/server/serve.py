"""The server: accepts clients, runs a session for each, reloads and drains.

``Server`` owns what is shared: the current settings (replaced whole by a reload, so that a
running session keeps those it began with) and the sessions under way. A handler never raises:
whatever happens to one client ends in one line of the log, and nobody else notices.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from netsync.errors import NetsyncError, NetworkError, RefusedError, defect
from netsync.identity.contexts import server_context
from netsync.identity.directory import Identity
from netsync.identity.peer import PeerName, peer_identity
from netsync.net.channel import StreamChannel
from netsync.net.dial import accept_tls
from netsync.net.turns import Turns
from netsync.server.admission import Admission
from netsync.server.faults import OurFaultError, as_netsync_error
from netsync.server.mirrors import Mirrors
from netsync.server.modules import Module
from netsync.server.session import Session, Superseding
from netsync.wire.order import State

HANDSHAKE_SECONDS: Final = 10.0
SESSION_TIMEOUT: Final = 30.0
"""Seconds of silence after which a client counts as gone."""
DRAIN_SECONDS: Final = 60.0
"""How long a stopping server waits for transfers: below systemd's 90 seconds."""
EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""What accept(2) answers where the system or this process has no room for another connection."""
EXHAUSTED_PAUSE: Final = 0.1
"""Seconds until the next try: others may have ended by then."""
COMPLAINT_SECONDS: Final = 60.0
"""How often the log says so."""
SUPERSEDE_SECONDS: Final = 10.0
"""How long a session may take to end that is taken over: a flush to a slow disk."""

log = logging.getLogger("netsync")


@dataclass(frozen=True)
class Settings:
    """What new sessions begin with."""

    identity: Identity
    context: ssl.SSLContext
    modules: Mapping[str, Module]
    state: Path

    @classmethod
    def of(cls, identity: Identity, modules: Mapping[str, Module], state: Path) -> Settings:
        """Return settings for this identity; the TLS context is made anew."""
        return cls(identity, server_context(identity), modules, state)


@dataclass(eq=False)
class _Running:
    """A welcomed session and the certificate behind it; ``ended`` when it holds nothing more."""

    session: Session
    peer: PeerName
    scope: trio.CancelScope
    ended: trio.Event


class Server:
    """Serves clients from ``serve`` until ``drain`` is called."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: set[_Running] = set()
        self._accepting = trio.CancelScope()
        self._draining = False
        self._admission = Admission()
        self._turns = Turns()
        self._complains_at = 0.0
        self._mirrors = Mirrors(settings.state, self._end_mirror)

    def reload(self, settings: Settings) -> None:
        """Use ``settings`` from now on; sessions of certificates revoked in them end.

        So do those that watch modules which are others now, or are sent what changes: what they
        say of the old ones would pass for the new ones. Their clients come back.
        """
        changed = settings.modules != self._settings.modules
        self._settings = settings
        for running in self._running:
            if changed and running.session.is_watching:
                running.session.drain("the server has got other modules or rights just now")
            if running.peer.serial in settings.identity.revoked:
                log.warning("ending the session of %s: revoked", running.peer.name)
                running.scope.cancel()

    def drain(self) -> None:
        """Accept nobody new, let transfers finish within ``DRAIN_SECONDS``. A second call ends."""
        if self._draining:
            for running in self._running:
                running.scope.cancel()
            return
        self._draining = True
        self._accepting.cancel()
        for running in self._running:
            running.session.drain()
            running.scope.deadline = trio.current_time() + DRAIN_SECONDS

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve clients on ``listeners`` until drained."""
        async with (
            self._mirrors.running(),
            trio.open_nursery() as sessions,
        ):
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(self._accept, listener, sessions)
            for listener in listeners:
                await trio.aclose_forcefully(listener)

    async def _accept(self, listener: trio.SocketListener, sessions: trio.Nursery) -> None:
        """Accept clients for ever; where there is no descriptor left the oldest stranger goes."""
        while True:
            try:
                tcp = await listener.accept()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._complain(f"cannot accept a client: {error.strerror}: more descriptors needed")
                self._admission.make_room()
                await trio.sleep(EXHAUSTED_PAUSE)
            else:
                sessions.start_soon(self._handle, tcp)

    def _complain(self, words: str) -> None:
        """Log what may be so for long, once in a while."""
        if trio.current_time() >= self._complains_at:
            self._complains_at = trio.current_time() + COMPLAINT_SECONDS
            log.warning("%s", words)

    async def _handle(self, tcp: trio.SocketStream) -> None:
        """Serve one connection from its first byte to its last; never raises."""
        who = "a client"
        try:
            with contextlib.suppress(OSError):
                host, port = tcp.socket.getpeername()[:2]
                who = f"{host}:{port}"
            with trio.CancelScope() as scope, self._admission.stranger(scope):
                await self._serve_one(tcp, who, scope)
            if scope.cancelled_caught:
                log.warning("%s: too many others came before it said who it is", who)
        except NetsyncError as error:
            log.warning("%s", error if who in str(error) else f"{who}: {error}")
        except Exception as error:
            log.error("%s: %s", who, defect(error))  # noqa: TRY400 - one line, no traceback
        finally:
            await trio.aclose_forcefully(tcp)

    async def _serve_one(self, tcp: trio.SocketStream, who: str, place: trio.CancelScope) -> None:
        settings = self._settings
        stream = await accept_tls(tcp, settings.context, handshake_timeout=HANDSHAKE_SECONDS)
        stream.turns = self._turns
        channel = StreamChannel(
            stream, peer=who, expects=State.CLIENT_GREETS, timeout=SESSION_TIMEOUT
        )
        ended_well = False
        try:
            peer = await self._identify(channel, stream.tls, settings)
            channel.peer = f"{peer.name} ({who})"
            ended_well = await self._run(channel, peer, settings, place)
        finally:
            await channel.aclose(linger=not ended_well)

    async def _identify(
        self, channel: StreamChannel, tls: ssl.SSLSocket, settings: Settings
    ) -> PeerName:
        try:
            return peer_identity(tls, settings.identity)
        except NetsyncError as error:
            await channel.fail(RefusedError(error.why))  # the hint names our own directories
            raise

    async def _supersede(self, peer: PeerName, run: bytes) -> None:
        """End what is left of a client's run that it has come back to go on with.

        Its connection may be dead without our knowing (a host that fell silent, a new address),
        and its stage would be locked until the silence is long enough.
        """
        for running in list(self._running):
            if running.peer.name == peer.name and running.session.run_token == run:
                await self._end(running)

    async def _succeed_mirror(self, place: bytes, generation: bytes) -> None:
        """The same for one of ``generation``. Raises ``NetworkError`` if another one lives."""
        for each in self._running:
            if each.session.mirrored_place == place:
                each.session.refuse_other(generation)
        await self._end_mirror(place)

    async def _end_mirror(self, place: bytes) -> None:
        """End the session that mirrors to ``place``, whose primary has come again.

        When this returns there is none, until somebody waits for something.
        """
        while older := [each for each in self._running if each.session.mirrored_place == place]:
            await self._end(older[0])
            self._running.discard(older[0])

    async def _end(self, running: _Running) -> None:
        running.scope.cancel()
        with trio.move_on_after(SUPERSEDE_SECONDS):
            await running.ended.wait()

    async def _run(
        self,
        channel: StreamChannel,
        peer: PeerName,
        settings: Settings,
        place: trio.CancelScope,
    ) -> bool:
        """Run the session; tell the client why if it ends early. Returns if it ended well."""
        session = Session(
            channel,
            peer.name,
            settings.modules,
            settings.state,
            Superseding(lambda run: self._supersede(peer, run), self._succeed_mirror),
            self._mirrors,
        )
        with trio.CancelScope() as scope:
            running = _Running(session, peer, scope, trio.Event())
            self._running.add(running)
            if self._draining:
                session.drain()
            try:
                await session.greet()
                with self._admission.session(place, peer.name), self._turns.session():
                    await session.serve()
            except trio.Cancelled:
                raise
            except BaseException as error:
                ended = as_netsync_error(error)
                await channel.fail(ended)
                if isinstance(ended, OurFaultError):
                    raise
                log.warning("%s: %s%s", channel.peer, session.doing, ended)
                return False
            finally:
                self._running.discard(running)
                running.ended.set()
                for line in session.done:
                    log.info("%s: %s", channel.peer, line)
        if scope.cancelled_caught:
            log.warning("%s: %sended by the server", channel.peer, session.doing)
            with trio.CancelScope(shield=True):
                await channel.fail(NetworkError("the server is stopping, or refuses us by now"))
        return not scope.cancelled_caught
