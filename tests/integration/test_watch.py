"""A watch: two daemons, real TLS, and all that may go wrong between them."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.link import linked
from tests.support.processes import netsync, running, serving, wait_until
from tests.support.samples import random_bytes, write
from tests.support.trees import needs_mount, small_disk
from tests.support.watching import JOB, RPO, WatchedPair


@pytest.fixture
def pair(tmp_path: Path) -> WatchedPair:
    """Return a primary and a standby, neither started."""
    return WatchedPair(tmp_path)


# What changes arrives


def test_what_changes_arrives_and_both_sides_know(pair: WatchedPair) -> None:
    with pair.both():
        write(pair.source, {"new": "3", "d/e/f": "4", "a": "changed"})
        (pair.source / "b" / "c").unlink()
        (pair.source / "link").symlink_to("a")
        os.chmod(pair.source / "d", 0o750)
        pair.barrier()
        shutil.rmtree(pair.source / "d")
        (pair.source / "b").rename(pair.source / "moved")
        pair.barrier()
        assert pair.looks() == 1, "nothing but the paths was looked at"
        pair.wait_in_step()
        status = pair.status()
        assert (status["mode"], status["verdict"]) == ("watch", "ok")
        assert (status["lag_seconds"], status["backlog_files"], status["backlog_bytes"]) == (
            0,
            0,
            0,
        )
        wait_until(lambda: pair.received()["state"] == "IN_SYNC", "the standby knows")
        received = pair.received()
        assert (received["mode"], received["rpo_seconds"]) == ("received", RPO)
        assert pair.ask_standby("check").stdout.startswith("OK: primary1:m: ")


def test_moves_cost_no_data(pair: WatchedPair) -> None:
    write(
        pair.source,
        {"big/one": random_bytes(3_000_000, 1), "big/two/three": random_bytes(200_000, 2)},
    )
    write(pair.source, {f"big/small{number}": f"{number}" * 100 for number in range(20)})
    with pair.both():
        before = totals(pair, "literal")
        inode = (pair.target / "big" / "two" / "three").stat().st_ino
        (pair.source / "big").rename(pair.source / "b" / "renamed")
        (pair.source / "a").rename(pair.source / "z")
        pair.barrier()
        wait_until(lambda: totals(pair, "matched") > 0, "the file is counted, found under its name")
        assert totals(pair, "literal") == before
        assert totals(pair, "matched") < 1000, "the directory was moved there too, not copied"
        assert (pair.target / "b" / "renamed" / "two" / "three").stat().st_ino == inode


def totals(pair: WatchedPair, what: str) -> int:
    """Return a counter of the watch's, from where metrics take it."""
    import sqlite3  # noqa: PLC0415 - only here

    file = pair.base / "primary-state" / "state.sqlite3"
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        (text,) = database.execute("SELECT standing FROM job WHERE name = ?", (JOB,)).fetchone()
    database.close()
    return int(json.loads(text)["totals"][what])


def test_the_barrier_holds_for_what_was_written_just_before(pair: WatchedPair) -> None:
    with pair.both():
        for number in range(5):
            write(pair.source, {f"n{number}/f": random_bytes(300_000, 3)})
            pair.barrier()


def test_run_compares_the_whole_now(pair: WatchedPair) -> None:
    """What nobody could tell of, a change at the standby, is found by it."""
    with pair.both():
        (pair.target / "a").write_text("meddled")
        write(pair.target, {"meddled": "too"})
        result = pair.ask("run", JOB, "--json")
        assert result.code == 0, result
        assert result.files["deleted"] == 1
        assert pair.is_equal


def test_hard_links_are_kept(pair: WatchedPair) -> None:
    """A file with several names is told of by one of them only; the whole is compared then."""
    os.link(pair.source / "a", pair.source / "b" / "same")
    with pair.both():
        (pair.source / "a").write_text("changed through one name")
        pair.barrier()
        pair.wait_in_step()
        found = {(pair.target / name).stat().st_ino for name in ("a", "b/same")}
        assert len(found) == 1


def test_rules_leave_out_and_protect(pair: WatchedPair) -> None:
    write(pair.target, {"keep.log": "mine"})
    with pair.both('exclude = ["*.log", "/cache/"]'):
        write(pair.source, {"x.log": "1", "cache/y": "2", "w": "3", "n/.netsyncignore": "*.o\n"})
        write(pair.source, {"n/z.o": "4", "n/z.c": "5"})
        pair_done = pair.ask("wait", JOB, "--timeout", "30", seconds=40)
        assert pair_done.code == 0, pair_done
        assert sorted(os.listdir(pair.target)) == ["a", "b", "keep.log", "n", "w"]
        assert sorted(os.listdir(pair.target / "n")) == [".netsyncignore", "z.c"]


