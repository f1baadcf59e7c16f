"""A proxy on the loopback that cuts connections, by bytes or by time, and counts what it carried.

It cuts as a network does: what it has passed on arrives, the rest is lost, and neither end is
told why. Threads with blocking sockets, since the ends are other processes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

_READ: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)

Allowance = Callable[[int], int | None]
"""Called with the number of a connection (from 0): bytes it may carry each way, None for all."""


@dataclass
class Cutting:
    """The proxy. ``rate`` limits what the client sends (bytes a second), ``seconds`` a life."""

    target: int
    allowance: Allowance
    rate: float | None = None
    seconds: float | None = None
    silently: bool = False
    port: int = 0
    carried: list[int] = field(default_factory=list)
    cuts: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def url(self, place: str) -> str:
        """Return the address of ``MODULE/PATH`` through here."""
        return f"netsync://127.0.0.1:{self.port}/{place}"

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            number = len(self.carried)
            self.carried.append(0)
            thread = threading.Thread(target=self._carry, args=(number, client))
            self._threads.append(thread)
            thread.start()

    def _carry(self, number: int, client: socket.socket) -> None:
        """Carry one connection to its end, or to where it falls silent."""
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:  # it is down: so is the way to it
            client.close()
            return
        left = self.allowance(number)
        ended = threading.Event()
        back = threading.Thread(target=self._pass, args=(server, client, left, ended, None))
        back.start()
        self._pass(client, server, left, ended, number)
        ended.set()
        back.join()
        if self.silently:
            self._stopping.wait()
        with contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.close()
        server.close()

    def _pass(
        self, taken: socket.socket, given: socket.socket, left: int | None, ended: threading.Event,
        number: int | None,
    ) -> None:  # fmt: skip
        """Pass bytes on until either end hangs up or the allowance is used up."""
        started = time.monotonic()
        carried = 0
        taken.settimeout(0.05)
        while not ended.is_set() and not self._stopping.is_set():
            if self.seconds is not None and time.monotonic() - started > self.seconds:
                break
            if left is not None and carried >= left:
                break
            try:
                data = taken.recv(_READ if left is None else min(_READ, left - carried))
                if not data:
                    ended.set()
                    return
                given.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                ended.set()
                return
            carried += len(data)
            if number is not None:
                self.carried[number] += len(data)
                if self.rate is not None:
                    time.sleep(max(0.0, started + carried / self.rate - time.monotonic()))
        if not ended.is_set() and not self._stopping.is_set():
            self.cuts += 1
            ended.set()


@contextlib.contextmanager
def cutting(
    port: int,
    allowance: Allowance = lambda number: None,
    *,
    rate: float | None = None,
    seconds: float | None = None,
    silently: bool = False,
) -> Iterator[Cutting]:
    """Carry connections to the server on ``port`` until the block ends.

    ``silently`` cuts tell neither end: both wait for the other, as with a host that fell silent.
    """
    proxy = Cutting(port, allowance, rate, seconds, silently)
    with proxy._listener as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.05)
        proxy.port = listener.getsockname()[1]
        thread = threading.Thread(target=proxy._accept)
        thread.start()
        try:
            yield proxy
        finally:
            proxy._stopping.set()
            thread.join()
            for carrier in proxy._threads:
                carrier.join()


@contextlib.contextmanager
def answers_lost(port: int, after: int, until: Callable[[], bool]) -> Iterator[int]:
    """Carry one connection to ``port``, all that the client says and the first answers.

    Once the client has said ``after`` bytes no answer arrives any more, and when ``until`` holds
    the connection is reset. Yields the port to connect to.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        ended = threading.Event()

        def carry() -> None:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            said = threading.Event()
            back = threading.Thread(target=answer, args=(server, client, said))
            back.start()
            carried = 0
            client.settimeout(0.05)
            while not ended.is_set() and not (carried > after and until()):
                with contextlib.suppress(TimeoutError):
                    data = client.recv(_READ)
                    if not data:
                        break
                    carried += len(data)
                    if carried > after:
                        said.set()
                    server.sendall(data)
            said.set()
            server.shutdown(socket.SHUT_RDWR)
            back.join()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            server.close()

        def answer(server: socket.socket, client: socket.socket, said: threading.Event) -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(_READ):
                    if not said.is_set():
                        client.sendall(data)

        thread = threading.Thread(target=carry)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()
