"""The body of scripts/bench: prepare, measure, report."""

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark import chart, netsync, report, rsync
from benchmark.measure import alternate
from benchmark.model import REFERENCE, WORKLOADS, Job, Result
from benchmark.options import Options, parse
from benchmark.program import Program
from benchmark.sources import Sources, read_through
from benchmark.space import memory_directory, warn_if_short
from benchmark.tunnels import sshd_path
from prepare import debian
from prepare.processes import StepError, exit_on_signals, run, say

TOOLS = {"rsync": "rsync", "openssl": "openssl", "cmp": "diffutils"}


def main() -> None:
    options = parse()
    tools = {**TOOLS, **({"stunnel": "stunnel4"} if "rsync-tls" in options.programs else {})}
    debian.ensure(debian.packages_for(tools), "to compare with rsync", required=True)
    program: list[str] = []
    if REFERENCE in options.programs:
        program = options.netsync or netsync.installed(options.cache)
    with tempfile.TemporaryDirectory(prefix="netsync-bench-") as work, memory_directory() as memory:
        Measurement(options, program, Path(work), memory).run()


class Measurement:
    """All workloads, one after the other."""

    def __init__(self, options: Options, program: list[str], work: Path, memory: Path) -> None:
        self.options = options
        self.program = program
        self.work = work
        self.memory = memory
        self.sources = Sources(options.cache, options.tree, options.size, small=options.quick)
        self.sizes: dict[str, tuple[int, int]] = {}
        self.results: list[Result] = []

    def run(self) -> None:
        programs = self.programs()
        warn_if_short(4 * self.options.size)
        for workload in WORKLOADS:
            if workload.name in self.options.only:
                self.measure(workload.name, programs)
        about = report.machine(self.program)
        say(f"\n{report.table(self.results)}")
        say(self.note(about))
        if self.options.quick:
            say("Quick sizes: the start of the programs weighs more than the copying.")
        if self.options.json:
            sizes, results = self.sizes, self.results
            report.write_json(self.options.json, self.options, about, sizes, results)
        if self.options.svg:
            chart.write_svg(self.options.svg, self.results, f"{about['cpu']}, loopback, tmpfs")

    def programs(self) -> list[Program]:
        """Those asked for; ssh is left out with a word where there is no sshd."""
        made: list[Program] = []
        flags = self.options.rsync_flags
        for name in self.options.programs:
            if name == "rsync-ssh" and not sshd_path():
                say("warning: no sshd on this machine, rsync-ssh is left out")
            elif name == REFERENCE:
                mine = self.options.netsync_flags
                made.append(netsync.Netsync(self.program, self.work, mine))
            else:
                kinds = (rsync.Rsync, rsync.RsyncOverTls, rsync.RsyncOverSsh)
                kind = next(kind for kind in kinds if kind.name == name)
                made.append(kind(self.work, flags))
        return made

    def measure(self, name: str, programs: Sequence[Program]) -> None:
        workload = next(workload for workload in WORKLOADS if workload.name == name)
        source = self.sources.path(workload.source)
        basis = self.sources.path(workload.basis) if workload.basis else None
        module = self.memory / "module"
        module.mkdir(exist_ok=True)
        os.sync()
        entries, size = self.sizes[workload.source] = read_through(source)
        flags = " ".join(workload.flags)
        say(f"\n{name}: {workload.title} {flags} ({entries:,} entries, {report.amount(size)})")
        job = Job(workload, source, size, module, basis)
        compare = self.options.rsync_flags
        self.results += alternate(programs, job, self.options.runs, self.work, compare)
        # The next workload starts without what this one left in memory.
        for path in module.iterdir():
            run(["rm", "-rf", "--", path])

    def note(self, about: dict[str, object]) -> str:
        return (
            f"rsync {shlex.join(self.options.rsync_flags)}; medians of {self.options.runs} runs; "
            f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, "
            f"Python {about['python']}, {about['openssl']}, {about['rsync']}"
        )


if __name__ == "__main__":
    exit_on_signals()
    try:
        main()
    except StepError as failure:
        sys.exit(f"scripts/bench: {failure}")
    except KeyboardInterrupt:
        say("scripts/bench: interrupted, everything ended and unmounted")
        sys.exit(130)
