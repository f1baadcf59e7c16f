"""What goes wrong in practice: one clear line, the contract's exit code, nothing lost, and a
server that goes on serving.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import certificates, issue
from tests.support.places import Place, Standby, differences
from tests.support.processes import (
    Process,
    Result,
    Server,
    netsync,
    running,
    serving,
    succeed,
    wait_until,
)
from tests.support.samples import (
    MIB,
    PRIVILEGED,
    Facts,
    contents,
    names,
    random_bytes,
    snapshot,
    write,
)

needs_root = pytest.mark.skipif(not PRIVILEGED, reason="needs root")
Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers of the test's own; all of them are gone afterwards."""
    with contextlib.ExitStack() as stack:
        yield lambda *words, **more: stack.enter_context(serving(*words, **more))


def assert_failed(result: Result, code: int, *words: str) -> None:
    """The run failed with one line that holds ``words``, and a report that says so."""
    assert result.code == code, result
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("netsync: ")
    for word in words:
        assert word in lines[0]


def assert_still_serves(place: Place) -> None:
    source = write(place.path.parent / f"{place.path.name}-after", {"f": "1"})
    succeed("push", "--no-fsync", f"{source}/", f"{place.url}/after-it-all")
    assert contents(place.path / "after-it-all")[b"f"] == contents(source)[b"f"]


# Certificates


def test_a_client_of_another_ca_is_refused(place: Place) -> None:
    """The client rejects the server's certificate first: exit code 5, and it names the CA."""
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", identity=certificates().stranger.directory)
    assert_failed(result, 5, "unknown CA")
    assert not (place.path / "target").exists()
    assert_still_serves(place)


def test_a_client_certificate_of_another_ca_is_refused(place: Place, tmp_path: Path) -> None:
    """A client that trusts our CA but shows a certificate of another: the server refuses."""
    stranger = shutil.copytree(certificates().stranger.directory, tmp_path / "mixed")
    with (stranger / "ca.pem").open("ab") as file:
        file.write((certificates().client.directory / "ca.pem").read_bytes())
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", identity=stranger)
    assert_failed(result, 5)
    assert_still_serves(place)


def test_an_expired_client_certificate_is_refused(place: Place, tmp_path: Path) -> None:
    """Exit code 5, and the fix is to renew it."""
    issue(tmp_path / "old", starts_in_days=-40, days=10)
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", identity=tmp_path / "old")
    assert_failed(result, 5, "expired", "renew")
    assert_still_serves(place)


def test_a_server_certificate_for_another_host_is_refused(serve: Serve, tmp_path: Path) -> None:
    """The certificate must name what was dialled: exit code 5."""
    issue(tmp_path / "id", "standby2", hosts=("elsewhere.example",))
    server = serve("--module", f"m={tmp_path}", identity=tmp_path / "id")
    assert_failed(netsync("ls", server.url()), 5, "another")


def test_without_an_identity_the_way_to_one_is_shown(place: Place, tmp_path: Path) -> None:
    """Exit code 1 with the command that makes one."""
    write(place.path / "source", {"f": "1"})
    result = place.transfer("push", identity=tmp_path / "nowhere")
    assert_failed(result, 1, "nowhere", "netsync cert")
    result = place.transfer("push", "--identity", str(tmp_path / "elsewhere"))
    assert_failed(result, 1, "elsewhere")


def test_a_key_that_others_can_read_is_refused(place: Place, tmp_path: Path) -> None:
    """Exit code 1, for the client and for the server, and the fix is chmod."""
    issue(tmp_path / "open", hosts=("127.0.0.1",))
    (tmp_path / "open" / "key.pem").chmod(0o640)
    write(place.path / "source", {"f": "1"})
    assert_failed(place.transfer("push", identity=tmp_path / "open"), 1, "key.pem", "chmod")
    result = netsync("serve", "--module", f"m={tmp_path}", identity=tmp_path / "open")
    assert result.code == 1
    assert "key.pem" in result.stderr


