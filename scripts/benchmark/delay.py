"""A proxy that holds back what passes through it: a long line, simulated on loopback.

    python delay.py PORT SECONDS

It accepts on a port that the kernel picks, says which, and connects on to PORT. Each byte comes
out SECONDS after it went in, in either direction, at any rate; what a connection sends first waits
for a round trip more, as it would for the handshake of TCP. Standard library only: it runs in an
interpreter of its own, so that it takes no time from who is measured but what the copying costs.
"""

import asyncio
import sys
from contextlib import suppress

PIECE = 1 << 16
"""Bytes read at a time."""

UNDERWAY = 1024
"""Pieces held in each direction: 64 MiB, what 25 ms hold at 20 Gbit/s."""

Held = asyncio.Queue[tuple[float, bytes]]


async def take(reader: asyncio.StreamReader, held: Held, delay: float) -> None:
    """Note for each piece when it is due; an empty piece is the end."""
    now = asyncio.get_running_loop().time
    piece = b"-"
    while piece:
        with suppress(ConnectionError):
            piece = b""  # a connection cut off ends here as well
            piece = await reader.read(PIECE)
        await held.put((now() + delay, piece))


async def give(held: Held, writer: asyncio.StreamWriter) -> None:
    """Send each piece when it is due; what the receiver no longer takes is thrown away."""
    now = asyncio.get_running_loop().time
    open_ = True
    while True:
        due, piece = await held.get()
        await asyncio.sleep(max(0.0, due - now()))
        if not piece:
            break
        if open_:
            try:
                writer.write(piece)
                await writer.drain()
            except ConnectionError:
                open_ = False
    with suppress(OSError):
        writer.write_eof()


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, delay: float
) -> None:
    """One connection, until both directions have ended."""
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
    out, back = Held(UNDERWAY), Held(UNDERWAY)
    try:
        await asyncio.sleep(2 * delay)
        await asyncio.gather(
            take(reader, out, delay),
            give(out, onward_writer),
            take(onward_reader, back, delay),
            give(back, writer),
        )
    finally:
        writer.close()
        onward_writer.close()


async def serve(port: int, delay: float) -> asyncio.Server:
    """A server that relays each connection to the port; it accepts already."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(reader, writer, port, delay)

    return await asyncio.start_server(accepted, "127.0.0.1", 0)


async def main(port: int, delay: float) -> None:
    server = await serve(port, delay)
    host, chosen = server.sockets[0].getsockname()
    sys.stdout.write(f"listening on {host}:{chosen}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
