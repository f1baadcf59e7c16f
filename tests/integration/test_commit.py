"""``netsync commit`` as scripts use it: exit codes, words, the resident helper and its ends."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from netsync.cli.quick import key_of
from tests.support.certificates import certificates, issue
from tests.support.commits import helpers, helping
from tests.support.confined import needs_root
from tests.support.cutting import answers_lost
from tests.support.places import Place, Standby
from tests.support.processes import (
    ROOT,
    Result,
    Server,
    netsync,
    running,
    serving,
    wait_until,
)
from tests.support.samples import MIB, random_bytes, write
from tests.support.trees import make_tree, needs_mount, read_tree, small_disk

SEGMENT: Final = "000000010000000000000001"


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    file = tmp_path / "pg_wal" / SEGMENT
    file.parent.mkdir()
    file.write_bytes(random_bytes(3 * MIB, 1))
    return file


def commit(*words: str | Path, **more: Any) -> Result:
    """Run the full command without a helper."""
    return netsync("commit", "--no-resident", *words, **more)


# --- what archive_command asks -------------------------------------------------------------------


def test_a_segment_is_archived_once_and_never_changed(place: Place, segment: Path) -> None:
    """0 when new, 0 when the same is there, not 0 for another file, which then stays."""
    wanted = f"{place.url}/archive/{SEGMENT}"
    for _ in range(2):
        result = commit(segment, wanted)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
    first = segment.read_bytes()
    segment.write_bytes(random_bytes(3 * MIB, 2))
    result = commit(segment, wanted)
    assert result.code == 23
    assert "another file is there already" in result.stderr
    assert "--overwrite" in result.stderr
    assert read_tree(place.path) == {"archive": {SEGMENT: first}}
    assert commit("--overwrite", segment, wanted).code == 0
    assert read_tree(place.path) == {"archive": {SEGMENT: segment.read_bytes()}}


def test_the_report_says_what_became_of_each(place: Place, tmp_path: Path) -> None:
    files = write(tmp_path / "s", {"a": "new", "b": "same", "c": "differs"})
    write(place.path / "d", {"b": "same", "c": "another"})
    result = commit("--json", "-q", *sorted(files.iterdir()), f"{place.url}/d")
    assert result.code == 23
    report = result.report
    assert (report["command"], report["result"], report["durable"]) == ("commit", "partial", False)
    counts = {name: count for name, count in result.files.items() if count}
    assert counts == {"considered": 3, "created": 1, "unchanged": 1, "failed": 1}
    assert result.bytes["total"] == 14
    assert result.bytes["wire_sent"] > 14
    (problem,) = report["problems"]
    assert problem["path"] == str(files / "c")


def test_local_destinations_work_the_same_way(tmp_path: Path, segment: Path) -> None:
    target = tmp_path / "archive" / SEGMENT
    assert commit("--json", segment, target).files["created"] == 1
    assert commit("--json", segment, target).files["unchanged"] == 1
    segment.write_bytes(b"other")
    assert commit(segment, target).code == 23
    assert commit("--overwrite", segment, f"{tmp_path}/archive/").code == 0
    assert target.read_bytes() == b"other"


def test_every_way_to_fail_has_its_code(place: Place, segment: Path, tmp_path: Path) -> None:
    there = f"{place.url}/x"
    assert commit(segment).code == 1
    assert commit(there, f"{tmp_path}").code == 1
    assert commit(segment.parent, there).code == 1
    assert commit(tmp_path / "missing", there).code == 11
    assert commit(tmp_path / "missing", segment, there).code == 23
    assert commit(segment, there.replace("/m/", "/unknown/")).code == 5
    assert commit(segment, f"{place.url}/../../x").code == 5
    assert commit("--connect-timeout=2", segment, "netsync://127.0.0.1:1/m/x").code == 10
    result = commit("--json", segment, "netsync://127.0.0.1:1/m/x")
    assert (result.code, result.report["result"]) == (10, "failed")
    (place.path / "file").write_bytes(b"")
    assert commit(segment, f"{place.url}/file/below").code == 11
    assert commit(segment, segment, f"{place.url}/file").code == 11


def test_it_needs_the_right_to_push_and_no_more(tmp_path: Path, segment: Path) -> None:
    root = make_tree(tmp_path / "module", {})
    file = tmp_path / "netsync.toml"
    file.write_text(
        f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{certificates().issuing}"\n'
        f'state = "{tmp_path}/state"\n[module.m]\npath = "{root}"\n'
        'allow = { primary1 = ["push"], auditor = ["pull", "delete"] }\n'
    )
    with serving("--config", file, identity=certificates().issuing) as server:
        refused = commit(segment, server.url("m/"), identity=certificates().other.directory)
        assert refused.code == 5
        assert "'push'" in refused.stderr
        assert read_tree(root) == {}
        assert commit(segment, server.url("m/")).code == 0
        segment.write_bytes(b"x")
        assert commit("--overwrite", segment, server.url("m/")).code == 0


@needs_mount
def test_a_full_standby_is_11_and_keeps_nothing(tmp_path: Path, segment: Path) -> None:
    with (
        small_disk(tmp_path / "small", 2 * MIB) as place,
        serving("--module", f"m={place}") as server,
    ):
        result = commit(segment, server.url("m/"))
        assert result.code == 11
        assert "no space left" in result.stderr
        assert read_tree(place) == {}


@needs_root
def test_a_module_with_a_user_takes_commits_as_that_user(tmp_path: Path, segment: Path) -> None:
    user = pwd.getpwnam("daemon")
    root = make_tree(tmp_path / "closed" / "module", {})
    os.chown(root, user.pw_uid, user.pw_gid)
    root.parent.chmod(0o700)
    file = tmp_path / "netsync.toml"
    file.write_text(
        f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{certificates().issuing}"\n'
        f'state = "{tmp_path}/state"\n[module.m]\npath = "{root}"\nuid = "daemon"\n'
        'allow = { primary1 = ["push"] }\n'
    )
    with serving("--config", file, identity=certificates().issuing) as server:
        for _ in range(2):
            result = commit(segment, server.url("m/d/"))
            assert (result.code, result.stdout) == (0, ""), result
        make_tree(root / "of-root", {}).chmod(0o755)
        assert commit(segment, server.url("m/of-root/")).code == 23
        assert "internal error" not in server.log
    assert (root / "d" / SEGMENT).read_bytes() == segment.read_bytes()
    assert (root / "d" / SEGMENT).stat().st_uid == user.pw_uid


# --- the answer that does not come ---------------------------------------------------------------


def test_a_missing_answer_is_13_and_asking_again_is_safe(
    standby: Standby, place: Place, segment: Path
) -> None:
    """The server has it under its name, and the connection breaks before the client hears so."""
    wanted = place.path / SEGMENT
    with answers_lost(standby.server.port, 3 * MIB, wanted.exists) as port:
        url = place.url.replace(f":{standby.server.port}/", f":{port}/")
        result = commit("--json", segment, f"{url}/")
    assert (result.code, result.report["result"]) == (13, "indeterminate"), result
    assert "run it again" in result.stderr
    assert wanted.read_bytes() == segment.read_bytes()
    assert commit("--json", segment, f"{place.url}/").files["unchanged"] == 1


# --- the helper ----------------------------------------------------------------------------------


def quick(state: Path, *words: str | Path, identity: Path | None = None) -> Result:
    """Run the command as it is installed, which may use and start a helper."""
    who = identity or certificates().client.directory
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "NETSYNC_STATE": str(state),
        "NETSYNC_IDENTITY": str(who),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "netsync", "commit", *map(str, words)], env=environment,
        capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory whose helpers end with the test."""
    with helping(tmp_path / "state") as directory:
        yield directory


