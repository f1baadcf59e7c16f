"""The daemon: brings up a server and carries signals to it.

SIGHUP reads configuration and certificates again; if they are wrong the old ones stay in force.
SIGTERM and SIGINT drain; a second one ends at once. Speaks systemd's notify protocol.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable

import trio

from netsync.config import Config
from netsync.errors import ConfigError, NetsyncError
from netsync.identity.directory import default_directory, load_identity
from netsync.net.dial import listening_address, open_listeners
from netsync.server.recovering import recover_all
from netsync.server.serve import Server, Settings
from netsync.state.database import default_directory as default_state

log = logging.getLogger("netsync")


def settings_of(config: Config) -> Settings:
    """Return the settings of ``config``. Raises ``ConfigError`` and ``RefusedError``."""
    if not config.modules:
        raise ConfigError(
            "no module is configured",
            op="serve",
            hint="give --module NAME=PATH or a [module.NAME] section",
        )
    for module in config.modules.values():
        if not module.path.is_dir():
            log.warning("module %s: %s is not a directory now", module.name, module.path)
    identity = load_identity(config.identity or default_directory())
    return Settings.of(identity, config.modules, config.state or default_state())


async def run_daemon(read_config: Callable[[], Config], announce: Callable[[str], None]) -> None:
    """Serve until told to stop. ``announce`` is called with each address listened on."""
    config = read_config()
    settings = settings_of(config)
    server = Server(settings)
    paths = [module.path for module in config.modules.values()]
    await trio.to_thread.run_sync(recover_all, paths, settings.state)
    _raise_descriptor_limit()
    listeners = await open_listeners(config.listen)
    with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def heed() -> None:
                async for number in signals:
                    if number == signal.SIGHUP:
                        _reload(server, read_config, config)
                    else:
                        notify("STOPPING=1")
                        log.info("stopping; transfers under way may finish")
                        server.drain()

            nursery.start_soon(heed)
            for listener in listeners:
                announce(str(listening_address(listener)))
            notify("READY=1")
            await server.serve(listeners)
            nursery.cancel_scope.cancel()


def _reload(server: Server, read_config: Callable[[], Config], started: Config) -> None:
    notify("RELOADING=1")
    try:
        config = read_config()
        server.reload(settings_of(config))
    except NetsyncError as error:
        log.error("reload failed, the old configuration stays: %s", error)  # noqa: TRY400 - one line
    except Exception as error:  # whatever is wrong with a file, those who are served go on
        log.error("reload failed, the old configuration stays: %r", error)  # noqa: TRY400
    else:
        if config.listen != started.listen:
            log.warning("new listen addresses take effect at the next start")
        log.info("configuration and certificates reloaded")
    notify("READY=1")


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: each session holds some hundred."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address.replace("@", "\0", 1))