# Guards


def test_guards_hold_over_many_transfers(pair: WatchedPair) -> None:
    """A tree that is deleted bit by bit stops at the limit, and stays stopped."""
    write(pair.source, {f"t/{number}": f"{number}" for number in range(40)})
    pair.module_lines = 'max_delete = "20%"'
    with pair.both():
        for number in range(20):
            (pair.source / "t" / str(number)).unlink()
            if number % 4 == 0:
                time.sleep(0.15)  # so that it takes several transfers
        wait_until(lambda: "nothing was deleted" in (pair.status()["last_error"] or ""), "held")
        assert pair.status()["state"] == "DEGRADED"
        left = len(os.listdir(pair.target / "t"))
        assert left >= 40 - 0.2 * 44
        write(pair.source, {"created": "meanwhile"})
        wait_until((pair.target / "created").exists, "creates go on")
        assert pair.ask("wait", JOB, "--timeout", "20", seconds=30).code == 25
        assert pair.ask("run", JOB).code == 25, "nor does a look at the whole let it pass"
        assert len(os.listdir(pair.target / "t")) == left
        waiting = pair.ask_standby("check")
        assert waiting.code in (1, 2)
        assert "nothing was deleted" in waiting.stdout


def test_an_empty_source_deletes_nothing(pair: WatchedPair) -> None:
    with pair.both():
        shutil.rmtree(pair.source / "b")
        (pair.source / "a").unlink()
        wait_until(lambda: "no entries" in (pair.status()["last_error"] or ""), "held")
        assert pair.target.exists()


def test_another_directory_in_the_source_s_place_deletes_nothing(pair: WatchedPair) -> None:
    with pair.both():
        pair.source.rename(pair.base / "aside")
        write(pair.source, {"other": "tree"})
        wait_until(lambda: "another directory" in (pair.status()["last_error"] or ""), "held", 30)
        assert (pair.target / "a").exists()


@needs_mount
def test_a_file_system_unmounted_inside_is_named_and_keeps_its_files(pair: WatchedPair) -> None:
    """While it is watched, and over a start without it; mounted again, all is well."""
    said = "a file system was mounted at disk "
    with pair.standby():
        with small_disk(pair.source / "disk", 1 << 20) as disk:
            write(disk, {"deep/precious": "1"})
            with pair.primary():
                pair.wait_in_step()
                subprocess.run(["umount", str(disk)], check=True)
                wait_until(lambda: said in (pair.status()["last_error"] or ""), "it is named")
                assert pair.status()["state"] == "DEGRADED"
                subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)
                write(disk, {"deep/precious": "1"})
                pair.wait_in_step()
        with pair.primary():
            wait_until(lambda: said in (pair.status()["last_error"] or ""), "it is named again")
            assert pair.ask("wait", JOB, "--timeout", "30", seconds=40).code == 25
            assert pair.ask("check").code in (1, 2)
            write(pair.source, {"others": "go on"})
            wait_until((pair.target / "others").exists, "it arrives")
            assert (pair.target / "disk" / "deep" / "precious").exists()
            url = f"netsync://127.0.0.1:{pair.port}/m/"
            words = ("push", "--delete", "--accept-new-source", f"{pair.source}/", url)
            assert netsync(*words).code == 0
            pair.wait_in_step()
            assert os.listdir(pair.target / "disk") == []


# What may go wrong

UNHEARD: Final = 4.0
"""Seconds for which a standby may not have said that it has what it has: two beats."""


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.timeout(240)
def test_a_link_that_is_cut_shows_and_is_made_up_for(pair: WatchedPair, seconds: int) -> None:
    """The lag rises second for second, then falls to nothing; nobody restarts anything."""
    with pair.standby() as standby, linked(standby.port) as link:
        pair.port = link.port
        with pair.primary():
            pair.wait_in_step()
            link.down()
            write(pair.source, {"b/cut": "1"})
            (pair.source / "a").unlink()
            wrote = time.monotonic()
            lags: list[float] = []
            while time.monotonic() - wrote < seconds:
                write(pair.source, {f"b/{len(lags)}": "x"})
                asked = time.monotonic()
                lags.append(pair.status()["lag_seconds"] or 0.0)
                assert lags[-1] <= time.monotonic() - wrote + UNHEARD, "no faster than time"
                if asked - wrote > UNHEARD:
                    assert lags[-1] >= asked - wrote - 1, "and no slower"
                time.sleep(0.5)
            assert all(later >= earlier for earlier, later in itertools.pairwise(lags))
            status = pair.status()
            assert status["state"] == "DEGRADED"
            assert status["backlog_files"] >= len(lags)
            assert status["verdict"] == "critical"
            assert not pair.is_equal
            link.up()
            pair.wait_in_step()
            assert pair.status()["lag_seconds"] == 0
            assert pair.looks() == 1, "the journal knew what was outstanding"


