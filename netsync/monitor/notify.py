"""systemd's notify protocol (sd_notify(3)): ready, reloading, stopping, status, watchdog."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

import trio


def notify(state: str) -> None:
    """Tell systemd, if it started us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), address.replace("@", "\0", 1))


def watchdog_seconds() -> float:
    """Return how long systemd waits for a sign of life; 0 if it does not."""
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if for_us and text.isdecimal() else 0.0


async def keep_watchdog(seconds: float, status: Callable[[], str]) -> None:
    """Show life at twice the pace asked for, from trio's loop: a stuck loop shows none."""
    said = ""
    while True:
        words = status()
        notify("WATCHDOG=1" if words == said else f"WATCHDOG=1\nSTATUS={words}")
        said = words
        await trio.sleep(seconds / 2)
