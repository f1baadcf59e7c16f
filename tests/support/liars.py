"""Peers that lie, over real TLS: blocking sockets that speak netsync's frames, or what they like.

A ``Liar`` is one end of a connection in the hands of a test. It builds frames of the project's
own message classes; ``altered`` overrides any one field with a value that no honest encoder
would write, ``frame`` any part of the header. ``lying_client`` connects to a server under attack,
``lying_server`` is a server that a client under attack connects to.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from netsync.identity.contexts import Credentials, client_context, server_context
from netsync.model import Options
from netsync.wire import messages as m
from netsync.wire.codec import LIMITS, decode, plain_tail
from netsync.wire.frames import HEADER, FrameDecoder
from netsync.wire.messages import Message
from tests.support.certificates import certificates

PATIENCE: Final = 10.0
"""Seconds without an answer after which the other end has hung: a guard, never waited for."""
HELLO: Final = m.Hello(m.PROTOCOL, "liar", [])
WELCOME: Final = m.Welcome(m.PROTOCOL, "liar", [], "primary1")

Where = tuple[str | int, ...]
"""The way to a field: names and positions."""


class Ended(Exception):  # noqa: N818 - what happened, not an error
    """The other end hung up; ``fault`` is what it said before."""

    def __init__(self, fault: m.Fault | None) -> None:
        super().__init__(str(fault))
        self.fault = fault


class NoAnswer(AssertionError):  # noqa: N818 - as above
    """The other end is silent: it hangs, or waits for us."""


def plain(message: Message) -> Any:
    """Return what ``message`` is on the wire, as dicts and lists."""
    return msgspec.to_builtins(message, builtin_types=(bytes,))


def fields(value: Any, where: Where = ()) -> Iterator[Where]:
    """Yield the way to every field in ``value``, containers included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inside:
        yield (*where, key)
        if isinstance(each, dict | list | tuple):
            yield from fields(each, (*where, key))


def altered(message: Message, where: Where, value: object) -> bytes:
    """Return the body of ``message`` with the one field at ``where`` overridden."""
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(plain(message)))
    inside = whole
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = value
    return msgspec.msgpack.encode(whole)


def frame(
    kind: int,
    body: bytes = b"",
    tail: bytes = b"",
    *,
    flags: int = 0,
    zero: int = 0,
    lengths: tuple[int, int] | None = None,
) -> bytes:
    """Return a frame, its ``lengths`` announced as told."""
    announced = lengths or (len(body), len(tail))
    return HEADER.pack(kind, flags, zero, *announced) + body + tail


