"""The body of scripts/bench: prepare, measure, report."""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmark import chart, document, machine, markdown, mirror, netsync, report, rsync
from benchmark.measure import alternate
from benchmark.model import REFERENCE, WORKLOADS, YARDSTICK, Job, Result, Storage, Workload, amount
from benchmark.options import Options, parse
from benchmark.program import Program
from benchmark.sources import Sources, read_through
from benchmark.space import disk_directory, memory_directory, warn_if_short
from benchmark.studies import Ground, investigate
from benchmark.tunnels import sshd_path
from prepare import debian
from prepare.processes import StepError, exit_on_signals, run, say

TOOLS = {"rsync": "rsync", "openssl": "openssl", "cmp": "diffutils"}
QUICK_ON_DISK = ("tree-first",)
QUICK_SECONDS = 40.0
"""From the start, with netsync's installation: what comes then needs less than a minute."""

RUNS_OF_STUDIES = 3
"""Their figures are quotients of two and more, far from the limit or far beyond it."""

ON_DISK = (REFERENCE, YARDSTICK)


def main() -> None:
    if sys.argv[1:2] == ["mirror"]:
        mirror.main(sys.argv[2:])
        return
    begin = time.monotonic()
    options = parse()
    if options.earlier:
        publish(options, document.read(options.earlier))
        return
    tools = {**TOOLS, **({"stunnel": "stunnel4"} if YARDSTICK in options.programs else {})}
    debian.ensure(debian.packages_for(tools), "to compare with rsync", required=True)
    program: list[str] = []
    if REFERENCE in options.programs or options.studies:
        program = options.netsync or netsync.installed(options.cache)
    with tempfile.TemporaryDirectory(prefix="netsync-bench-") as work:
        measured = Measurement(options, program, Path(work), begin).run()
    if options.json:
        document.write(options.json, measured)
    publish(options, measured)


def publish(options: Options, measured: document.Document) -> None:
    """Tables on the terminal, and whatever else was asked for but the JSON."""
    about, settings = measured.machine, measured.settings
    if measured.results:
        say(f"\n{report.tables(measured.results, judged=not settings['quick'])}")
    if measured.findings:
        say(f"\n{report.found(measured.findings)}")
    say(
        f"\nMedians of {measured.runs}; {about['cpu']}, {about['cores']} cores, "
        f"Linux {about['kernel']}, Python {about['python']}, {about['openssl']}, "
        f"{about['rsync']}, {about['stunnel']}"
    )
    if settings["lacks"]:
        lacks = " and ".join(settings["lacks"])
        say(f"This netsync does not keep {lacks}: where rsync runs with -aHAX it does more.")
    if settings["quick"]:
        say("Quick sizes: the start of the programs weighs more than the copying.")
    if options.svg:
        note = f"{about['cpu']}, {about['cores']} cores, loopback, {measured.when[:10]}"
        chart.write_svg(options.svg, measured.results, note)
    if options.markdown:
        say(f"\n{markdown.section(measured)}")