# Modules, rights, roots


def test_an_unknown_module_is_refused(place: Place, standby: Standby) -> None:
    """Exit code 5; the name is repeated."""
    write(place.path / "source", {"f": "1"})
    for command in (
        ("push", f"{place.path}/source", standby.server.url("nosuch/x")),
        ("pull", standby.server.url("nosuch/x"), f"{place.path}/target"),
    ):
        assert_failed(netsync(*command), 5, "nosuch", "no such module")
    assert not (place.path / "target").exists()


def test_a_missing_module_name_is_refused_and_the_form_is_shown(
    place: Place, standby: Standby
) -> None:
    """Exit code 5; the line says how an address with a module is written."""
    write(place.path / "source", {"f": "1"})
    result = netsync("push", f"{place.path}/source", standby.server.url())
    assert_failed(result, 5, "no module is named", "HOST::MODULE/PATH")


def test_read_only_and_write_only_modules(serve: Serve, tmp_path: Path) -> None:
    """``:ro`` refuses push, ``:wo`` refuses pull and ls, each with exit code 5 and the right."""
    write(tmp_path / "data", {"f": "1"})
    server = serve("--module", f"ro={tmp_path}/data:ro", "--module", f"wo={tmp_path}/data:wo")
    assert_failed(netsync("push", tmp_path, server.url("ro")), 5, "'push'")
    assert_failed(netsync("pull", server.url("wo/"), tmp_path / "out"), 5, "'pull'")
    assert_failed(netsync("ls", server.url("wo/")), 5, "'pull'")
    succeed("pull", server.url("ro/"), tmp_path / "out")
    succeed("push", tmp_path / "out", server.url("wo"))
    assert names(tmp_path / "data") == {b"f", b"out", b"out/f"}


def test_delete_is_a_right_of_its_own(serve: Serve, tmp_path: Path) -> None:
    """Without it a push with --delete is refused before anything is written."""
    write(tmp_path / "data", {"old": "1"})
    write(tmp_path / "source", {"new": "2"})
    config = tmp_path / "netsync.toml"
    config.write_text(
        f'[server]\nlisten = ["127.0.0.1:0"]\nstate = "{tmp_path}/state"\n'
        f'[module.m]\npath = "{tmp_path}/data"\nallow = {{ primary1 = ["push"] }}\n'
    )
    server = serve("--config", config)
    push = ("push", f"{tmp_path}/source/", server.url("m"))
    for option in ("--delete", "--delete-excluded"):
        assert_failed(netsync(*push, option), 5, "'delete'", "primary1")
    assert names(tmp_path / "data") == {b"old"}
    succeed(*push)
    assert names(tmp_path / "data") == {b"old", b"new"}


def test_a_module_whose_directory_is_gone(serve: Serve, tmp_path: Path) -> None:
    """Exit code 11 for the client; the server's other modules serve on."""
    write(tmp_path / "gone", {"f": "1"})
    write(tmp_path / "there", {"f": "1"})
    server = serve("--module", f"gone={tmp_path}/gone", "--module", f"there={tmp_path}/there")
    shutil.rmtree(tmp_path / "gone")
    assert_failed(netsync("push", tmp_path / "there", server.url("gone")), 11, "no such file")
    succeed("pull", server.url("there/"), tmp_path / "back")


def test_a_destination_that_is_a_file_is_an_error(place: Place) -> None:
    """A tree cannot land in a file: exit code 11, the file stays."""
    write(place.path, {"source/f": "1", "file": "content"})
    for route in ("push", "pull", "local"):
        assert_failed(place.transfer(route, target="file"), 11, "not a directory")
        assert_failed(place.transfer(route, target="file/below"), 11, "not a directory")
    assert (place.path / "file").read_text() == "content"