@pytest.mark.slow
def test_a_standby_that_is_killed_is_found_again(pair: WatchedPair) -> None:
    with pair.standby() as standby, pair.primary():
        pair.wait_in_step()
        standby.process.kill()
        standby.process.wait()
        write(pair.source, {"while/dead": "1"})
        wait_until(lambda: pair.status()["state"] == "DEGRADED", "it is noticed")
        with pair.standby():
            pair.wait_in_step()


@pytest.mark.slow
def test_a_primary_that_is_killed_raises_the_alarm_at_the_standby(pair: WatchedPair) -> None:
    """Alone: nobody else is there. What the primary owed is sent when it is back."""
    with pair.standby() as standby, linked(standby.port) as link:
        pair.port = link.port
        with pair.primary() as primary:
            pair.wait_in_step()
            wait_until(lambda: pair.ask_standby("check").code == 0, "the standby knows")
            link.down()
            write(pair.source, {"owed/one": "1", "a": "changed"})
            (pair.source / "b" / "c").unlink()
            wait_until(lambda: (pair.status()["backlog_files"] or 0) >= 3, "it is known")
            time.sleep(1.0)  # for the journal
            primary.process.kill()
            primary.process.wait()
            killed = time.monotonic()
            wait_until(lambda: pair.ask_standby("check").code == 2, "the alarm", RPO + 15 + 10)
            assert time.monotonic() - killed > 1
            checked = pair.ask_standby("check").stdout
            assert "the objective is 4s" in checked
        write(pair.source, {"unseen": "while nobody watched"})
        link.up()
        with pair.primary():
            pair.wait_in_step()
            wait_until(lambda: pair.ask_standby("check").code == 0, "the alarm is over")


@needs_mount
def test_a_full_standby_shows_and_goes_on_when_there_is_room(pair: WatchedPair) -> None:
    with small_disk(pair.target, 3 * 1024 * 1024), pair.both():
        write(pair.source, {"large": random_bytes(5_000_000, 4)})
        wait_until(lambda: pair.status()["state"] == "DEGRADED", "it is told")
        assert "space" in pair.status()["last_error"]
        wait_until(lambda: "space" in str(pair.received()["last_error"]), "the standby tells too")
        waited = pair.ask("wait", JOB, "--timeout", "1")
        assert waited.code in (11, 13), "known not to be, or not known"
        assert "no space left" in waited.stderr, "in any case why"
        assert pair.ask("run", JOB).code == 11
        (pair.source / "large").write_bytes(random_bytes(500_000, 5))
        pair.wait_in_step()
        assert not any("closed the connection" in each for each in pair.events()), "but why"


@pytest.mark.slow
def test_too_many_events_are_a_look_at_the_whole(pair: WatchedPair, queue: int) -> None:
    """The kernel forgets what it cannot queue; the watch knows that it does."""
    with pair.both() as (primary, _):
        primary.signal(signal.SIGSTOP)
        for number in range(queue):
            (pair.source / f"f{number % 50}").write_text(f"{number}")
        (pair.source / "a").unlink()
        primary.signal(signal.SIGCONT)
        pair.barrier()
        assert any("more happened than could be told" in each for each in pair.events())


@pytest.fixture
def queue() -> int:
    """Return how many events the kernel queues."""
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@needs_mount
def test_too_few_watches_are_told_and_made_up_for(pair: WatchedPair) -> None:
    write(pair.source, {f"directory{number}/f": "1" for number in range(10)})
    few = 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"'
    within = ("unshare", "--user", "--map-root-user", "sh", "-c", few, "sh")
    with pair.standby(), pair.primary(within=within):
        pair.wait_for_state("DEGRADED")
        wait_until(lambda: "too few" in (pair.status()["last_error"] or ""), "it is told")
        write(pair.source, {"directory9/new": "1", "directory8/f": "changed"})
        pair.barrier()
        assert pair.status()["verdict"] in ("warning", "critical")


