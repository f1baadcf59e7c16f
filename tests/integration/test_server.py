"""The server as a daemon: many clients, reloads that drop nobody, an orderly end, rights."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from netsync.identity.directory import load_identity
from tests.support.certificates import certificates, issue
from tests.support.places import ROUTES, Place, Standby, differences
from tests.support.processes import (
    Process,
    Result,
    Server,
    netsync,
    running,
    serving,
    succeed,
)
from tests.support.samples import MIB, build_tree, contents, names, random_bytes, write

SLOW: Final = ("--bwlimit", "2M", "--no-fsync")


class Daemon:
    """A server with a configuration file that the test rewrites."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.file = base / "netsync.toml"
        self.identity = shutil.copytree(certificates().issuing, base / "identity")
        self.data = write(base / "data", {"there": "1"})
        self.source = write(base / "source", {"a": "1", "b": "2"})

    def configure(self, *sections: str) -> None:
        """Write the file."""
        server = f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{self.identity}"\n'
        server += f'state = "{self.base}/state"\n'
        self.file.write_text(server + "".join(sections))

    def module(self, name: str = "m", **allow: list[str]) -> str:
        """Return a section that grants ``allow``."""
        rights = ", ".join(f"{who} = {json.dumps(held)}" for who, held in allow.items())
        return f'[module.{name}]\npath = "{self.data}"\nspecial = true\nallow = {{ {rights} }}\n'

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        """Serve what is configured."""
        with serving("--config", self.file, identity=self.identity) as server:
            yield server
            assert "internal error" not in server.log

    def push(self, server: Server, *options: str, module: str = "m") -> Result:
        """Push as primary1."""
        return netsync("push", "--no-fsync", *options, f"{self.source}/", server.url(module))

    @contextlib.contextmanager
    def slow_push(self, server: Server, identity: Path | None = None) -> Iterator[Process]:
        """Push for some two seconds; the block begins when the session is under way."""
        source = write(self.base / "slow", {f"{i:03}": random_bytes(100, i) for i in range(300)})
        write(source, {"zz-large": random_bytes(4 * MIB, 1)})
        words = ("push", "--json", *SLOW, f"{source}/", server.url("m/slow"))
        with running(*words, identity=identity) as client:
            client.wait_for((self.data / "slow" / "000").exists, "the transfer is under way")
            yield client

    def assert_slow_push_arrived(self, client: Process) -> None:
        """The push that was under way ended well and whole."""
        result = client.wait()
        assert (result.code, result.stderr) == (0, ""), result
        assert differences(self.base / "slow", self.data / "slow") == ""


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """A daemon that lets primary1 push and pull; not started yet."""
    made = Daemon(tmp_path)
    made.configure(made.module(primary1=["push", "pull"]))
    return made


def test_many_clients_at_once(standby: Standby, place: Place) -> None:
    """Pushes and pulls side by side all end as if alone."""
    source = build_tree(place.path / "source", 1, large=False)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(running(*words))
            for number in range(2)
            for words in (
                ("push", "--no-fsync", f"{source}/", f"{place.url}/push{number}"),
                ("pull", "--no-fsync", f"{place.url}/source/", f"{place.path}/pull{number}"),
            )
        ]
        results = [client.wait(40) for client in clients]
    assert [(result.code, result.stderr) for result in results] == [(0, "")] * 4
    for name in [f"{route}{number}" for route in ROUTES[:2] for number in range(2)]:
        assert differences(source, place.path / name) == ""


def test_two_clients_into_one_directory_end_whole(place: Place) -> None:
    """Whoever wins, every file is one of the two, never a mixture."""
    one = write(place.path / "one", {f"{i}": random_bytes(30_000, i) for i in range(40)})
    two = write(place.path / "two", {f"{i}": random_bytes(30_000, 99 + i) for i in range(40)})
    target = f"{place.url}/target"
    with running("push", f"{one}/", target) as first, running("push", f"{two}/", target) as second:
        assert (first.wait().code, second.wait().code) == (0, 0)
    found, ones, twos = contents(place.path / "target"), contents(one), contents(two)
    assert found.keys() == ones.keys()
    for path, fact in found.items():
        assert fact in (ones[path], twos[path])


# Rights


def test_rights_belong_to_certificates(daemon: Daemon) -> None:
    """Each certificate holds what ``allow`` names for it, in the modules that name it."""
    daemon.configure(
        daemon.module("m", primary1=["push"], auditor=["pull"]),
        daemon.module("own", auditor=["push", "pull", "delete"]),
    )
    auditor = certificates().other.directory
    with daemon.serving() as server:
        assert daemon.push(server).code == 0
        assert daemon.push(server, "--delete").code == 5
        assert netsync("pull", server.url("m/"), daemon.base / "no").code == 5
        assert daemon.push(server, module="own").code == 5
        assert netsync("push", daemon.source, server.url("m"), identity=auditor).code == 5
        succeed("pull", server.url("m/"), daemon.base / "back", identity=auditor)
        assert succeed("ls", server.url()).stdout.split() == ["m", "push"]
        listed = succeed("ls", server.url(), identity=auditor).stdout
        assert listed.splitlines() == ["m pull", "own delete,pull,push"]
        words = ("push", "--delete", f"{daemon.source}/", server.url("own"))
        succeed(*words, identity=auditor)
    assert names(daemon.base / "back") == {b"there", b"a", b"b"}
    assert names(daemon.data) == {b"a", b"b"}


# Reload


