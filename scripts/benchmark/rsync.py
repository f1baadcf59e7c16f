"""rsync as a client of its daemon: in clear text, through stunnel, and over ssh."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prepare.processes import Process, StepError, run

from benchmark.model import Job, Kept
from benchmark.program import Peers, free_port, wait_until_listening
from benchmark.tunnels import ssh_daemon, ssh_keys, stunnel, tunnel_certificate

DAEMON = """\
use chroot = {chroot}
munge symlinks = no
reverse lookup = no
log file = {log}
{owner}
[bench]
path = {module}
read only = no
"""
KEEP = {Kept.ALL: "-aHAX", Kept.PLAIN: "-a"}
COUNT = re.compile(r"^Total bytes (?:sent|received): ([\d,.]+)$", re.MULTILINE)


@contextmanager
def daemon(place: Path, module: Path) -> Iterator[tuple[Process, int]]:
    """An rsync daemon in the foreground, and its port."""
    port = free_port()
    # Without chroot, which only root has, the daemon rewrites some symbolic links.
    root = os.geteuid() == 0
    chroot, owner = ("yes", "uid = root\ngid = root") if root else ("no", "")
    log = place / "rsyncd.log"
    config = place / "rsyncd.conf"
    config.write_text(DAEMON.format(chroot=chroot, log=log, owner=owner, module=module))
    words = ["rsync", "--daemon", "--no-detach", f"--config={config}"]
    words += ["--address=127.0.0.1", f"--port={port}"]
    with Process(words, place / "rsyncd.said") as process:
        wait_until_listening(port, process)
        yield process, port


class Rsync:
    """What all three have in common; this one speaks to the daemon in clear text."""

    name = "rsync-clear"

    def __init__(self, place: Path, flags: Sequence[str]) -> None:
        self.place = place
        self.flags = list(flags)

    @contextmanager
    def start(self, module: Path) -> Iterator[Peers]:
        with daemon(self.place, module) as (server, port):
            yield Peers(f"rsync://127.0.0.1:{port}/bench/", [server])

    def command(self, job: Job, peers: Peers) -> list[str]:
        source, path = job.operands
        shared = [KEEP[job.workload.kept], *job.workload.flags, *self.flags]
        if job.flushed:
            shared.append("--fsync")
        return ["rsync", *shared, "--stats", "--no-h", source, peers.address + path]

    def wire_bytes(self, output: str) -> int:
        counts = COUNT.findall(output)
        if len(counts) != 2:
            raise StepError(f"rsync printed no statistics:\n{output}")
        return sum(int(re.sub(r"\D", "", count)) for count in counts)


class RsyncOverTls(Rsync):
    """Client, stunnel, TLS 1.3 with certificates on both ends, stunnel, daemon."""

    name = "rsync-tls"

    def __init__(self, place: Path, flags: Sequence[str]) -> None:
        super().__init__(place, flags)
        tunnel_certificate(place)

    @contextmanager
    def start(self, module: Path) -> Iterator[Peers]:
        with (
            daemon(self.place, module) as (server, port),
            stunnel(self.place, "server", port) as (far, outer),
            stunnel(self.place, "client", outer) as (near, entry),
        ):
            yield Peers(f"rsync://127.0.0.1:{entry}/bench/", [server, far], [near])


class RsyncOverSsh(Rsync):
    """rsync starts itself at the other end of an ssh connection; there is no daemon."""

    name = "rsync-ssh"

    def __init__(self, place: Path, flags: Sequence[str]) -> None:
        super().__init__(place, flags)
        ssh_keys(place)

    def probe(self) -> None:
        """Log in once; raises StepError where that is not allowed, as for a locked account."""
        with ssh_daemon(self.place) as (server, shell):
            try:
                run([*shlex.split(shell), "127.0.0.1", "true"])
            except StepError as failure:
                raise StepError(f"{failure}\n{server.said().strip()}") from failure

    @contextmanager
    def start(self, module: Path) -> Iterator[Peers]:
        with ssh_daemon(self.place) as (server, shell):
            self.flags_for_ssh = ["-e", shell]
            yield Peers(f"127.0.0.1:{module}/", [server])

    def command(self, job: Job, peers: Peers) -> list[str]:
        first, *others = super().command(job, peers)
        return [first, *self.flags_for_ssh, *others]
