"""Run the programs in turn, each from the same start, and check what they made."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from prepare.processes import Process, StepError, run, say

from benchmark.model import Job, Result, Run
from benchmark.program import Program
from benchmark.rsync import KEEP
from benchmark.space import reset, warm_memory
from benchmark.watch import MemoryWatch, busy_seconds, cpu_seconds, settle

Case = tuple[Program, Job]


def alternate(cases: Sequence[Case], runs: int, place: Path) -> list[Result]:
    """A B C, A B C, ...: whatever else the machine does meets all of them.

    Raises StepError when a program fails or its copy differs from the source.
    """
    one_job = len({job.workload for _, job in cases}) == 1
    results = [Result(job.workload, program.name, job.storage) for program, job in cases]
    for number in range(runs):
        line = [f"  run {number + 1} of {runs}:"]
        for (program, job), result in zip(cases, results, strict=True):
            reset(job)
            result.runs.append(once(program, job, place))
            check(job, program.name, contents=number == 0)
            label = program.name if one_job else job.workload.name
            line.append(f"{label} {result.runs[-1].seconds:.2f} s")
        say("  ".join(line))
    return results


def once(program: Program, job: Job, place: Path) -> Run:
    """One timed run: from the client's start to its end, servers already waiting."""
    output, log = place / "client.output", place / "client.log"
    with program.start(job.module) as peers:
        server = [process.pid for process in peers.server]
        helpers = [process.pid for process in peers.client]
        warm_memory(job.size)
        busy, from_ = busy_seconds(), time.monotonic()
        before = [sum(map(cpu_seconds, pids)) for pids in (server, helpers)]
        with MemoryWatch(server, helpers) as memory:
            begin = time.monotonic()
            with Process(program.command(job, peers), log, output=output) as client:
                memory.client.append(client.pid)
                status = client.wait()
            seconds = time.monotonic() - begin
            settle([*server, *helpers])
        after = [sum(map(cpu_seconds, pids)) for pids in (server, helpers)]
        busy, watched = busy_seconds() - busy, time.monotonic() - from_
    if status:
        said = "\n".join([log.read_text(), *(process.said() for process in peers.server)])
        raise StepError(f"{program.name}: exit {status}\n{said.strip()}")
    client_cpu = client.usage.cpu + after[1] - before[1]
    server_cpu = after[0] - before[0]
    return Run(
        seconds=seconds,
        wire_bytes=program.wire_bytes(output.read_text(errors="surrogateescape")),
        client_cpu=client_cpu,
        server_cpu=server_cpu,
        client_rss=memory.peak_client,
        server_rss=memory.peak_server,
        other_cpu=max(0.0, busy - client_cpu - server_cpu) * seconds / watched,
    )


def check(job: Job, program: str, *, contents: bool) -> None:
    """Source and target must be equal; of a tree, contents are read only when asked."""
    if job.source.is_dir():
        how = [KEEP[job.workload.kept], "-ni", "--delete", *(["-c"] if contents else [])]
        lines = run(["rsync", *how, f"{job.source}/", f"{job.target}/"]).splitlines()
        if os.geteuid() != 0 and program.startswith("rsync"):
            # An rsync daemon that may not chroot rewrites links such as ../../././x.
            lines = [line for line in lines if not line.startswith("cLc")]
        differences = "\n".join(lines)
    else:
        differences = run(["cmp", job.source, job.target], accept=(0, 1)).strip()
        if job.source.stat().st_mtime_ns != job.target.stat().st_mtime_ns:
            differences += "modification times differ"
    others = sorted(path.name for path in job.module.iterdir() if path != job.target)
    if differences or others:
        what = differences[:2000] or f"it left {', '.join(others)} in the module"
        raise StepError(f"{program}, {job.workload.name}: the copy is wrong:\n{what}")