@contextlib.contextmanager
def mounted(directory: Path, *options: str) -> Iterator[Path]:
    """Mount a tmpfs; it is unmounted whatever happens."""
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(directory)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@needs_root
@pytest.mark.parametrize("route", ["push", "pull", "local"])
@pytest.mark.parametrize("options", [(), ("--no-fsync",), ("--inplace",)], ids=" ".join)
def test_a_full_target_ends_the_run_and_nothing_else(
    place: Place, route: str, options: tuple[str, ...]
) -> None:
    """Exit code 11 with words about space; what is there is whole; the server serves on."""
    source = write(place.path / "source", {f"{i}": random_bytes(100_000, i) for i in range(30)})
    write(source, {"large": random_bytes(3 * MIB, 99)})
    with mounted(place.path / "small", "-o", "size=1m") as small:
        write(small / "target", {"0": "old"})
        result = place.transfer(route, *options, target="small/target", durable=not options)
        assert_failed(result, 11, "no space left", "free some space")
        assert result.report["result"] == "failed"
        leftover = {path for path in names(small) if b".netsync" in path}
        assert not leftover
        for path, facts in contents(small / "target").items():
            if path not in (b"", b"0"):
                assert facts == contents(source)[path]
        assert_still_serves(place)


@needs_root
def test_a_read_only_target_is_said_to_be(place: Place) -> None:
    """Exit code 11 that names the read-only file system, for a new name and an old one."""
    write(place.path / "source", {"f": "1"})
    with mounted(place.path / "ro", "-o", "size=1m") as fixed:
        write(fixed / "target", {"f": "old!"})
        subprocess.run(["mount", "-o", "remount,ro", str(fixed)], check=True)
        for target in ("ro/target", "ro/new"):
            for route in ("push", "local"):
                result = place.transfer(route, target=target)
                assert_failed(result, 11, "read-only file system")
    assert_still_serves(place)


# Peers


@contextlib.contextmanager
def peer(answer: bytes | None) -> Iterator[int]:
    """Listen on a free port: say ``answer`` to everybody, or nothing for ever if it is None."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as held:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.enter_context(connection)
                    if answer is not None:
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


ANSWERS: Final = {
    "garbage": b"\x00\xff" * 500,
    "http": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "rsync": b"@RSYNCD: 32.0 sha512 md5\n",
    "ssh": b"SSH-2.0-OpenSSH_9.9\r\n",
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_peer_that_is_not_netsync(tmp_path: Path, kind: str) -> None:
    """Exit code 12, which says so."""
    with peer(ANSWERS[kind]) as port:
        result = netsync("push", tmp_path, f"netsync://127.0.0.1:{port}/m")
    assert_failed(result, 12, "not a netsync server", str(port))


def test_a_peer_that_hangs_up(tmp_path: Path) -> None:
    """A connection that ends at once is a network failure (10) or no netsync (12), one line."""
    with peer(b"") as port:
        result = netsync("ls", f"netsync://127.0.0.1:{port}/m")
    assert result.code in (10, 12)
    assert_failed(result, result.code, str(port))


def test_a_silent_peer_costs_the_connect_timeout_and_no_more(tmp_path: Path) -> None:
    """Exit code 35 once --connect-timeout is over."""
    with peer(None) as port:
        started = time.monotonic()
        words = ("--connect-timeout", "500ms")
        result = netsync("push", *words, tmp_path, f"netsync://127.0.0.1:{port}/m")
    assert_failed(result, 35, str(port))
    assert 0.4 < time.monotonic() - started < 5


def test_nobody_listens(tmp_path: Path) -> None:
    """Exit code 10: refused, with the address and a hint."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = netsync("push", tmp_path, f"netsync://127.0.0.1:{port}/m")
    assert_failed(result, 10, "connection refused", str(port), "netsync serve")


def test_an_unknown_host(tmp_path: Path) -> None:
    """Exit code 10: the name is repeated."""
    result = netsync("push", tmp_path, "no-such-host.invalid::m")
    assert_failed(result, 10, "no-such-host.invalid", "name not found")


