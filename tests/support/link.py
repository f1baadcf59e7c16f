"""A link between two daemons that can go down and come back, as a network does.

Down, it carries nothing and tells nobody: connections hang, new ones are taken by the kernel and
hang too. Up again, what waited goes on, if both ends still want it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

_LOOK_SECONDS: Final = 0.01
_READ: Final = 64 * 1024


class Link:
    """Carries connections to ``port`` of the loopback while it is up."""

    def __init__(self, port: int, listener: socket.socket) -> None:
        self.port = listener.getsockname()[1]
        self._target = port
        self._listener = listener
        self._up = threading.Event()
        self._up.set()
        self._is_deaf = False
        self._answering: set[object] = set()
        self._stopping = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def down(self) -> None:
        """Carry nothing any more."""
        self._up.clear()

    def up(self) -> None:
        """Go on."""
        self._up.set()

    def lose_answers(self) -> None:
        """From now on carry what clients send, and nothing that comes back."""
        self._is_deaf = True

    def stop(self) -> None:
        """End for good."""
        self._stopping.set()

    def carry(self) -> None:
        """Carry until stopped."""
        while not self._stopping.is_set():
            if not self._up.is_set():
                time.sleep(_LOOK_SECONDS)
                continue
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd in self._selector.get_map() and not self._is_lost(key.fileobj):
                    self._pass(key.fileobj, key.data)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self._answering.add(server)
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)

    def _is_lost(self, taken: object) -> bool:
        """Tell whether what comes from here is lost; it stays in the kernel, which fills up."""
        if self._is_deaf and taken in self._answering:
            time.sleep(_LOOK_SECONDS)
            return True
        return False

    def _pass(self, taken: object, given: socket.socket) -> None:
        assert isinstance(taken, socket.socket)
        try:
            data = taken.recv(_READ)
            if data:
                given.sendall(data)
                return
        except OSError:
            pass
        for end in (taken, given):
            self._selector.unregister(end)
            end.close()


@contextlib.contextmanager
def linked(port: int) -> Iterator[Link]:
    """Carry connections to the server on ``port`` until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = Link(port, listener)
        thread = threading.Thread(target=link.carry)
        thread.start()
        try:
            yield link
        finally:
            link.stop()
            thread.join()
