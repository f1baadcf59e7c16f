"""A monitor that jobs ping: a small HTTP server that remembers what it was asked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Monitor:
    """Where it is, and what it was asked for, in order."""

    url: str
    paths: list[str] = field(default_factory=list)


@contextlib.contextmanager
def monitoring(status: int = 200) -> Iterator[Monitor]:
    """Answer every request with ``status`` until the block ends."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            del arguments

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Monitor(f"http://127.0.0.1:{server.server_port}/ping", paths)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