def has_lines(server: Server, count: int) -> bool:
    return server.log.count("\n") >= count


def test_a_client_that_is_not_netsync_does_not_harm(place: Place, standby: Standby) -> None:
    """Garbage, silence and half a handshake: one line in the log each, others are served."""
    address = ("127.0.0.1", standby.server.port)
    lines = standby.server.log.count("\n")
    for count, said in enumerate((b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"")):
        with socket.create_connection(address) as client:
            client.sendall(said)
        expected = lines + count + 1
        wait_until(functools.partial(has_lines, standby.server, expected), "the log says why")
    with socket.create_connection(address):
        assert_still_serves(place)
    assert "Traceback" not in standby.server.log


# Configuration

WRONG_FILES: Final = {
    "a typo in a module's key": ("[module.m]\npth = '/x'\n", "module.m.pth", "'path'"),
    "a typo in the server's key": ("[server]\nlisen = []\n", "server.lisen", "'listen'"),
    "a typo in a section": ("[modul.m]\npath = '/x'\n", "modul", "'module'"),
    "a wrong type": ("[module.m]\npath = 7\n", "module.m.path", "string"),
    "a relative path": ("[module.m]\npath = 'x'\n", "module.m.path", "absolute"),
    "an unknown right": (
        "[module.m]\npath = '/x'\nallow = { a = ['psh'] }\n", "module.m.allow.a", "psh"),
    "a missing path": ("[module.m]\nspecial = true\n", "module.m", "path"),
    "an impossible address": ("[server]\nlisten = ['1.2.3.4:99999']\n", "server.listen", "65535"),
    "no TOML": ("[module.m\n", "", "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_configuration_names_file_key_and_fix(tmp_path: Path, kind: str) -> None:
    """Exit code 1 and one line, from ``serve`` and from ``config check``."""
    text, *words = WRONG_FILES[kind]
    file = tmp_path / "my.toml"
    file.write_text(text)
    assert_failed(netsync("config", "check", file), 1, str(file), *words)
    result = netsync("serve", "--config", file, identity=certificates().issuing)
    assert result.code == 1
    assert words[0] in result.stderr


def test_a_server_without_modules_says_what_is_missing(tmp_path: Path) -> None:
    """Exit code 1 with the two ways to offer one."""
    file = tmp_path / "my.toml"
    file.write_text('[server]\nlisten = ["127.0.0.1:0"]\n')
    result = netsync("serve", "--config", file, identity=certificates().issuing)
    assert result.code == 1
    assert "--module" in result.stderr


# Interrupted runs

SLOW: Final = ("--bwlimit", "2M", "--no-fsync")


def slow_push(place: Place) -> tuple[str, ...]:
    """Return a push of some seconds that is well under way once files arrive."""
    return ("push", "--json", *SLOW, f"{place.path}/source/", f"{place.url}/target")


@pytest.fixture
def halfway(place: Place) -> tuple[Place, dict[bytes, Facts]]:
    """A source whose files are all different from the target's, and the target's old facts.

    More small files than are published at once, and behind them one that takes long.
    """
    content = {f"{i:03}": random_bytes(1500, i) for i in range(400)}
    content["zz-large"] = random_bytes(6 * MIB, 1)  # alone it takes three seconds
    write(place.path / "source", {**content, "d/new": "new"})
    write(place.path / "target", {name: b"old " + name.encode() for name in content})
    return place, snapshot(place.path / "target")


def wait_until_under_way(client: Process, place: Place, before: dict[bytes, Facts]) -> None:
    target = place.path / "target"
    old = before[b"000"].mtime_ns

    def something_is_new() -> bool:
        return (target / "000").stat().st_mtime_ns != old

    client.wait_for(something_is_new, "the first file is new")


def assert_nothing_is_torn(place: Place, before: dict[bytes, Facts]) -> None:
    """Each file is the old one or the new one, and no temporary names are left."""
    new = contents(place.path / "source")
    for path, facts in snapshot(place.path / "target").items():
        assert b".netsync" not in path
        if path:
            old = before.get(path)
            assert (facts.kind, facts.content) == new[path] or facts == old, path


def assert_rerun_completes(place: Place) -> None:
    result = place.transfer("push", "--delete")
    assert (result.code, result.stderr) == (0, "")
    assert differences(place.path / "source", place.path / "target") == ""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 20), (signal.SIGTERM, 20), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_an_interrupted_client_tears_nothing(
    halfway: tuple[Place, dict[bytes, Facts]], standby: Standby, number: signal.Signals, code: int
) -> None:
    """Whole files only, no leftovers; the server serves on and a rerun completes."""
    place, before = halfway
    with running(*slow_push(place)) as client:
        wait_until_under_way(client, place, before)
        log = len(standby.server.log)
        client.signal(number)
        result = client.wait()
    assert result.code == code
    if code == 20:
        assert_failed(result, 20, number.name)
        assert result.report["result"] == "failed"
    wait_until(lambda: len(standby.server.log) > log, "the server noticed")
    assert_nothing_is_torn(place, before)
    assert_rerun_completes(place)


def test_an_interrupted_pull_tears_nothing(halfway: tuple[Place, dict[bytes, Facts]]) -> None:
    """The same where the client is the target."""
    place, before = halfway
    words = ("pull", "--json", *SLOW, f"{place.url}/source/", f"{place.path}/target")
    with running(*words) as client:
        wait_until_under_way(client, place, before)
        client.signal(signal.SIGINT)
        assert client.wait().code == 20
    assert_nothing_is_torn(place, before)
    assert_rerun_completes(place)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_a_server_killed_halfway_is_a_network_failure(
    halfway: tuple[Place, dict[bytes, Facts]], standby: Standby, serve: Serve, direction: str
) -> None:
    """Exit code 10 for the client, at once; nothing torn; the next server completes it."""
    place, before = halfway
    server = serve("--module", f"m={standby.root}")
    far = server.url(f"m/{place.path.name}")
    ends = (f"{place.path}/source/", f"{far}/target")
    if direction == "pull":
        ends = (f"{far}/source/", f"{place.path}/target")
    with running(direction, "--json", *SLOW, *ends) as client:
        wait_until_under_way(client, place, before)
        server.signal(signal.SIGKILL)
        result = client.wait(10)
    assert_failed(result, 10)
    assert result.report["result"] == "failed"
    assert_nothing_is_torn(place, before)
    assert_rerun_completes(place)


def test_a_client_that_goes_away_disturbs_nobody(
    halfway: tuple[Place, dict[bytes, Facts]], standby: Standby
) -> None:
    """While one client is killed in the middle, the other's transfer finishes as if alone."""
    place, before = halfway
    other = ("push", "--json", *SLOW, f"{place.path}/source/", f"{place.url}/other")
    with running(*slow_push(place)) as victim, running(*other) as bystander:
        wait_until_under_way(victim, place, before)
        assert bystander.running
        victim.signal(signal.SIGKILL)
        victim.wait()
        result = bystander.wait()
    assert (result.code, result.stderr) == (0, "")
    assert differences(place.path / "source", place.path / "other") == ""


def test_a_stopped_server_stalls_the_client_no_longer_than_its_timeout(
    halfway: tuple[Place, dict[bytes, Facts]], standby: Standby, serve: Serve
) -> None:
    """A server that stands still: exit code 30 after --timeout."""
    place, before = halfway
    server = serve("--module", f"m={standby.root}")
    far = server.url(f"m/{place.path.name}/target")
    words = ("push", *SLOW, "--timeout", "1s", f"{place.path}/source/", far)
    with running(*words) as client:
        wait_until_under_way(client, place, before)
        server.signal(signal.SIGSTOP)
        try:
            result = client.wait()
        finally:
            server.signal(signal.SIGCONT)
    assert_failed(result, 30)
