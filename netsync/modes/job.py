"""A job: a standing order to keep two trees equal, and what carries it out.

``Job`` is the order as the configuration says it: a frozen value, so that two equal ones are the
same job and a reload can tell. A ``Runner`` carries it out. Each mode is one kind of runner; the
supervisor knows no other difference between modes.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Final, Protocol

import msgspec

from netsync.model import Options, Report
from netsync.modes.address import parse_address
from netsync.modes.copy import Run, transfer_between
from netsync.modes.route import route_of
from netsync.plan.schedule import Schedule
from netsync.plan.scrub import Pace
from netsync.plan.standing import Standing

HOOK_SECONDS: Final = 600.0
"""How long a hook may take unless the job says otherwise: long enough to quiesce a database."""


class Mode(enum.StrEnum):
    """How a job keeps its trees equal."""

    PULL = "pull"
    PUSH = "push"
    WATCH = "watch"


@dataclass(frozen=True)
class Hooks:
    """Programs to run around a run, as lists of arguments; empty ones are none."""

    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    seconds: float = HOOK_SECONDS


@dataclass(frozen=True)
class Job:
    """What ``[job.NAME]`` says. Times are in seconds; ``rpo`` None is no objective.

    ``identity`` None means the daemon's own; ``schedule`` None that no clock starts it; ``scrub``
    None that nothing is read again.
    """

    name: str
    mode: Mode
    sources: tuple[str, ...]
    target: str
    schedule: Schedule | None = None
    on_change: bool = False
    rpo: float | None = None
    options: Options = field(default_factory=Options)
    retries: int = 0
    identity: Path | None = None
    connect_timeout: float = 10.0
    timeout: float = 30.0
    hooks: Hooks = Hooks()
    ping: str = ""
    scrub: Pace | None = None

    @property
    def source(self) -> str:
        """The sources, as one text."""
        return " ".join(self.sources)


def steady() -> float:
    """Return the seconds since the machine was started, those included in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


Transfer = Callable[[Job, Run], Awaitable[Report]]


async def transfer(job: Job, run: Run) -> Report:
    """Do what a job is for, once: of a watch, compare the whole. Raises ``NetsyncError``."""
    if job.mode is Mode.WATCH:
        route = route_of(job.source, job.target)
        return await transfer_between("push", [route.source], route.target, run)()
    sources = [parse_address(source) for source in job.sources]
    return await transfer_between(job.mode.value, sources, parse_address(job.target), run)()


@dataclass(frozen=True)
class Site:
    """The host that jobs run on, as far as they need it: the rest can be put in their place.

    ``now`` is the wall clock (seconds since 1970), ``zone`` the local time that cron follows,
    ``steady`` a clock that is never set and goes on while the machine is suspended.
    """

    identity: Path
    state: Path
    now: Callable[[], float]
    zone: tzinfo
    transfer: Transfer = transfer
    steady: Callable[[], float] = steady


class Ask(enum.Enum):
    """What somebody may ask of a job."""

    RUN = "run"
    BARRIER = "barrier"


@dataclass(frozen=True)
class Done:
    """What a run, or a barrier, came to: an exit code, and words where it is not 0.

    ``point`` is the recovery point that the run made, if it made one. ``retryable`` says that
    trying again may help, ``cut`` that we ended it ourselves: it is still due.
    """

    code: int
    words: str = ""
    report: Report | None = None
    point: float | None = None
    retryable: bool = False
    cut: bool = False


class Runner(Protocol):
    """Carries out one job."""

    async def work(self) -> None:
        """Carry the job out until cancelled, or drained."""

    async def ask(self, what: Ask) -> Done:
        """Run now, or answer once all that was written before is durable on the standby."""

    def drain(self) -> None:
        """Begin nothing more; ``work`` returns when what is under way has ended."""


def described(job: Job, known: Standing | None) -> Standing:
    """Return what is known of a job, with what its configuration says now.

    What was found out about other trees says nothing about these.
    """
    same = known is not None and (known.source, known.target) == (job.source, job.target)
    before = known if known is not None and same else Standing(name=job.name)
    return msgspec.structs.replace(
        before, mode=job.mode.value, source=job.source, target=job.target, rpo=job.rpo
    )
