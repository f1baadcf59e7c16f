"""Jobs as a service: the daemon's lock, its control socket, and the supervisor, as one.

There is one daemon for each state directory. Who finds the lock taken says so and ends, before
anything is begun that another daemon is at.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import trio

from netsync.errors import StateError
from netsync.modes.control import Control
from netsync.modes.job import Job, Site
from netsync.modes.supervisor import Supervisor
from netsync.net.control import answer, open_control
from netsync.state import locks

_LOCK_SECONDS: Final = 1.0
"""How long to try for the lock: whoever looks whether it is held holds it for an instant."""


class JobService:
    """Carries out jobs on ``site`` from ``run`` until drained."""

    def __init__(self, site: Site) -> None:
        self.supervisor = Supervisor(site)
        self.is_running = False

    async def run(
        self,
        jobs: Mapping[str, Job],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Carry out ``jobs``, and what ``apply`` is given later. Raises ``StateError``."""
        directory = self.supervisor.site.state
        lock = await _daemon_lock(self.supervisor.site)
        try:
            listener = await open_control(directory)
            serve = functools.partial(answer, handler=Control(self.supervisor).handle)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, serve, [listener])
                async with trio.open_nursery() as working:
                    await working.start(self.supervisor.work)
                    self.is_running = True
                    self.supervisor.apply(jobs, self.supervisor.site)
                    task_status.started()
                nursery.cancel_scope.cancel()
        finally:
            lock.release()

    def apply(self, jobs: Mapping[str, Job], site: Site) -> None:
        """Carry out these jobs from now on."""
        self.supervisor.apply(jobs, site)

    def drain(self) -> None:
        """Begin nothing more, and let runs end. A second call ends them."""
        if self.is_running:
            self.supervisor.drain()

    @property
    def summary(self) -> str:
        """How the jobs are, in a few words."""
        return self.supervisor.summary if self.is_running else ""


async def _daemon_lock(site: Site) -> locks.Lock:
    with trio.move_on_after(_LOCK_SECONDS):
        while (lock := locks.take(site.state, locks.DAEMON)) is None:
            await trio.sleep(_LOCK_SECONDS / 20)
        return lock
    raise StateError(
        "another daemon carries out jobs with this state directory",
        op="use state in",
        where=str(site.state),
        hint="stop it, or give this one a directory of its own: [server] state",
    )
