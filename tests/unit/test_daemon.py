"""The daemon around its parts: what it does when it is told to stop early, and what it forgets."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC
from pathlib import Path

import trio

from netsync.config.file import load_config
from netsync.daemon import Daemon, forget_jobs
from netsync.modes.job import Site
from netsync.plan.standing import Standing
from netsync.state import locks
from netsync.state.jobs import JobStates
from tests.support.certificates import certificates


async def test_told_to_stop_while_it_waits_for_its_lock_it_stops(tmp_path: Path) -> None:
    """It would carry out jobs for ever, having forgotten that it was told."""
    file = tmp_path / "my.toml"
    file.write_text(
        f'[server]\nidentity = "{certificates().issuing}"\nstate = "{tmp_path}/state"\n'
        f'[job.web]\nmode = "push"\nsource = "{tmp_path}"\ntarget = "{tmp_path}/../to"\n'
        'every = "1h"\n'
    )
    held = locks.take(tmp_path / "state", locks.DAEMON)
    assert held is not None
    before = signal.getsignal(signal.SIGTERM)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Daemon(lambda: load_config(file), lambda line: None).run)
            while signal.getsignal(signal.SIGTERM) is before:
                await trio.lowlevel.checkpoint()
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            held.release()


async def test_jobs_of_before_are_forgotten_where_none_is_configured(tmp_path: Path) -> None:
    """They would be critical for ever: nobody carries them out."""

    def site_with(state: Path) -> Site:
        return Site(tmp_path / "identity", state, time.time, UTC)

    await forget_jobs(site_with(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    states = JobStates(tmp_path)
    states.save(Standing(name="gone"))
    held = locks.take(tmp_path, locks.DAEMON)
    assert held is not None
    await forget_jobs(site_with(tmp_path))
    assert len(states.standings()) == 1, "another daemon's"
    held.release()
    await forget_jobs(site_with(tmp_path))
    assert states.standings() == []