def started(state: Path) -> int:
    """Wait for the one helper; return its process."""
    wait_until(lambda: len(helpers(state)) == 1, "a helper is there")
    return helpers(state)[0][1]


def sessions(server: Server) -> int:
    """Count the sessions with commits that have ended."""
    return server.log.count("): commit m:")


def gone(process: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_second_commit_finds_a_helper_and_needs_no_session(
    tmp_path: Path, segment: Path, state: Path
) -> None:
    root = make_tree(tmp_path / "module", {})
    with serving("--module", f"m={root}") as server:
        assert quick(state, segment, server.url("m/1")).code == 0
        process = started(state)
        assert oct((state / helpers(state)[0][0]).stat().st_mode)[-3:] == "600"
        server.wait_for(lambda: sessions(server) == 1, "the first commit's own session has ended")
        for number in range(2, 6):
            result = quick(state, "--json", segment, server.url(f"m/{number}"))
            assert (result.code, result.stderr) == (0, ""), result
            assert result.report["bytes"]["wire_received"] < 500, "an answer, and no handshake"
        segment.write_bytes(b"x")
        differs = quick(state, segment, server.url("m/2"))
        assert (differs.code, "another file is there already" in differs.stderr) == (23, True)
        assert sessions(server) == 1, f"the helper's session goes on: {server.log}"
        assert started(state) == process
    assert sorted(read_tree(root)) == ["1", "2", "3", "4", "5"]


def test_what_the_quick_way_does_not_understand_is_left_to_the_command(
    place: Place, segment: Path, state: Path
) -> None:
    assert quick(state, segment, f"{place.url}/1").code == 0
    started(state)
    assert quick(state, "--timeout", "20s", segment, f"{place.url}/2").code == 0
    assert quick(state, "--nonsense", segment, f"{place.url}/2").code == 1
    assert quick(state, segment, f"{segment.parent}/local").code == 0
    assert quick(state, "--help").stdout.startswith("Usage:")
    missing = quick(state, segment.parent / "gone", f"{place.url}/2")
    assert (missing.code, "no such file" in missing.stderr) == (11, True)


def test_a_helper_that_dies_or_hangs_costs_nothing_but_time(
    place: Place, segment: Path, state: Path
) -> None:
    assert quick(state, segment, f"{place.url}/1").code == 0
    first = started(state)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gone(first), "it is dead")
    assert quick(state, segment, f"{place.url}/2").code == 0
    second = started(state)
    os.kill(second, signal.SIGSTOP)
    assert quick(state, segment, f"{place.url}/3").code == 0
    wait_until(lambda: gone(second), "the one that hung was ended, so it can do nothing later")
    third = started(state)
    assert third not in (first, second)
    assert quick(state, segment, f"{place.url}/4").code == 0
    assert set(read_tree(place.path)) == {"1", "2", "3", "4"}


