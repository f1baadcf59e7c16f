"""A run of a job where no daemon is: the same run, under the same lock, into the same record."""

from __future__ import annotations

import trio

from netsync.modes.attempt import Attempt
from netsync.modes.job import Done, Job, Site, described
from netsync.modes.pinging import Pinger, told
from netsync.modes.record import Record, saving_in
from netsync.modes.scrubbing import Scrubber
from netsync.state.jobs import JobStates


async def scrub_directly(job: Job, site: Site) -> Done:
    """Scrub all of a job's tree and return what it came to. Raises ``StateError``."""
    states = JobStates(site.state)
    known = await trio.to_thread.run_sync(states.standing, job.name)
    record = Record(described(job, known), saving_in(states), site.now)
    return await Scrubber(job, record, site).whole()


async def run_directly(job: Job, site: Site) -> Done:
    """Run ``job`` once and return what it came to. Raises ``StateError``."""
    states = JobStates(site.state)
    known = await trio.to_thread.run_sync(states.standing, job.name)
    record = Record(described(job, known), saving_in(states), site.now)
    pinger = Pinger(job.ping, record)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pinger.work)
        done = await Attempt(job, record, site, pinger.tell, "asked to, without a daemon").run()
        told(pinger, nursery)
    return done
