"""Modules with ``uid`` and ``gid``: their files are touched by a process of that user only."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.server.modules import User, user_of
from tests.support.certificates import certificates
from tests.support.confined import needs_root
from tests.support.liars import facts
from tests.support.places import differences
from tests.support.processes import Server, netsync, serving, succeed, wait_until
from tests.support.samples import MIB, random_bytes
from tests.support.trees import make_tree, read_tree, temporaries

pytestmark = needs_root

USER = pwd.getpwnam("daemon")


class Module:
    """A server with one module that belongs to another user."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.module = make_tree(base / "closed" / "module", {})
        os.chown(self.module, USER.pw_uid, USER.pw_gid)
        self.module.parent.chmod(0o700)
        self.source = make_tree(
            base / "source",
            {"a": b"1", "d": {"b": b"2" * 1000}, "large": random_bytes(5 * MIB, 1), "link": "a"},
        )

    @contextlib.contextmanager
    def serving(self, more: str = 'uid = "daemon"') -> Iterator[Server]:
        """Serve it; the directory above is for root only."""
        file = self.base / "netsync.toml"
        file.write_text(
            f'[server]\nlisten = ["127.0.0.1:0"]\nidentity = "{certificates().issuing}"\n'
            f'state = "{self.base}/state"\n[module.m]\npath = "{self.module}"\nspecial = true\n'
            f'max_delete = 3\nallow = {{ primary1 = ["push", "pull", "delete"] }}\n{more}\n'
        )
        with serving("--config", file, identity=certificates().issuing) as server:
            yield server
            assert "internal error" not in server.log, server.log
            assert "Traceback" not in server.log, server.log


@pytest.fixture
def module(tmp_path: Path) -> Module:
    return Module(tmp_path)


def test_what_is_pushed_belongs_to_the_modules_user(module: Module) -> None:
    """Contents, modes and times arrive; owners cannot, and set-id bits of others do not."""
    os.chown(module.source / "a", 0, 0)
    (module.source / "a").chmod(0o4755)
    with module.serving() as server:
        result = netsync("push", "--no-owner", "--no-group", f"{module.source}/", server.url("m"))
        assert result.code == 0, result
    owners = {(p.lstat().st_uid, p.lstat().st_gid) for p in module.module.rglob("*")}
    assert owners == {(USER.pw_uid, USER.pw_gid)}
    assert (module.module / "large").read_bytes() == (module.source / "large").read_bytes()
    assert temporaries(module.module) == []


def test_deltas_deletes_and_pulls_work_as_anywhere(module: Module, tmp_path: Path) -> None:
    with module.serving() as server:
        plain = ("--no-owner", "--no-group", "--delete")
        succeed("push", *plain, f"{module.source}/", server.url("m"))
        with (module.source / "large").open("r+b") as file:
            file.seek(2 * MIB)
            file.write(b"changed")
        (module.source / "a").unlink()
        result = succeed("push", "--json", *plain, f"{module.source}/", server.url("m"))
        assert result.files["deleted"] == 1
        assert result.bytes["literal"] < MIB
        succeed("pull", server.url("m/"), f"{tmp_path}/back", *plain[:2])
        assert succeed("ls", server.url("m/d")).stdout.split()[-1] == "b"
    assert differences(module.source, tmp_path / "back", "--no-o", "--no-g") == ""


def test_what_the_user_may_not_touch_is_not_touched(module: Module) -> None:
    """A directory of root's in the module: not written, not listed, not read."""
    mine = make_tree(module.module / "root-only", {"secret": b"secret"})
    mine.chmod(0o700)
    make_tree(module.source, {"root-only": {"secret": b"forged", "new": b"n"}})
    before = facts(mine)
    with module.serving() as server:
        words = ("push", "--no-owner", "--no-group", f"{module.source}/", server.url("m"))
        assert netsync(*words).code == 23
        assert netsync("ls", server.url("m/root-only")).code == 11
        pulled = netsync("pull", server.url("m/root-only"), f"{module.base}/back")
        assert pulled.code == 23
    assert facts(mine) == before
    assert b"secret" not in read_tree(module.base / "back").values()


def test_the_modules_limit_and_memory_hold(module: Module) -> None:
    """``max_delete`` is the parent's word, and another source is noticed as ever."""
    with module.serving() as server:
        plain = ("--no-owner", "--no-group", "--delete")
        succeed("push", *plain, f"{module.source}/", server.url("m"))
        other = make_tree(module.base / "other", {"a": b"1", "d": {"b": b"2"}, "large": b"3"})
        held = netsync("push", *plain, f"{other}/", server.url("m"))
        assert held.code == 25
        assert "another" in held.stderr or "not the" in held.stderr
        empty = make_tree(module.base / "empty", {"x": b"x"})
        held = netsync("push", *plain, "--accept-new-source", f"{empty}/", server.url("m"))
        assert held.code == 25
        assert "max_delete" in held.stderr