def test_a_server_that_was_away_is_found_again_by_the_helper(
    tmp_path: Path, segment: Path, state: Path
) -> None:
    root = make_tree(tmp_path / "module", {})
    with serving("--module", f"m={root}") as server:
        port = server.port
        assert quick(state, segment, server.url("m/1")).code == 0
        process = started(state)
        assert quick(state, segment, server.url("m/2")).code == 0
        server.signal(signal.SIGKILL)
        server.wait()
        lost = quick(state, "--connect-timeout", "3", segment, server.url("m/3"))
        assert lost.code in (10, 13), lost
    words = ("--module", f"m={root}", "--listen", f"127.0.0.1:{port}")
    with serving(*words) as server:
        url = f"netsync://127.0.0.1:{port}/m/3"
        assert quick(state, segment, url).code == 0
    assert started(state) == process
    assert set(read_tree(root)) == {"1", "2", "3"}


def test_a_helper_ends_when_its_identity_changes(place: Place, segment: Path, state: Path) -> None:
    identity = state.parent / "identity"
    issue(identity)
    assert quick(state, segment, f"{place.url}/1", identity=identity).code == 0
    first = started(state)
    shutil.rmtree(identity)
    issue(identity, "primary2")
    assert quick(state, segment, f"{place.url}/2", identity=identity).code == 0
    wait_until(lambda: gone(first), "the old certificate's helper has ended")
    assert quick(state, segment, f"{place.url}/3", identity=identity).code == 0
    assert started(state) != first


