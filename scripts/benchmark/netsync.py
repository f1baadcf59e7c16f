"""netsync as a client of its server, and its installation for the benchmark."""

import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prepare import debian, venv
from prepare.processes import Process, StepError, run, say, step
from prepare.report import split_report

from benchmark.model import REFERENCE, Job, Kept
from benchmark.program import Peers

PLAIN = ("--no-hard-links", "--no-xattrs", "--no-acls")
PROXY = Path(__file__).with_name("delay.py")


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
    """Push over mutual TLS; all metadata is kept unless the workload keeps only the plain."""

    name = REFERENCE

    def __init__(self, program: Sequence[str], place: Path, flags: Sequence[str]) -> None:
        self._program = list(program)
        self._flags = list(flags)
        self._place = place
        self._numbers = itertools.count()
        words = run([*self._program, "push", "--help"]).split()
        self._plain = [flag for flag in PLAIN if flag in words]
        self.lacks = [flag.removeprefix("--no-") for flag in PLAIN if flag not in words]
        """What rsync -HAX keeps and this netsync does not know: there rsync does more."""
        standby = ["--identity", f"{place}/standby"]
        if not (place / "standby").exists():
            host = ["--name", "standby1", "--host", "127.0.0.1"]
            out = ["--out", f"{place}/primary"]
            run([*self._program, "cert", "init", *standby, *host])
            run([*self._program, "cert", "issue", *standby, "primary1", *out])

    @contextmanager
    def start(self, module: Path) -> Iterator[Peers]:
        """A server with an empty state directory: nothing is remembered from run to run."""
        state = self._place / f"state-{next(self._numbers)}"
        words = [*self._program, "serve", "--listen", "127.0.0.1:0", "--module", f"bench={module}"]
        words += ["--identity", f"{self._place}/standby", "--state", str(state)]
        try:
            with Process(words, self._place / "serve.said") as server:
                address = server.wait_for(r"listening on (\S+)").group(1)
                yield Peers(f"netsync://{address}/bench/", [server])
        finally:
            shutil.rmtree(state, ignore_errors=True)

    def command(self, job: Job, peers: Peers) -> list[str]:
        source, path = job.operands
        shared = [*job.workload.flags, *self._flags]
        if job.workload.kept is Kept.PLAIN:
            shared += self._plain
        if not job.flushed:
            shared.append("--no-fsync")
        identity = ["--identity", f"{self._place}/primary"]
        return [*self._program, "push", *shared, *identity, "--json", source, peers.address + path]

    def wire_bytes(self, output: str) -> int:
        _, report = split_report(output)
        if report["result"] != "ok":
            raise StepError(f"netsync reports {report['result']}: {report['problems'][:3]}")
        if report.get("kernel") != "compiled":
            say(f"warning: netsync runs its {report.get('kernel')} kernel")
        return int(report["bytes"]["wire_sent"] + report["bytes"]["wire_received"])


class DistantNetsync(Netsync):
    """The same through a proxy that holds back each byte for half of a round trip."""

    def __init__(self, program: Sequence[str], place: Path, round_trip: float) -> None:
        super().__init__(program, place, [])
        self._round_trip = round_trip

    @contextmanager
    def start(self, module: Path) -> Iterator[Peers]:
        with super().start(module) as peers:
            port = peers.address.split("/")[2].rpartition(":")[2]
            words = [sys.executable, str(PROXY), port, str(self._round_trip / 2)]
            with Process(words, self._place / "delay.said") as proxy:
                address = proxy.wait_for(r"listening on (\S+)").group(1)
                yield Peers(f"netsync://{address}/bench/", peers.server)
