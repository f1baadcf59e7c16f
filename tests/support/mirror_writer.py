"""A primary that writes until it is killed, and records what was acknowledged.

Step ``i`` appends the number ``i`` to ``numbers``; each fifth step puts a new file with the number
over the name ``slot`` first. So any prefix of the log can be told from what is not one.
"""

from __future__ import annotations

import os
import random
import struct
import sys
from pathlib import Path
from typing import Final

import trio

from netsync.operation import Level
from tests.support.mirrors import Pair, Writer

EVERY: Final = 5
NUMBER: Final = struct.Struct(">Q")


def steps_of(tree: Path) -> int:
    """Return how many steps ``tree`` shows; they must be the first ones, all of them."""
    file = tree / "numbers"
    data = file.read_bytes() if file.exists() else b""
    whole = len(data) // NUMBER.size
    numbers = [NUMBER.unpack_from(data, at * NUMBER.size)[0] for at in range(whole)]
    assert numbers == list(range(whole)), "a gap, or not in order"
    assert len(data) % NUMBER.size == 0, "half of a write"
    slot = tree / "slot"
    shown = NUMBER.unpack(slot.read_bytes())[0] if slot.exists() else -EVERY
    last = (whole - 1) // EVERY * EVERY if whole else -EVERY
    assert shown in (last, last + EVERY), f"slot {shown} where {whole} numbers are"
    assert shown <= whole, "a later operation without the ones before it"
    return whole


def step(writer: Writer, number: int) -> int:
    """Do one step; return its last operation."""
    if number % EVERY == 0:
        writer.write("new", NUMBER.pack(number))
        writer.rename("new", "slot")
    return writer.write("numbers", NUMBER.pack(number), number * NUMBER.size)


async def write(base: Path, port: int) -> None:
    """Write for ever; who waits for what is a matter of chance."""
    pair = Pair(base)
    pair.port = port
    chance = random.Random(os.getpid())
    acknowledged = os.open(base / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with pair.primary() as writer:
        (base / "ready").touch()
        number = steps_of(pair.source)
        while True:
            await writer.log.room()
            seq = step(writer, number)
            number += 1
            if chance.random() < 0.3:
                await writer.log.wait(seq, Level.DURABLE)
                os.write(acknowledged, NUMBER.pack(number))


if __name__ == "__main__":
    trio.run(write, Path(sys.argv[1]), int(sys.argv[2]))