class Measurement:
    """All workloads and studies, one after the other."""

    def __init__(self, options: Options, program: list[str], work: Path, begin: float) -> None:
        self.options = options
        self.program = program
        self.work = work
        self.sources = Sources(options.cache, options.tree, options.size, small=options.quick)
        self.begin = begin
        self.described: dict[str, dict[str, object]] = {}

    def run(self) -> document.Document:
        options = self.options
        programs = self.programs()
        about = machine.note(self.program, options.cache)
        warn_if_short(4 * options.size)
        results: list[Result] = []
        for storage in options.storages:
            results += self.workloads(storage, programs)
        with memory_directory() as memory:
            runs = 1 if options.quick else min(options.runs, RUNS_OF_STUDIES)
            ground = Ground(self.program, memory, self.work, runs, options.quick)
            findings = investigate(ground, options.studies)
        ours = [program for program in programs if isinstance(program, netsync.Netsync)]
        settings = {
            "quick": options.quick,
            "runs": options.runs,
            "rsync_flags": options.rsync_flags,
            "netsync_flags": options.netsync_flags,
            "lacks": [name for each in ours for name in each.lacks],
        }
        return document.Document(about, settings, self.described, results, findings, document.now())

    def programs(self) -> list[Program]:
        """Those asked for."""
        made: list[Program] = []
        options = self.options
        kinds = (rsync.Rsync, rsync.RsyncOverTls)
        for name in options.programs:
            if name == rsync.RsyncOverSsh.name:
                made += self.over_ssh()
            elif name == REFERENCE:
                made.append(netsync.Netsync(self.program, self.work, options.netsync_flags))
            else:
                kind = next(kind for kind in kinds if kind.name == name)
                made.append(kind(self.work, options.rsync_flags))
        return made

    def over_ssh(self) -> list[Program]:
        """Left out with a word where there is no sshd, or this user may not log in."""
        if not sshd_path():
            say("warning: no sshd here (package openssh-server), rsync-ssh is left out")
            return []
        program = rsync.RsyncOverSsh(self.work, self.options.rsync_flags)
        try:
            program.probe()
        except StepError as failure:
            say(f"warning: rsync-ssh is left out: {failure}")
            return []
        return [program]

    def workloads(self, storage: Storage, programs: Sequence[Program]) -> list[Result]:
        """All that were asked for, on this storage; without a disk, none and a word."""
        chosen = [workload for workload in WORKLOADS if workload.name in self.options.only]
        if storage is Storage.DISK:
            programs = [program for program in programs if program.name in ON_DISK]
            if self.options.quick:
                chosen = [workload for workload in chosen if workload.name in QUICK_ON_DISK]
        if not chosen or not programs:
            return []
        results: list[Result] = []
        with ExitStack() as stack:
            try:
                place = stack.enter_context(self.place(storage, chosen))
            except StepError as failure:
                if storage is Storage.MEMORY:
                    raise
                say(f"\nwarning: nothing is measured on a disk: {failure}")
                return []
            for workload in chosen:
                results += self.measure(workload, programs, place, storage)
        return results

    def place(self, storage: Storage, chosen: Sequence[Workload]) -> AbstractContextManager[Path]:
        """A directory on this storage, with room for the largest source three times."""
        if storage is Storage.MEMORY:
            return memory_directory()
        contents = [read_through(self.sources.path(workload.source)) for workload in chosen]
        entries, size = (3 * max(column) for column in zip(*contents, strict=True))
        return disk_directory(self.options.cache, entries, size)

    def measure(
        self, workload: Workload, programs: Sequence[Program], place: Path, storage: Storage
    ) -> list[Result]:
        """Alternating runs of one workload."""
        source = self.sources.path(workload.source)
        basis = self.sources.path(workload.basis) if workload.basis else None
        module = place / "module"
        module.mkdir(exist_ok=True)
        os.sync()
        entries, size = read_through(source)
        origin = self.sources.origin(workload.source)
        self.described[workload.source] = {"origin": origin, "entries": entries, "bytes": size}
        flags = " ".join(workload.flags)
        contents = f"{entries:,} entries, {amount(size)}" if source.is_dir() else amount(size)
        what = f"{workload.title} {flags} ({contents})"
        say(f"\n{workload.name}, {storage}: {what}")
        job = Job(workload, source, size, module, basis, storage)
        results = alternate([(program, job) for program in programs], self.runs(), self.work)
        # The next workload starts without what this one left.
        for path in module.iterdir():
            run(["rm", "-rf", "--", path])
        return results

    def runs(self) -> int:
        """How often: once is enough where a slow machine has used up most of two minutes."""
        late = self.options.quick and time.monotonic() - self.begin > QUICK_SECONDS
        return 1 if late else self.options.runs


if __name__ == "__main__":
    exit_on_signals()
    try:
        main()
    except StepError as failure:
        sys.exit(f"scripts/bench: {failure}")
    except KeyboardInterrupt:
        say("scripts/bench: interrupted, everything ended and unmounted")
        sys.exit(130)
