"""Real programs on the mount: databases whose mirror is killed under them, and git."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.confined import let_all_in
from tests.support.mirrors import COPY, MODULE, Pair
from tests.support.mounts import MountedPair
from tests.support.places import differences
from tests.support.processes import Server, netsync, wait_until

pytestmark = pytest.mark.timeout(150)
SECONDS = 50.0
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))
"""Where Debian keeps a server's programs."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user's database")

INSERT = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute(f"pragma journal_mode = {sys.argv[2]}")
database.execute("pragma synchronous = extra")
database.execute("create table if not exists t (n integer primary key, text text)")
first = database.execute("select coalesce(max(n), 0) from t").fetchone()[0]
for n in range(first + 1, first + 100000):
    database.execute("begin immediate")
    database.execute("insert into t values (?, ?)", (n, str(n) * 200))
    database.execute("commit")
    print(n, flush=True)
"""
"""Says each number once its transaction is committed, which the database has flushed: with a
rollback journal it flushes that journal's removal, which commits, only if told ``extra``."""

OPTIONS = {"wal": (), "delete": ("--sync-names",)}
"""How the mirror is told to wait. SQLite passes over a directory that it cannot open to flush it,
as when the mirror has just been killed, and takes the removal for flushed all the same."""


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def mounted(pair: Pair) -> MountedPair:
    return MountedPair(pair)


@pytest.fixture
def standby(pair: Pair) -> Iterator[Server]:
    with pair.standby() as server:
        yield server


def last_number(said: Path) -> int:
    """Return the last whole number in what a process has said."""
    lines = said.read_text().split("\n")[:-1]
    return int(lines[-1]) if lines else 0


@pytest.mark.usefixtures("standby")
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_on_the_standby_has_all_that_was_committed_when_the_primary_was_killed(
    mounted: MountedPair, mode: str, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    for number in (7, 33):
        has_committed = functools.partial(reaches, said, number)
        with mounted.primary(*OPTIONS[mode]) as primary:
            with said.open("wb") as output:
                writer = subprocess.Popen(
                    [sys.executable, "-c", INSERT, mounted.mount / "db", mode],
                    stdout=output, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            try:
                wait_until(has_committed, "it commits", SECONDS)
                primary.process.kill()
                primary.process.wait()
                writer.wait(SECONDS)
            finally:
                writer.kill()
                writer.wait()
    promote(mounted.pair)
    check(mounted.pair.copy / "db", committed=last_number(said))


def reaches(said: Path, number: int) -> bool:
    return last_number(said) >= number


def promote(pair: Pair) -> None:
    """Take over: the copy is a directory like any other from now on."""
    result = netsync("promote", f"{MODULE}/{COPY}", state=pair.state, seconds=SECONDS)
    assert result.code == 0, result.stderr


def check(database: Path, committed: int) -> None:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        assert opened.execute("pragma integrity_check").fetchall() == [("ok",)]
        most, count = opened.execute("select max(n), count(*) from t").fetchone()
    assert count == most, "a transaction is missing before the last"
    assert most >= committed


@pytest.mark.usefixtures("standby")
def test_git_works_and_its_copy_is_sound(mounted: MountedPair, tmp_path: Path) -> None:
    def git(*words: str | Path) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "core.fsync=all"]
        done = subprocess.run(
            ["git", *identity, *words], check=True, capture_output=True, text=True, timeout=SECONDS
        )
        return done.stdout

    with mounted.primary() as primary:
        inside = mounted.mount / "repository"
        git("init", "-q", inside)
        for number in range(3):
            (inside / f"file-{number}").write_text(f"{number}\n" * 1000)
            git("-C", inside, "add", ".")
            git("-C", inside, "commit", "-q", "-m", f"commit {number}")
        git("clone", "-q", inside, mounted.mount / "clone")
        git("-C", mounted.mount / "clone", "gc", "-q")
        assert git("-C", inside, "status", "--porcelain") == ""
        assert mounted.end(primary).code == 0
    promote(mounted.pair)
    assert differences(mounted.pair.source, mounted.pair.copy, "--omit-dir-times") == ""
    for name in ("repository", "clone"):
        git("-c", "safe.directory=*", "-C", mounted.pair.copy / name, "fsck", "--full", "--strict")
        assert git("-C", mounted.pair.copy / name, "log", "--oneline").count("\n") == 3


@needs_root
@pytest.mark.usefixtures("standby")
@pytest.mark.skipif(not POSTGRES.exists(), reason="no PostgreSQL server is installed")
def test_postgresql_runs_on_the_mount_and_from_the_copy_after_a_kill(mounted: MountedPair) -> None:
    user = pwd.getpwnam("postgres")
    base = mounted.pair.base
    let_all_in(base)
    (base / "sockets").mkdir()
    os.chown(base / "sockets", user.pw_uid, user.pw_gid)

    def run(program: str, *words: str | Path, check: bool = True) -> str:
        done = subprocess.run(
            [POSTGRES / program, *words], user=user.pw_uid, group=user.pw_gid, extra_groups=[],
            cwd="/", capture_output=True, text=True, timeout=100, check=False,
            env={"PATH": os.environ["PATH"], "PGHOST": str(base / "sockets"), "LC_ALL": "C"},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(data: Path) -> None:
        options = f"-k {base / 'sockets'} -c listen_addresses='' -c max_connections=10"
        run("pg_ctl", "start", "-w", "-D", data, "-o", options, "-l", base / "sockets" / "log")

    (mounted.pair.source / "data").mkdir(mode=0o700)
    os.chown(mounted.pair.source / "data", user.pw_uid, user.pw_gid)
    with mounted.primary() as primary:
        data = mounted.mount / "data"
        run("initdb", "-D", data, "-A", "trust", "--no-sync", "--data-checksums", "--wal-segsize=1")
        start(data)
        try:
            run("pgbench", "-i", "-q", "postgres")
            run("pgbench", "-n", "-c", "4", "-t", "20", "postgres")
            primary.process.kill()
            primary.process.wait()
        finally:
            run(
                "pg_ctl", "stop", "-m", "immediate", "-D", mounted.pair.source / "data", check=False
            )
    promote(mounted.pair)
    data = mounted.pair.copy / "data"
    (data / "postmaster.pid").unlink(missing_ok=True)
    start(data)
    try:
        rows = run("psql", "-Atc", "select count(*) from pgbench_history", "postgres")
        assert int(rows) == 80
        run("pg_amcheck", "--all", "--install-missing")
        sums = (
            "select sum(abalance) from pgbench_accounts",
            "select sum(delta) from pgbench_history",
        )
        balance = f"select ({sums[0]}) = ({sums[1]})"
        assert run("psql", "-Atc", balance, "postgres").strip() == "t"
    finally:
        run("pg_ctl", "stop", "-m", "fast", "-D", data)
