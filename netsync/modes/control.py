"""Answering ``netsync run`` and ``netsync wait`` in the daemon."""

from __future__ import annotations

from typing import Final

import trio

from netsync.errors import NetsyncError, UsageError
from netsync.modes.job import Ask, Done
from netsync.modes.supervisor import Supervisor
from netsync.net.control import Answer, Promote, Request, RunJob, Say

INDETERMINATE: Final = 13
"""The exit code where no answer is to be had: asking again is safe."""
NOT_DURABLE: Final = 1
_SAFE: Final = "asking again is safe"


class Control:
    """Answers for ``supervisor``."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def handle(self, request: Request, say: Say) -> Answer:
        """Do what is asked; what goes wrong is the answer."""
        del say  # what happens on the way is in the events
        began = trio.current_time()
        if isinstance(request, Promote):
            return Answer(UsageError.exit_code, "mirrors are asked for at another socket")
        try:
            runner = self._supervisor.runner(request.job)
            if isinstance(request, RunJob) and request.scrub:
                done = await self._supervisor.scrubber(request.job).ask()
            elif isinstance(request, RunJob):
                done = await runner.ask(Ask.RUN)
            else:
                done = barrier_from(await runner.ask(Ask.BARRIER))
        except NetsyncError as error:
            return Answer(error.exit_code, str(error))
        return Answer(done.code, done.words, done.report, trio.current_time() - began)


def barrier_from(done: Done) -> Done:
    """Return what a run means to somebody who waits for all to be durable on the standby."""
    if done.point is None:
        if done.retryable or done.cut:
            return Done(INDETERMINATE, f"no answer yet: {done.words} ({_SAFE})", done.report)
        return done
    if done.report is None or not done.report.durable:
        words = "all is there, but not known to be on the disk: the job has no_fsync = true"
        return Done(NOT_DURABLE, words, done.report)
    return Done(0, report=done.report, point=done.point)
