"""netsync as a client of its server, and its installation for the benchmark."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prepare import debian, venv
from prepare.processes import Process, StepError, run, say, step
from prepare.report import split_report

from benchmark.model import REFERENCE, Job
from benchmark.program import Peers


def installed(cache: Path) -> list[str]:
    """netsync from this clone in an environment of its own, made anew when the clone changed."""
    debian.ensure(
        debian.packages_for_compiling(),
        "without the compiled kernel the figures mean nothing",
        required=True,
    )
    place = cache / "venv"
    wanted = venv.fingerprint("pyproject.toml", "netsync/**/*.py", "netsync/**/*.pyx")
    with step("netsync from this clone") as remarks:
        if not venv.is_current(place, wanted):
            python = venv.create(place)
            copy = cache / "clone"
            run(["rm", "-rf", "--", copy])
            venv.pip_install(python, venv.copy_of_the_clone(copy))
            run(["rm", "-rf", "--", copy])
            venv.mark_current(place, wanted)
            remarks.append("installed")
    return [str(place / "bin" / "netsync")]


class Netsync:
    name = REFERENCE

    def __init__(self, program: Sequence[str], place: Path, flags: Sequence[str]) -> None:
        self._program = list(program)
        self._flags = list(flags)
        self._place = place
        self._numbers = itertools.count()
        standby = ["--identity", f"{place}/standby"]
        host = ["--name", "standby1", "--host", "127.0.0.1"]
        run([*self._program, "cert", "init", *standby, *host])
        run([*self._program, "cert", "issue", *standby, "primary1", "--out", f"{place}/primary"])

    @contextmanager
    def start(self, module: Path) -> Iterator[Peers]:
        """A server with an empty state directory: nothing is remembered from run to run."""
        state = self._place / f"state-{next(self._numbers)}"
        words = [*self._program, "serve", "--listen", "127.0.0.1:0", "--module", f"bench={module}"]
        words += ["--identity", f"{self._place}/standby", "--state", str(state)]
        with Process(words, self._place / "serve.said") as server:
            address = server.wait_for(r"listening on (\S+)").group(1)
            yield Peers(f"netsync://{address}/bench/", [server])

    def command(self, job: Job, peers: Peers) -> list[str]:
        source, path = job.operands
        shared = [*self._flags, *job.workload.flags, "--identity", f"{self._place}/primary"]
        return [*self._program, "push", *shared, "--json", source, peers.address + path]

    def wire_bytes(self, output: str) -> int:
        _, report = split_report(output)
        if report["result"] != "ok":
            raise StepError(f"netsync reports {report['result']}: {report['problems'][:3]}")
        if report.get("kernel") != "compiled":
            say(f"warning: netsync runs its {report.get('kernel')} kernel")
        return int(report["bytes"]["wire_sent"] + report["bytes"]["wire_received"])