class Liar:
    """One end of a TLS connection, to say whatever a test likes."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.port = tls.getsockname()[1]
        self._decoder = FrameDecoder(LIMITS)
        self.tail = b""

    def raw(self, data: bytes) -> None:
        """Send bytes as they are; that the other end has hung up already is no matter."""
        with contextlib.suppress(OSError):
            self.tls.sendall(data)

    def say(self, message: Message, tail: bytes = b"", flags: int = 0) -> None:
        """Send a message as it is, whatever is wrong with its values."""
        self.raw(frame(message.type, msgspec.msgpack.encode(message), tail, flags=flags))

    def lie(self, message: Message, where: Where, value: object, tail: bytes = b"") -> None:
        """Send a message with one field overridden."""
        self.raw(frame(message.type, altered(message, where, value), tail))

    def hear(self, *kinds: type[Message]) -> Message:
        """Return the next message of one of these kinds. Raises ``Ended``."""
        while True:
            message = self._next()
            if isinstance(message, m.Fault):
                raise Ended(message)
            if isinstance(message, kinds):
                return message

    def _next(self) -> Message:
        while (got := self._decoder.next_frame()) is None:
            try:
                count = self.tls.recv_into(self._decoder.writable())
            except TimeoutError:
                raise NoAnswer from None
            except OSError:
                count = 0
            if not count:
                raise Ended(None)
            self._decoder.wrote(count)
        self.tail = bytes(plain_tail(got))
        return decode(got)

    def end(self) -> m.Fault | None:
        """Wait until the other end hangs up; return what it said before."""
        try:
            self.hear()
        except Ended as ended:
            return ended.fault
        raise AssertionError("unreachable: nothing but an end is heard")

    def greet(self) -> Liar:
        """Be welcomed."""
        self.say(HELLO)
        self.hear(m.Welcome)
        return self

    def open(
        self, direction: m.Direction, module: str, path: bytes = b"", options: Options | None = None
    ) -> Liar:
        """Be welcomed and open a transfer."""
        self.greet()
        self.say(m.Open(direction, [m.Place(module, path)], options or Options()))
        self.hear(m.Opened)
        return self

    def close(self) -> None:
        """Hang up, without a word of TLS."""
        with contextlib.suppress(OSError):
            self.tls.shutdown(socket.SHUT_RDWR)
        self.tls.close()


def context_of(who: Credentials, *, serves: bool = False) -> ssl.SSLContext:
    """Return a context that shows this certificate."""
    return server_context(who) if serves else client_context(who)


@contextlib.contextmanager
def lying_client(
    port: int, who: Credentials | None = None, context: ssl.SSLContext | None = None
) -> Iterator[Liar]:
    """Connect to a server on the loopback."""
    shown = context or client_context(who or certificates().client)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as tcp:
        liar = Liar(shown.wrap_socket(tcp, server_hostname="127.0.0.1"))
        try:
            yield liar
        finally:
            liar.close()


class LyingServer:
    """Accepts connections and plays a script for each; ``failures`` are the scripts' own."""

    def __init__(self, script: Callable[[Liar], None], who: Credentials) -> None:
        self.failures: list[BaseException] = []
        self._script = script
        self._context = server_context(who)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._stopping = False
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def url(self, place: str = "m/") -> str:
        """Return an address here."""
        return f"netsync://127.0.0.1:{self.port}/{place}"

    def _serve(self) -> None:
        players: list[threading.Thread] = []
        while not self._stopping:
            try:
                tcp, _ = self._listener.accept()
            except TimeoutError:
                continue
            tcp.settimeout(PATIENCE)
            players.append(threading.Thread(target=self._play, args=(tcp,)))
            players[-1].start()
        for player in players:
            player.join()

    def _play(self, tcp: socket.socket) -> None:
        try:
            with self._context.wrap_socket(tcp, server_side=True) as tls:
                try:
                    self._script(Liar(tls))
                finally:
                    _drain(tls)
        except (Ended, NoAnswer, OSError):
            pass  # the client had enough, which is what it should, or waits until its timeout
        except BaseException as failure:
            self.failures.append(failure)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        self._listener.close()


def _drain(tls: ssl.SSLSocket) -> None:
    """Let the client read our last words: closing on unread data would throw them away."""
    tls.settimeout(2.0)
    with contextlib.suppress(OSError):
        tls.shutdown(socket.SHUT_WR)
        while tls.recv(65536):
            pass


@contextlib.contextmanager
def lying_server(
    script: Callable[[Liar], None], who: Credentials | None = None
) -> Iterator[LyingServer]:
    """Serve clients with ``script`` until the block ends."""
    server = LyingServer(script, who or certificates().server)
    server.start()
    try:
        yield server
    finally:
        server.stop()
    for failure in server.failures:
        raise failure


def welcome(liar: Liar) -> Liar:
    """Be a server up to its ``Opened``; what the client asked is thrown away."""
    liar.hear(m.Hello)
    liar.say(WELCOME)
    liar.hear(m.Open)
    liar.say(m.Opened())
    return liar


def resident_peak(process: int, *, reset: bool = False) -> int:
    """Return the most memory a process has held, in bytes; ``reset`` begins anew."""
    if reset:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process has ended")


def descriptors(process: int) -> int:
    """Count a process's descriptors."""
    return len(os.listdir(f"/proc/{process}/fd"))


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """Return all that may not change below ``root``, but for times of reading."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        found[str(path)] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink,
            content, tuple(sorted(attributes.items())),
        )  # fmt: skip
    return found