def test_many_commands_at_once_share_one_helper(
    standby: Standby, place: Place, tmp_path: Path, state: Path
) -> None:
    """Also as the first ones, of which each would start it."""
    files = write(tmp_path / "many", {f"{number:02}": f"content {number}" for number in range(5)})
    results: dict[str, int] = {}

    def run(file: Path) -> None:
        results[file.name] = quick(state, file, f"{place.url}/{file.name}").code

    for _ in range(2):
        threads = [threading.Thread(target=run, args=(file,)) for file in files.iterdir()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(results.values()) == {0}
        started(state)
    assert read_tree(place.path) == read_tree(files)


def test_nobody_else_and_no_other_version_is_served(
    place: Place, segment: Path, state: Path
) -> None:
    """Garbage, half a request and a request without files: hung up on, and it serves on."""
    import socket  # noqa: PLC0415 - for this test alone

    assert quick(state, segment, f"{place.url}/1").code == 0
    process = started(state)
    name = helpers(state)[0][0]
    for data in (b"", b"\0\0\0\5garba", b"\xff\xff\xff\xff", b"\0\0\0\3a\0b", b"\0\0\0"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(20)
            sock.connect(str(state / name))
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b""
    assert quick(state, segment, f"{place.url}/2").code == 0
    assert started(state) == process


def test_the_quick_way_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import netsync.cli.quick as q; "
        "q.plain(['a', 'h::m/x']); print(*sorted(set(sys.modules) - before))"
    )
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{path}; {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert not loaded & {"trio", "ssl", "click", "msgspec", "typing", "re", "enum", "json"}
    assert len(loaded) < 25, loaded


def test_a_signal_ends_it_with_20(tmp_path: Path, segment: Path) -> None:
    """While it waits for a server that has stopped."""
    with serving("--module", f"m={tmp_path}") as server:
        server.signal(signal.SIGSTOP)
        words = ("commit", "--no-resident", "--connect-timeout", "60", segment, server.url("m/x"))
        with running(*words) as client:
            wait_until(lambda: _has_socket(client.process.pid), "it is connecting")
            client.signal(signal.SIGTERM)
            assert client.wait().code == 20
        server.signal(signal.SIGCONT)


SILENT_HELPER: Final = """
import socket, sys, time
helper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
helper.bind(sys.argv[1])
helper.listen()
print("listening", flush=True)
client, _ = helper.accept()
client.recv(65536)
print("asked", flush=True)
time.sleep(60)
"""
"""A process of its own: a command that loses patience kills who is at the other end."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_quick_way_with_20_too(
    tmp_path: Path, segment: Path, number: signal.Signals
) -> None:
    """While it waits for a helper; in words, and with no traceback."""
    state, target = tmp_path / "state", "127.0.0.1::m/x"
    state.mkdir(mode=0o700)
    key = key_of(str(tmp_path), target)
    words = ("commit", "--state", state, "--identity", tmp_path, segment, target)
    with subprocess.Popen(
        [sys.executable, "-c", SILENT_HELPER, state / key.name], stdout=subprocess.PIPE, text=True
    ) as helper:
        assert helper.stdout is not None
        assert helper.stdout.readline() == "listening\n"
        with subprocess.Popen(
            [sys.executable, "-m", "netsync", *map(str, words)], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as command:  # fmt: skip
            assert helper.stdout.readline() == "asked\n"
            command.send_signal(number)
            assert command.wait(40) == 20
            assert command.stderr is not None
            assert command.stderr.read() == (
                "netsync: interrupted by a signal "
                "(it may be done all the same; run again to know)\n"
            )
        helper.kill()


def _has_socket(process: int) -> bool:
    """Tell whether it has a TCP socket; trio has others, for itself."""
    rows = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    known = {f"socket:[{row.split()[9]}]" for row in rows}
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(link) in known:
                return True
    return False