def test_a_reload_changes_rights_for_new_sessions_and_drops_none(daemon: Daemon) -> None:
    """SIGHUP: the running session keeps its rights to the end, the next one has the new ones."""
    with daemon.serving() as server:
        with daemon.slow_push(server) as client:
            daemon.configure(
                daemon.module(auditor=["pull"]), daemon.module("new", primary1=["push"])
            )
            server.reload()
            assert client.running
            assert daemon.push(server).code == 5
            assert daemon.push(server, module="new").code == 0
            daemon.assert_slow_push_arrived(client)
        assert daemon.push(server).code == 5


def test_a_reload_takes_a_renewed_certificate(daemon: Daemon) -> None:
    """After ``cert renew`` and SIGHUP new sessions see the new one, running ones go on."""
    old = (daemon.identity / "cert.pem").read_bytes()
    with daemon.serving() as server, daemon.slow_push(server) as client:
        succeed("cert", "renew", "--identity", daemon.identity, "--days", "7")
        assert (daemon.identity / "cert.pem").read_bytes() != old
        server.reload()
        assert "reloaded" in server.log
        assert daemon.push(server).code == 0
        daemon.assert_slow_push_arrived(client)


def test_a_reload_takes_another_ca(daemon: Daemon, tmp_path: Path) -> None:
    """New certificates decide about new sessions: clients of the former CA are refused."""
    with daemon.serving() as server:
        assert daemon.push(server).code == 0
        shutil.rmtree(daemon.identity)
        shutil.copytree(certificates().stranger.directory, daemon.identity)
        server.reload()
        assert daemon.push(server).code == 5
        stranger = certificates().stranger.directory
        words = ("push", f"{daemon.source}/", server.url("m"))
        assert netsync(*words, identity=stranger).code == 0


def test_a_reload_ends_the_sessions_of_revoked_certificates(daemon: Daemon) -> None:
    """Revoked means now, also in the middle of a transfer; a new session is refused."""
    issue(daemon.base / "client", "primary1", issuing=daemon.identity)
    lost = load_identity(daemon.base / "client")
    with daemon.serving() as server:
        with daemon.slow_push(server, lost.directory) as client:
            (daemon.identity / "revoked").write_text(f"{lost.serial:x}\n")
            server.reload()
            result = client.wait(10)
        assert result.code in (5, 10)
        assert result.stderr.count("\n") == 1
        refused = netsync("ls", server.url("m"), identity=lost.directory)
        assert (refused.code, "revoked" in refused.stderr) == (5, True)
        assert daemon.push(server).code == 0


@pytest.mark.parametrize("broken", ["config", "certificate", "no modules"])
def test_a_broken_reload_keeps_the_old_configuration(daemon: Daemon, broken: str) -> None:
    """The log says what is wrong, and everything goes on as before."""
    with daemon.serving() as server:
        if broken == "config":
            daemon.file.write_text("[module.m]\npth = 1\n")
        elif broken == "certificate":
            (daemon.identity / "cert.pem").write_text("not a certificate")
        else:
            daemon.configure()
        server.reload()
        assert "the old configuration stays" in server.log
        assert daemon.push(server).code == 0


# Stopping


def test_sigterm_lets_transfers_finish_and_accepts_nobody(daemon: Daemon) -> None:
    """The running transfer ends well, a new connection is refused, exit code 0."""
    with daemon.serving() as server, daemon.slow_push(server) as client:
        server.signal(signal.SIGTERM)
        server.wait_for(lambda: "stopping" in server.log, "the server drains")
        assert daemon.push(server).code == 10
        assert client.running
        daemon.assert_slow_push_arrived(client)
        assert server.wait().code == 0


def test_a_second_sigterm_ends_at_once(daemon: Daemon) -> None:
    """The client learns it (10), nothing is torn, the server's exit code is still 0."""
    with daemon.serving() as server, daemon.slow_push(server) as client:
        server.signal(signal.SIGTERM)
        server.wait_for(lambda: "stopping" in server.log, "the server drains")
        assert client.running
        server.signal(signal.SIGTERM)
        assert server.wait(5).code == 0
        assert client.wait(5).code == 10
    assert not {path for path in names(daemon.data) if b".netsync" in path}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0 without a traceback."""
    with serving("--module", f"m={tmp_path}") as server:
        server.signal(number)
        result = server.wait(5)
    assert result.code == 0
    assert "Traceback" not in result.stderr


def test_a_server_names_each_address(tmp_path: Path) -> None:
    """Several --listen options are all served, IPv6 in brackets."""
    listen = ("--listen", "127.0.0.1:0", "--listen", "[::1]:0")
    with serving("--module", f"m={tmp_path}", *listen) as server:
        lines = [line for line in server.log.splitlines() if line.startswith("listening on ")]
        addresses = [line.removeprefix("listening on ") for line in lines]
        assert len([address for address in addresses if address.startswith("[::1]:")]) == 1
        for address in addresses:
            assert succeed("ls", f"netsync://{address}/").stdout.startswith("m ")


def test_a_port_in_use_is_an_error(standby: Standby, tmp_path: Path) -> None:
    """Exit code 10 or 1 with the address; no traceback."""
    address = f"127.0.0.1:{standby.server.port}"
    words = ("serve", "--module", f"m={tmp_path}", "--listen", address)
    result = netsync(*words, identity=certificates().issuing)
    assert result.code in (1, 10)
    assert address in result.stderr
    assert "another program listens there" in result.stderr