def test_a_watch_in_the_foreground(pair: WatchedPair) -> None:
    """It says once that it is in step, sends all before it ends, and leaves no alarm behind."""
    with pair.standby() as standby:
        words = ("watch", "--delete", "--rpo", "5", f"{pair.source}/", standby.url("m/"))
        with running(*words) as client:
            client.wait_for(lambda: "watching " in client.stderr, "it is in step")
            assert client.stderr == f"watching {pair.source}/\n"
            write(pair.source, {"new": "1"})
            wait_until((pair.target / "new").exists, "it arrives")
            wait_until(pair.received, "the standby knows")
            write(pair.source, {"last": "2"})
            client.signal(signal.SIGTERM)
            result = client.wait()
        assert (result.code, result.stdout) == (0, ""), result
        assert pair.is_equal
        assert pair.received() == {}, "it said that it leaves"


def test_a_server_that_reloads_says_so(pair: WatchedPair) -> None:
    """Its modules are others: the session ends, the next one goes by them."""
    with pair.both() as (_, standby):
        text = pair.standby_file.read_text()
        pair.standby_file.write_text(
            text.replace('["push", "delete"]', '["push", "delete", "pull"]')
        )
        standby.reload()
        wait_until(lambda: "other modules or rights" in pair.ask("events").stdout, "it is told")
        assert "shutting down" not in pair.ask("events").stdout
        pair.wait_in_step()


def test_a_watch_that_gives_up_leaves_no_alarm_behind(pair: WatchedPair) -> None:
    """Its standby was reached: a name mistyped once must not be missed there for ever."""
    with pair.standby() as standby:
        result = netsync("watch", f"{pair.source}/a/", standby.url("m/"))
        assert result.code == 11, result
        assert "not a directory" in result.stderr
        assert pair.received() == {}


def test_a_watch_that_is_configured_no_more_parts_from_its_standby(pair: WatchedPair) -> None:
    """By a reload; what is left out while the daemon is down; also if nothing else is configured.

    One that only stops says nothing: then the alarm is right.
    """
    with pair.standby() as standby:
        with pair.primary() as primary:
            pair.wait_in_step()
            wait_until(pair.received, "the standby knows")
            pair.configure(watched=False)
            primary.reload()
            wait_until(lambda: not pair.received(), "it said that it leaves")
            wait_until(lambda: not pair.status(), "it is forgotten here too")
        for others in (True, False):
            with pair.primary():
                wait_until(pair.received, "the standby expects it again")
            assert pair.received(), "it has only stopped"
            pair.configure(watched=False)
            if not others:
                text = pair.primary_file.read_text().partition("[job")[0]
                address = 'listen = ["127.0.0.1:0"]\n'
                pair.primary_file.write_text(f'{text}{address}[module.x]\npath = "{pair.source}"\n')
            ready = "carrying out" if others else "listening on"
            with pair.daemon(ready):
                wait_until(lambda: not pair.received(), "it said that it leaves")
                wait_until(lambda: not pair.status(), "it is forgotten here too")
        assert "internal error" not in standby.log


def test_a_watch_that_goes_elsewhere_parts_from_where_it_went(pair: WatchedPair) -> None:
    (pair.target / "below").mkdir()
    with pair.both() as (primary, _):
        wait_until(pair.received, "the standby knows")
        text = pair.primary_file.read_text()
        pair.primary_file.write_text(text.replace("/m/", "/m/below/"))
        primary.reload()
        wait_until(lambda: not pair.received(), "it is expected there no more")
        wait_until(lambda: "primary1:m/below" in pair.ask_standby("status").stdout, "but here")


def test_a_standby_that_cannot_be_told_of_the_end_is_named(pair: WatchedPair) -> None:
    with pair.standby(), pair.primary() as primary:
        pair.wait_in_step()
        wait_until(pair.received, "the standby knows")
    with pair.daemon() as primary:
        pair.configure(watched=False)
        primary.reload()
        wait_until(lambda: any("was not told" in each for each in pair.events()), "it is told")
        wait_until(lambda: not pair.status(), "it is forgotten here all the same")
    (told,) = [each for each in pair.events() if "was not told" in each]
    assert "refused" in told
    assert "take the right push" in told


