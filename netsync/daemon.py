"""The daemon: brings up a server and the jobs, and carries signals to them.

SIGHUP reads configuration and certificates again; if they are wrong the old ones stay in force.
SIGTERM and SIGINT drain; a second one ends at once. Speaks systemd's notify protocol. A daemon
with jobs holds the lock of its state directory: there is one for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import trio

from netsync.config.file import Config
from netsync.errors import ConfigError, NetsyncError, StateError
from netsync.identity.directory import default_directory, load_identity
from netsync.modes.job import Site
from netsync.modes.parting import leave_others
from netsync.modes.service import JobService
from netsync.monitor.notify import keep_watchdog, notify, watchdog_seconds
from netsync.net.address import parse_address
from netsync.net.dial import listening_address, open_listeners
from netsync.server.receiving import forget_strangers
from netsync.server.recovering import recover_all
from netsync.server.serve import Server, Settings
from netsync.state import locks
from netsync.state.database import default_directory as default_state
from netsync.state.jobs import JobStates
from netsync.tree.capability import raise_descriptor_limit

log = logging.getLogger("netsync")

_STATUS_SECONDS: Final = 30.0
"""How often systemd is told a status where it has no watchdog."""

Announce = Callable[[str], None]
"""Tells the administrator one line."""


def settings_of(config: Config) -> Settings:
    """Return the settings of ``config``. Raises ``ConfigError`` and ``RefusedError``."""
    if not config.modules and not config.jobs:
        raise ConfigError(
            "no module and no job is configured",
            op="serve",
            hint="give --module NAME=PATH, a [module.NAME] or a [job.NAME] section",
        )
    for module in config.modules.values():
        if not module.path.is_dir():
            log.warning("module %s: %s is not a directory now", module.name, module.path)
    identity = load_identity(config.identity or default_directory())
    return Settings.of(identity, config.modules, config.state or default_state())


def site_of(config: Config) -> Site:
    """Return what jobs need of this host."""
    return Site(
        config.identity or default_directory(),
        config.state or default_state(),
        time.time,
        local_zone(),
    )


def local_zone(file: Path = Path("/etc/localtime")) -> tzinfo:
    """Return the zone that cron times are in: that of ``TZ``, else the system's, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            log.warning("TZ=%s is no time zone by name: schedules follow the system's", name)
    try:
        with file.open("rb") as opened:
            return ZoneInfo.from_file(opened)
    except (OSError, ValueError):
        return UTC


async def run_daemon(read_config: Callable[[], Config], announce: Announce) -> None:
    """Serve and carry out jobs until told to stop. ``announce`` gets lines for who started us."""
    await Daemon(read_config, announce).run()


class Daemon:
    """A server and jobs that live and end together."""

    def __init__(self, read_config: Callable[[], Config], announce: Announce) -> None:
        self._read_config = read_config
        self._announce = announce
        self._config = self._started = read_config()
        self._server = Server(settings_of(self._config))
        self._jobs = JobService(site_of(self._config))
        self._draining = trio.Event()
        self._working: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve and carry out jobs until told to stop."""
        config = self._config
        ours = [module.path for module in config.modules.values() if module.user is None]
        state = config.state or default_state()
        await trio.to_thread.run_sync(recover_all, ours, state)
        await trio.to_thread.run_sync(forget_strangers, state, config.modules)
        if not config.jobs:
            await forget_jobs(site_of(config))
        raise_descriptor_limit()
        listeners = await open_listeners(config.listen if config.listens else ())
        with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
            async with self._with_metrics(), trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals)
                async with trio.open_nursery() as self._working:
                    await self._carry_out(config)
                    if self._draining.is_set():  # told to stop while the lock was waited for
                        self._jobs.drain()
                    for listener in listeners:
                        self._announce(f"listening on {listening_address(listener)}")
                    if listeners:
                        self._working.start_soon(self._server.serve, listeners)
                    notify("READY=1")
                    nursery.start_soon(self._show_life)
                    await self._draining.wait()
                nursery.cancel_scope.cancel()

    async def _carry_out(self, config: Config) -> None:
        """Carry out the jobs of ``config``. Who has none, and tells nobody of its health, needs no
        lock and no socket.
        """
        assert self._working is not None
        if self._jobs.is_running:
            self._jobs.apply(config.jobs, self._site_of(config))
        elif config.jobs or config.metrics:
            self._jobs = JobService(self._site_of(config))
            await self._working.start(self._jobs.run, config.jobs)
            if config.jobs:
                self._announce(f"carrying out jobs: {', '.join(sorted(config.jobs))}")

    def _site_of(self, config: Config) -> Site:
        """Return what a reload makes of the site: not the directory whose lock we hold, nor the
        zone, which is another object each time it is read.
        """
        now = self._jobs.supervisor.site
        return dataclasses.replace(site_of(config), state=now.state, zone=now.zone)

    @contextlib.asynccontextmanager
    async def _with_metrics(self) -> AsyncGenerator[None]:
        """Serve metrics meanwhile, if they are asked for."""
        if not self._config.metrics:
            yield
            return
        from netsync.monitor.metrics import MetricsServer  # noqa: PLC0415 - 60 ms

        directory = self._jobs.supervisor.site.state
        server = MetricsServer(parse_address(self._config.metrics, None), directory)
        self._announce(f"metrics on {server.address}")
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(server.close)

    async def _show_life(self) -> None:
        """Tell systemd how the jobs are, and that this loop runs."""
        await keep_watchdog(watchdog_seconds() or _STATUS_SECONDS, lambda: self._jobs.summary)

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                await self._reload()
                continue
            notify("STOPPING=1")
            log.info("stopping; transfers under way may finish")
            self._server.drain()
            self._jobs.drain()
            self._draining.set()

    async def _reload(self) -> None:
        notify("RELOADING=1")
        try:
            config = self._read_config()
            settings = settings_of(config)
            await self._carry_out(config)
            self._server.reload(settings)
            await trio.to_thread.run_sync(forget_strangers, settings.state, config.modules)
        except NetsyncError as error:
            log.error("reload failed, the old configuration stays: %s", error)  # noqa: TRY400 - one line
        except Exception as error:  # whatever is wrong with a file, those who are served go on
            log.error("reload failed, the old configuration stays: %r", error)  # noqa: TRY400
        else:
            self._config = config
            self._warn_of_what_stays()
            log.info("configuration and certificates reloaded")
        notify("READY=1")

    def _warn_of_what_stays(self) -> None:
        now, then = self._config, self._started
        for what in ("listen", "listens", "metrics", "state"):
            if getattr(now, what) != getattr(then, what):
                log.warning("a new value of [server] %s takes effect at the next start", what)


async def forget_jobs(site: Site) -> None:
    """Forget the jobs of before, where none is configured and no other daemon has some.

    They would be told to be behind for ever, here and by the standbys of watches. Raises nothing.
    """
    try:
        states = JobStates(site.state)
        known = await trio.to_thread.run_sync(states.standings)
        if known and (lock := locks.take(site.state, locks.DAEMON)) is not None:
            try:
                await leave_others(states, site, (), {})
                await trio.to_thread.run_sync(states.keep_only, ())
            finally:
                lock.release()
    except StateError as error:
        log.error("%s", error)  # noqa: TRY400 - one line
