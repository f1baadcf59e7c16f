"""Answering ``Commit``: files that a client wants to know durable before it goes on.

It needs the right to push, and no more to overwrite: who may push may replace. The work is
``transfer/commit_target.py``'s, here or in a process of the module's user. A session may last for
as many commits as its client likes, so they are counted for the log and not told one by one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from netsync.net.channel import StreamChannel
from netsync.server import confined
from netsync.server.confined import Job
from netsync.server.modules import Module, Right, find_module, reached
from netsync.state.mirror_record import refuse_mirrored
from netsync.transfer.commit_target import take_files
from netsync.tree.roots import Anchor
from netsync.wire.committing import Commit, CommitResults, Kept


class Committing:
    """The commits of one session; all that it is given stays the session's."""

    def __init__(
        self, channel: StreamChannel, modules: Mapping[str, Module], identity: str, state: Path
    ) -> None:
        self._channel = channel
        self._modules = modules
        self._identity = identity
        self._state = state
        self._kept: dict[str, Counter[Kept]] = {}

    @property
    def done(self) -> list[str]:
        """A line for each module that files were committed to."""
        return [
            f"commit {module}: "
            + ", ".join(f"{kept[each]} {each.value}" for each in Kept if kept[each])
            for module, kept in self._kept.items()
        ]

    async def commit(self, request: Commit) -> None:
        """Take the files that follow ``request``, and answer. Raises ``NetsyncError``."""
        module = find_module(self._modules, request.module)
        module.require(self._identity, Right.PUSH)
        async with reached(module) as anchor:
            answer = await self._answered(module, request, anchor)
        counted = self._kept.setdefault(module.name, Counter())
        counted.update(each.kept for each in answer.results)

    async def _answered(self, module: Module, request: Commit, anchor: Anchor) -> CommitResults:
        def refuse_what_is_mirrored(path: bytes) -> None:
            refuse_mirrored(self._state, os.fsencode(module.path) + b"/" + path)

        if module.user is None:
            return await take_files(
                self._channel, request, anchor, special=module.special,
                guard=refuse_what_is_mirrored,
            )  # fmt: skip
        job = Job(0, [], committed=request, special=module.special)
        return await confined.commit(self._channel, module.user, job, [anchor])
