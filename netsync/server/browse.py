"""Answering ``netsync ls``: the modules, or the entries of a path in one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from netsync.errors import root_error
from netsync.model import Entry
from netsync.net.channel import Channel
from netsync.server.modules import Module
from netsync.tree.directories import Directories
from netsync.tree.roots import Anchor, open_source
from netsync.tree.scan import entry_at, names_in
from netsync.tree.threads import in_thread
from netsync.wire.messages import Browsed, ModuleInfo

_ENTRIES: Final = 512
_BYTES: Final = 64 * 1024
"""Entries, and bytes of names and link texts, in one message."""


async def send_modules(channel: Channel, modules: Mapping[str, Module], identity: str) -> None:
    """Tell the modules that ``identity`` has a right in."""
    shown = [
        ModuleInfo(module.name, sorted(right.value for right in rights))
        for module in modules.values()
        if (rights := module.rights_of(identity))
    ]
    await channel.send(Browsed(modules=shown, final=True))


async def send_entries(channel: Channel, anchor: Anchor, path: bytes) -> None:
    """Tell the entries at ``path`` below ``anchor``. Raises ``RefusedError`` and ``RootError``."""
    batches = _batches(anchor, path)
    while (batch := await in_thread(_next, batches)) is not None:
        await channel.send(Browsed(entries=batch))
    await channel.send(Browsed(final=True))


def _next(batches: Iterator[list[Entry]]) -> list[Entry] | None:
    return next(batches, None)


def _batches(anchor: Anchor, path: bytes) -> Iterator[list[Entry]]:
    """Yield the entries of the directory at ``path``, or the one entry that it is."""
    root = open_source(anchor, path, b"")
    try:
        with Directories(root.fd) as directories:
            yield from _listed(directories, root.name)
    except OSError as error:
        raise root_error(error, op="list", where=path) from error
    finally:
        os.close(root.fd)


def _listed(directories: Directories, name: bytes) -> Iterator[list[Entry]]:
    try:
        fd = directories.fd(name)
    except NotADirectoryError:
        yield [entry_at(directories.root, name)]
        return
    batch: list[Entry] = []
    size = 0
    for child in names_in(fd)[0]:
        try:
            entry = entry_at(fd, child)
        except FileNotFoundError:
            continue
        batch.append(entry)
        size += len(entry.name) + len(entry.target)
        if len(batch) >= _ENTRIES or size >= _BYTES:
            yield batch
            batch, size = [], 0
    yield batch
