"""stunnel and sshd on loopback, with keys made for this run."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prepare.processes import Process, run

from benchmark.program import free_port, wait_until_listening

SEPARATION = Path("/run/sshd")
STUNNEL = """\
foreground = yes
pid =
debug = warning
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[rsync]
client = {client}
accept = 127.0.0.1:{accept}
connect = 127.0.0.1:{connect}
sslVersionMin = TLSv1.3
cert = {place}/tunnel.pem
key = {place}/tunnel.key
CAfile = {place}/tunnel.pem
verifyChain = yes
"""
SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {place}/ssh-host
AuthorizedKeysFile {place}/ssh-user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
SSH = (
    "ssh -F none -p {port} -i {place}/ssh-user -c aes128-gcm@openssh.com -o BatchMode=yes "
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
)


def tunnel_certificate(place: Path) -> None:
    """One certificate that both ends show and both ends trust."""
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=netsync-bench", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", f"{place}/tunnel.key", "-out", f"{place}/tunnel.pem"]
    run(["openssl", "req", "-x509", *kind, *names, *files])


@contextmanager
def stunnel(place: Path, side: str, connect: int) -> Iterator[tuple[Process, int]]:
    """One end of the tunnel, and the port it accepts on."""
    accept = free_port()
    config = place / f"stunnel-{side}.conf"
    client = "yes" if side == "client" else "no"
    config.write_text(STUNNEL.format(client=client, accept=accept, connect=connect, place=place))
    program = shutil.which("stunnel") or shutil.which("stunnel4") or "stunnel"
    with Process([program, config], place / f"stunnel-{side}.said") as process:
        wait_until_listening(accept, process)
        yield process, accept


def sshd_path() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def ssh_keys(place: Path) -> None:
    for name in ("ssh-host", "ssh-user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name])


@contextmanager
def ssh_daemon(place: Path) -> Iterator[tuple[Process, str]]:
    """An sshd of our own, and the remote shell command that reaches it."""
    port = free_port()
    config = place / "sshd.conf"
    config.write_text(SSHD.format(port=port, place=place))
    program = sshd_path() or "sshd"
    with (
        _separation(),
        Process([program, "-D", "-e", "-f", config], place / "sshd.said") as process,
    ):
        wait_until_listening(port, process)
        yield process, SSH.format(port=port, place=place)


@contextmanager
def _separation() -> Iterator[None]:
    """sshd of root wants the directory that Debian compiles in, even where no sshd ever ran."""
    made = os.geteuid() == 0 and not SEPARATION.exists()
    if made:
        SEPARATION.mkdir(mode=0o755)
    try:
        yield
    finally:
        if made:
            with suppress(OSError):  # another sshd, started meanwhile, may use it
                SEPARATION.rmdir()
