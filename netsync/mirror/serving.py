"""The mount from its first request to its last.

Requests are served by tasks of pyfuse3. When the mirror is to end, the mount is removed first; the
kernel sends what it still has, and the tasks end by themselves. A mount that is in use is not torn
from under a database: who uses it is told to whoever asked, and the end waits for them, unless it
is asked for again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Final

import pyfuse3
import trio

from netsync.mirror.filesystem import Filesystem
from netsync.mirror.greeting import Greeting
from netsync.mirror.mounting import Busy, mount, unmount, users_of
from netsync.names import shown

TASKS_MAX: Final = 256
"""Requests under way at once; more wait in the kernel. Each has a buffer of 1 MiB, of which it
touches what it receives. All may be waiting for a standby, then nobody is left to read."""
_BUSY_SECONDS: Final = 0.5
"""Between two tries to remove a mount that is in use."""
_USERS_SHOWN: Final = 5

Say = Callable[[str], None]


class Mount:
    """A file system on ``mountpoint``. There is one in a process.

    ``is_detached``: nobody finds it any more, but some may still use it.
    """

    def __init__(self, mountpoint: bytes, filesystem: Filesystem, root: int) -> None:
        self._mountpoint = mountpoint
        self._filesystem = filesystem
        self._root = root
        self.is_detached = False

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount, and serve until unmounted. What ends it otherwise leaves the mount dead."""
        device = await trio.to_thread.run_sync(mount, self._mountpoint, self._root)
        greeting = Greeting(device)
        try:
            pyfuse3.init(self._filesystem, f"/dev/fd/{greeting.fd}", set())
            await greeting.exchange(pyfuse3.main)
            task_status.started()
            await pyfuse3.main(max_tasks=TASKS_MAX)
        finally:
            pyfuse3.close(unmount=False)

    async def end(self, again: trio.Event, say: Say) -> None:
        """Unmount, when nobody uses it any more or at once when ``again`` is set."""
        said = False
        while True:
            try:
                await trio.to_thread.run_sync(unmount, self._mountpoint)
            except Busy:
                pass
            else:
                return
            if not said:
                say(await trio.to_thread.run_sync(_words, self._mountpoint))
                said = True
            with trio.move_on_after(_BUSY_SECONDS):
                await again.wait()
            if again.is_set():
                detach = functools.partial(unmount, self._mountpoint, detach=True)
                await trio.to_thread.run_sync(detach)
                self.is_detached = True
                return


def _words(mountpoint: bytes) -> str:
    """Return what to say of a mount that is in use."""
    users = [user for user in users_of(mountpoint) if user.pid != os.getpid()]
    names = ", ".join(f"{user.name} ({user.pid})" for user in users[:_USERS_SHOWN])
    more = f" and {len(users) - _USERS_SHOWN} more" if len(users) > _USERS_SHOWN else ""
    return (
        f"{shown(mountpoint)} is in use{' by ' if names else ''}{names}{more}: waiting for them "
        "to end; a second signal does not wait"
    )