def test_a_directory_by_name_goes_below_the_destination(pair: WatchedPair, tmp_path: Path) -> None:
    """Also on one host, without a server."""
    target = tmp_path / "local"
    target.mkdir()
    with running("watch", str(pair.source), str(target)) as client:
        client.wait_for(lambda: "watching " in client.stderr, "it is in step")
        write(pair.source, {"new": "1"})
        wait_until((target / "source" / "new").exists, "it arrives")
        client.signal(signal.SIGINT)
        assert client.wait().code == 0


REFUSED = [
    (["-L", "SRC", "DEST"], 1, "behind links"),
    (["-n", "SRC", "DEST"], 1, "--dry-run"),
    (["--json", "SRC", "DEST"], 1, "--json"),
    (["SRC/nothing/", "DEST"], 11, "no such file"),
    (["SRC", "netsync://127.0.0.1:PORT/none/"], 5, "no such module"),
    (["SRC/", "netsync://127.0.0.1:PORT/m/../x/"], 5, "leads out of the module"),
    (["SRC/", "netsync://127.0.0.1:PORT/m/file/"], 11, "a file is where a directory should be"),
    (["h::m/", "DEST"], 1, "the source is remote"),
    (["SRC", "SRC/b"], 1, "contains the destination"),
]


def test_what_cannot_be_watched_is_refused_with_words(pair: WatchedPair) -> None:
    (pair.target / "file").touch()
    with serving("--module", f"m={pair.target}") as server:
        named = {"SRC": str(pair.source), "DEST": str(pair.target), "PORT": str(server.port)}
        for words, code, says in REFUSED:
            line = "\n".join(words)
            for short, meant in named.items():
                line = line.replace(short, meant)
            result = netsync("watch", *line.split("\n"))
            assert result.code == code, result
            assert says in result.stderr
            assert result.stderr.count("\n") == 1, "it is said once"


def test_a_watch_in_the_foreground_says_each_trouble_once(pair: WatchedPair) -> None:
    """And that it goes on; after a signal it says what it waits for, and can be cut short."""
    with (
        pair.standby() as standby,
        running("watch", f"{pair.source}/", standby.url("m/")) as client,
    ):
        client.wait_for(lambda: "watching " in client.stderr, "it is in step")
        standby.process.kill()
        standby.process.wait()
        client.wait_for(lambda: "refused" in client.stderr, "it is told")
        write(pair.source, {"owed": "1"})
        time.sleep(1.5)  # for more attempts in vain
        client.signal(signal.SIGINT)
        client.wait_for(lambda: "sending what is outstanding" in client.stderr, "it waits")
        client.signal(signal.SIGINT)
        result = client.wait(20)
    assert result.code == 20
    said = result.stderr.splitlines()
    assert sum("connection refused" in line for line in said) == 1, result
    assert all(line.endswith("; it is tried again") for line in said[1:-2]), result
    assert "interrupted by SIGINT" in said[-1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_both_are_equal_at_each_barrier(pair: WatchedPair, seed: int) -> None:
    """Random changes without a pause, moves of full directories too, and barriers between."""
    choose = random.Random(seed)
    with pair.both():
        for _ in range(8):
            for number in range(60):
                upset(pair.source, choose, number)
            pair.barrier()


def upset(root: Path, choose: random.Random, number: int) -> None:
    """Do one thing to a tree."""
    directories = [Path(each) for each, _, _ in os.walk(root)]
    files = [Path(each, name) for each, _, names in os.walk(root) for name in names]
    here, there = choose.choice(directories), choose.choice(directories)
    name = f"n{choose.randrange(40)}"
    free = not os.path.lexists(here / name)
    match choose.randrange(9):
        case 0 | 1:
            if free or (here / name).is_file():
                (here / name).write_bytes(choose.randbytes(choose.choice([3, 3, 5000, 100_000])))
        case 2 if free:
            write(here / name, {"x/y": f"{number}", "z": "1"})
        case 3 if files:
            moved = choose.choice(files)
            if not (there / name).is_dir():
                moved.rename(there / name)
        case 4 if here not in (root, there, *there.parents):
            if not os.path.lexists(there / f"d{number}"):
                here.rename(there / f"d{number}")
        case 5 if files:
            choose.choice(files).unlink()
        case 6 if here != root and len(directories) > 4:
            shutil.rmtree(here)
        case 7 if free:
            (here / name).symlink_to(choose.choice(["a", "../b", "nowhere"]))
        case 8:
            os.chmod(here, choose.choice([0o700, 0o755, 0o1775]))