def test_no_process_is_left_after_a_client_that_went_away(module: Module) -> None:
    from netsync.wire import messages as m  # noqa: PLC0415
    from tests.support.liars import lying_client  # noqa: PLC0415 - only here

    with module.serving() as server:
        with lying_client(server.port) as liar:
            liar.open(m.Direction.PUSH, "m")
            liar.say(m.Offer(False))
            liar.hear(m.Start)
            assert workers(server) == 1
        wait_until(lambda: workers(server) == 0, "the worker has ended")
        with lying_client(server.port) as liar:
            liar.open(m.Direction.PUSH, "m")
            liar.say(m.Bye())
            fault = liar.end()
        assert fault is not None
        assert fault.code == 12
        wait_until(lambda: workers(server) == 0, "the worker has ended")


def workers(server: Server) -> int:
    """Count the server's children, each of which must be the module's user for good."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":", 1) for line in (process / "status").read_text().splitlines()
            )
            if int(status["PPid"]) == server.process.pid and "Z" not in status["State"]:
                found += 1
                assert set(status["Uid"].split()) == {str(USER.pw_uid)}
                assert set(status["Gid"].split()) == {str(USER.pw_gid)}
                assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
                assert status["NoNewPrivs"].strip() == "1"
                links = [os.readlink(fd) for fd in (process / "fd").iterdir()]
                assert not any("identity" in link or link.endswith(".pem") for link in links)
    return found


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('uid = "no-such-user"', "there is no user"),
        ("uid = 0", "root"),
        ('uid = "daemon"\ngid = "no-such-group"', "there is no group"),
        ('gid = "daemon"', "without uid"),
        ("uid = 54321", "there is no user"),
        ("uid = -1\ngid = 5", "there is no user"),
        ("uid = true", "must be"),
    ],
)
def test_a_user_that_cannot_be_is_an_error_at_the_start(
    module: Module, keys: str, words: str
) -> None:
    file = module.base / "netsync.toml"
    file.write_text(f'[module.m]\npath = "{module.module}"\n{keys}\n')
    result = netsync("config", "check", file)
    assert result.code == 1
    assert words in result.stderr, result.stderr


def test_the_user_is_among_the_effective_values(module: Module) -> None:
    file = module.base / "netsync.toml"
    file.write_text(f'[module.m]\npath = "{module.module}"\nuid = "daemon"\n')
    told = succeed("config", "check", file).stdout
    assert f"  user    daemon ({USER.pw_uid}:{USER.pw_gid})  (file)" in told


def test_users_are_named_or_numbered() -> None:
    assert user_of("daemon").uid == user_of(USER.pw_uid).uid == USER.pw_uid
    assert user_of("daemon").gid == USER.pw_gid
    assert user_of(54321, 5) == User("54321", 54321, 5)
    assert user_of("daemon", "daemon").groups == ()


def children(server: Server) -> list[int]:
    """Return the server's children."""
    listed = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    return [int(number) for each in listed for number in each.read_text().split()]


def test_a_worker_that_dies_is_told_of(module: Module) -> None:
    """The client and the log say what happened, and who comes again is served."""
    from netsync.wire import messages as m  # noqa: PLC0415
    from tests.support.liars import lying_client  # noqa: PLC0415 - only here

    with module.serving() as server:
        with lying_client(server.port) as liar:
            liar.open(m.Direction.PUSH, "m")
            liar.say(m.Offer(False))
            liar.hear(m.Start)
            (worker,) = children(server)
            os.kill(worker, signal.SIGKILL)
            fault = liar.end()
        assert fault is not None
        assert fault.code == 10
        assert "process of user daemon was killed by signal 9" in fault.why
        wait_until(lambda: "was killed by signal 9" in server.log, "the log tells")
        succeed("push", "--no-owner", "--no-group", f"{module.source}/", server.url("m"))


def test_nobody_else_of_the_user_gets_at_a_worker(module: Module) -> None:
    """It cannot be traced, its descriptors cannot be opened, and none of them is the server's."""
    from netsync.wire import messages as m  # noqa: PLC0415
    from tests.support.liars import lying_client  # noqa: PLC0415 - only here

    with module.serving() as server, lying_client(server.port) as liar:
        liar.open(m.Direction.PUSH, "m")
        liar.say(m.Offer(False))
        liar.hear(m.Start)
        (worker,) = children(server)
        words = [sys.executable, "-c", _INTRUDER, *map(str, (worker, USER.pw_uid, USER.pw_gid))]
        tried = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        assert tried == ["attach:EPERM", "fd:EACCES", "mem:EACCES"]
        theirs = {os.readlink(f"/proc/{worker}/fd/{number}") for number in (0, 1, 2)}
        ours = {os.readlink(f"/proc/{server.process.pid}/fd/{number}") for number in (0, 1, 2)}
        assert not theirs & (ours - {"/dev/null"})
        liar.say(m.Bye())
        liar.end()


_INTRUDER = """
import ctypes, errno, os, sys
pid, uid, gid = map(int, sys.argv[1:])
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.ptrace(16, pid, 0, 0) == -1  # PTRACE_ATTACH
if not failed:  # leave nobody stopped behind
    os.waitpid(pid, 0x40000000)
    libc.ptrace(17, pid, 0, 0)
print("attach:" + (errno.errorcode[ctypes.get_errno()] if failed else "done"))
for name, look in (("fd", os.listdir), ("mem", open)):
    try:
        look(f"/proc/{pid}/{name}")
        print(name + ":done")
    except OSError as error:
        print(name + ":" + errno.errorcode[error.errno])
"""
