"""PostgreSQL archives its log with ``netsync commit``, and is restored from what has arrived.

A real server with a real ``archive_command``. The standby goes away in between and comes back; then
the primary is killed, and another is started from a base backup and the archive: every row that was
in an archived segment is there. Slow.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import issue
from tests.support.commits import helpers, helping
from tests.support.confined import needs_root
from tests.support.processes import ROOT, serving, wait_until
from tests.support.trees import make_tree

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
USER: Final = "postgres"
SEGMENT_BYTES: Final = 16 << 20
ROWS: Final = 2000
LIBRARIES: Final = f"{ROOT}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    needs_root,
    pytest.mark.skipif(not BINARIES.exists(), reason="postgresql-15 is not installed"),
]


class Database:
    """A PostgreSQL server in ``base``, as its own user, reached through a Unix socket only."""

    def __init__(self, base: Path, name: str) -> None:
        self.data = base / name
        self.sockets = base
        self._log = base / f"{name}.log"

    def run(self, program: str, *words: str | Path) -> str:
        """Run one of PostgreSQL's programs as its user; it must succeed."""
        done = subprocess.run(
            [BINARIES / program, *words], user=USER, group=USER, extra_groups=[], cwd=self.sockets,
            capture_output=True, text=True, check=False, timeout=120,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGHOST": str(self.sockets)},
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.log}"
        return done.stdout

    @property
    def log(self) -> str:
        """What the server has said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def sql(self, text: str) -> str:
        """Return what a statement answers."""
        return self.run("psql", "-qAtX", "-d", "postgres", "-c", text).strip()

    def configure(self, **settings: str) -> None:
        """Add settings to its configuration."""
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(lines)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it; it is stopped as by a crash."""
        self.run("pg_ctl", "-D", self.data, "-l", self._log, "-w", "-t", "90", "start")
        try:
            yield
        finally:
            self.run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")


def python_of_the_user() -> str:
    """Return an interpreter that PostgreSQL's user may run: ours may lie where only we may go."""
    for program in (sys.executable, "/usr/bin/python3"):
        words = [program, "-c", "import netsync.cli.commit"]
        with contextlib.suppress(OSError):
            done = subprocess.run(
                words, user=USER, group=USER, extra_groups=[], cwd="/", check=False,
                env={"PYTHONPATH": LIBRARIES}, capture_output=True,
            )  # fmt: skip
            if done.returncode == 0:
                return program
    pytest.skip(f"{USER} can run no Python with netsync's libraries")


def archived(database: Database) -> int:
    return int(database.sql("select archived_count from pg_stat_archiver"))


def failed(database: Database) -> int:
    return int(database.sql("select failed_count from pg_stat_archiver"))


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of PostgreSQL's user, on a path that it may go."""
    place = Path(f"/var/tmp/netsync-archive-{os.getpid()}")
    place.mkdir(mode=0o700)
    shutil.chown(place, USER, USER)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def write_segment(database: Database, number: int) -> None:
    """Fill a table with known rows, and have the segment that they are in archived."""
    database.sql(
        f"insert into kept select n, md5(n::text) from "
        f"generate_series({number * ROWS}, {(number + 1) * ROWS - 1}) n"
    )
    database.sql("select pg_switch_wal()")


def test_a_log_is_archived_and_a_database_restored_from_it(base: Path, tmp_path: Path) -> None:
    archive = make_tree(tmp_path / "archive", {})
    issue(base / "identity", "primary1")
    for path in (base / "identity", *(base / "identity").iterdir()):
        shutil.chown(path, USER, USER)
    primary = Database(base, "primary")
    primary.run("initdb", "-D", primary.data, "-A", "trust", "--no-sync")
    state = base / "state"
    with helping(state), contextlib.ExitStack() as stack:
        shutil.chown(state, USER, USER)
        server = stack.enter_context(serving("--module", f"wal={archive}"))
        netsync = f"PYTHONPATH={LIBRARIES} {python_of_the_user()} -m netsync"
        command = (
            f"{netsync} commit --state {state} --identity {base}/identity --connect-timeout 3 "
            f"%p netsync://127.0.0.1:{server.port}/wal/%f"
        )
        primary.configure(
            archive_mode="on", archive_command=command, listen_addresses="", fsync="off",
            unix_socket_directories=str(base), max_wal_senders="4",
        )  # fmt: skip
        with primary.running():
            primary.sql("create table kept (n int primary key, text text)")
            copy = Database(base, "copy")
            primary.run("pg_basebackup", "-D", copy.data, "-c", "fast", "-X", "none", "--no-sync")
            for number in range(3):
                write_segment(primary, number)
            wait_until(lambda: archived(primary) >= 3, "segments are archived", 120)
            assert failed(primary) == 0, primary.log
            assert len(helpers(state)) == 1, "a helper was at work"

            server.stop()
            write_segment(primary, 3)
            wait_until(lambda: failed(primary) > 0, "archiving fails while nobody is there", 120)
            port = server.port
            again = serving("--module", f"wal={archive}", "--listen", f"127.0.0.1:{port}")
            stack.enter_context(again)
            done = archived(primary)
            write_segment(primary, 4)
            wait_until(lambda: archived(primary) >= done + 2, "what had to wait is archived", 180)

            for name in os.listdir(primary.data / "pg_wal"):
                if (archive / name).is_file() and ".backup" not in name:
                    kept, sent = (archive / name), (primary.data / "pg_wal" / name)
                    assert kept.read_bytes() == sent.read_bytes()
        segments = sorted(path for path in archive.iterdir() if "." not in path.name)
        numbers = [int(path.name[16:], 16) for path in segments]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no gap"
        assert {path.stat().st_size for path in segments} == {SEGMENT_BYTES}

    copy.configure(restore_command=f"cp {base}/fetched/%f %p", archive_mode="off")
    (copy.data / "recovery.signal").touch()
    shutil.copytree(archive, base / "fetched")
    for path in (copy.data / "recovery.signal", base / "fetched", *(base / "fetched").iterdir()):
        shutil.chown(path, USER, USER)
    with copy.running():
        wait_until(lambda: copy.sql("select pg_is_in_recovery()") == "f", "it has recovered", 120)
        found = copy.sql("select count(*), min(n), max(n), bool_and(text = md5(n::text)) from kept")
    assert found == f"{5 * ROWS}|0|{5 * ROWS - 1}|t"
    assert pwd.getpwnam(USER).pw_uid != 0
