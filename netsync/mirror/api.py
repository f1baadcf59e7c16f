"""``netsync.mirror`` for Python: a directory that is written through here is on its standbys too.

``async with mirror(DIR, "host::module/path") as m`` holds one in trio; ``with`` holds one for a
program that knows nothing of trio. What is written is in DIR at once, for anybody to read. It is on
the standbys when ``commit`` returns: its number stands for everything that was done before. Nobody
else may change DIR meanwhile, as with a mount.

A commit whose answer does not come raises ``Indeterminate``: what was written is here, and on the
standby perhaps. It is never called failed, and committing again is the way to know.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Final, TypedDict, Unpack

from netsync.defaults import identity_directory, state_directory
from netsync.errors import IndeterminateError, UsageError
from netsync.mirror.blocking import BlockingMirror
from netsync.mirror.primary import opened
from netsync.mirror.tree import Tree
from netsync.mirror.wanted import WantedMirror
from netsync.mirror.writer import AnyPath, Mirror
from netsync.modes.address import Remote, parse_address
from netsync.modes.session import Connection
from netsync.operation import Level, Loss
from netsync.oplog.log import LogPolicy

Indeterminate = IndeterminateError
"""What ``commit`` raises when the answer did not come."""

_LEVELS: Final = {level.name.lower(): level for level in Level}


class Settings(TypedDict, total=False):
    """What may be said of a mirror beside its places; the same as options of ``netsync mirror``.

    ``identity`` and ``state`` are directories, times are in seconds.
    """

    identity: AnyPath
    state: AnyPath
    level: str
    on_standby_loss: str
    loss_timeout: float
    timeout: float
    connect_timeout: float
    epoch: int
    adopt: bool


@contextlib.asynccontextmanager
async def _held(wanted: WantedMirror) -> AsyncGenerator[Mirror]:
    async with opened(wanted) as primary:
        tree = Tree(primary.root, primary.log)
        try:
            yield Mirror(tree, primary.log, wanted.policy.level)
        finally:
            tree.close()


class mirror:  # noqa: N801 - used like a function
    """Hold ``directory`` as the primary of a mirror to ``standbys``, at least one.

    ``async with`` gives a ``Mirror``, ``with`` a ``BlockingMirror``. It begins once all standbys
    are compared and in step, and waits for one that cannot be reached. Leaving it well waits until
    the standbys have everything. Raises ``NetsyncError``.
    """

    def __init__(self, directory: AnyPath, *standbys: str, **settings: Unpack[Settings]) -> None:
        self._wanted = _wanted(os.fsencode(directory), standbys, settings)
        self._async: contextlib.AbstractAsyncContextManager[Mirror] | None = None
        self._blocking: BlockingMirror | None = None

    async def __aenter__(self) -> Mirror:
        """Begin."""
        self._async = _held(self._wanted)
        return await self._async.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End."""
        assert self._async is not None
        await self._async.__aexit__(kind, value, traceback)

    def __enter__(self) -> BlockingMirror:
        """Begin."""
        self._blocking = BlockingMirror.start(lambda: _held(self._wanted))
        return self._blocking

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End."""
        assert self._blocking is not None
        self._blocking.end(well=value is None)


def _wanted(directory: bytes, standbys: tuple[str, ...], given: Settings) -> WantedMirror:
    places = [parse_address(each) for each in standbys]
    remotes = tuple(each for each in places if isinstance(each, Remote))
    if not remotes or len(remotes) < len(places):
        raise UsageError("standbys are remote, and at least one", op="mirror",
                         hint="write HOST::MODULE/PATH")  # fmt: skip
    connection = Connection(
        Path(
            os.fsdecode(
                given.get("identity") or os.environ.get("NETSYNC_IDENTITY") or identity_directory()
            )
        ),
        given.get("connect_timeout", 10.0),
        given.get("timeout", 30.0),
    )
    level = given.get("level", "durable")
    if level not in _LEVELS:
        raise UsageError(f"{level!r} is no level", op="mirror", hint=", ".join(_LEVELS))
    loss = given.get("on_standby_loss", "block")
    if loss not in list(Loss):
        raise UsageError(f"{loss!r} is no policy", op="mirror", hint=", ".join(Loss))
    policy = LogPolicy(_LEVELS[level], Loss(loss), given.get("loss_timeout", 30.0))
    state = Path(
        os.fsdecode(given.get("state") or os.environ.get("NETSYNC_STATE") or state_directory())
    )
    return WantedMirror(
        directory, remotes, connection, state, policy, given.get("epoch"),
        given.get("adopt", False),
    )  # fmt: skip
