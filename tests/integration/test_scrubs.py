"""Scrubs of jobs: two daemons, real TLS, and a disk whose bytes change beneath the file system."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from netsync.state.jobs import JobStates
from tests.support.jobs import JOB, Pair
from tests.support.processes import wait_until
from tests.support.rotting import disk, needs_images
from tests.support.samples import random_bytes, write

WHOLE = random_bytes(40_000, 7)
FILES = {"rotten": WHOLE, "d/well": b"well" * 100}
EVERY = 'schedule = "0 0 1 1 *"'

pytestmark = needs_images


def found(pair: Pair) -> list[tuple[str, str]]:
    """Return what status names as wrong."""
    scrub = pair.job_status()["scrub"]
    return [(each["path"], each["what"]) for each in scrub["found"]] if scrub else []


def is_damaged(pair: Pair) -> bool:
    """Look into the state: a command for each look would take the time from the daemon."""
    standing = JobStates(pair.state).standing(JOB)
    return standing is not None and standing.scrub is not None and standing.scrub.wrong > 0


def test_rot_at_the_primary_is_named_and_never_fetched(tmp_path: Path) -> None:
    """Not even by a job that compares content; the job stays degraded until it is mended."""
    with disk(tmp_path / "one", FILES) as bad:
        pair = Pair(tmp_path)
        pair.source = bad.place
        with pair.primary():
            pair.configure(
                pair.job(EVERY, "checksum = true", 'scrub = "5%/day"', 'rpo = "1h"'),
                server='metrics = "127.0.0.1:0"',
            )
            with pair.standby() as standby:
                assert pair.ask("run", "web").code == 0
                assert pair.ask("run", "web", "--scrub").code == 0
                assert pair.job_status()["scrub"]["parts"] == 480
                bad.rot("rotten")
                scrubbed = pair.ask("run", "web", "--scrub")
                assert scrubbed.code == 23
                assert "rotten: rotted at the source" in scrubbed.stderr
                assert found(pair) == [("rotten", "rotted at the source")]
                assert pair.job_status()["state"] == "DEGRADED"
                checked = pair.ask("check")
                assert checked.code == 1
                assert "1 file rotted: rotten" in checked.stdout
                assert "see netsync events" in checked.stdout
                metrics = next(
                    line for line in standby.log.splitlines() if line.startswith("metrics on ")
                )
                address = metrics.removeprefix("metrics on ")
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                    assert 'netsync_job_damaged_files{job="web"} 1.0' in answer.read().decode()
                before = pair.job_status()["last_point"]
                ran = pair.ask("run", "web")
                assert ran.code == 23
                assert "have rotted" in ran.stderr or "has rotted" in ran.stderr
                assert (pair.target / "rotten").read_bytes() == WHOLE
                # All that was written is here: what rotted at the primary makes no lag.
                assert pair.job_status()["last_point"] > before
                assert pair.kinds().count("rot") == 2  # by the scrub, and by the run
                (bad.place / "rotten").write_bytes(WHOLE)
                assert pair.ask("run", "web", "--scrub").code == 0
                assert pair.ask("run", "web").code == 0
                assert found(pair) == []
                assert pair.ask("check").code == 0
                assert "mended" in pair.kinds()


SOON = "rotten0"
"""A name whose part is the second of 24."""


def test_rot_at_the_standby_is_found_part_by_part(tmp_path: Path) -> None:
    """The daemon reads by itself, and tells which side it was."""
    files = {SOON: WHOLE, **FILES}
    with disk(tmp_path / "one", files) as bad:
        pair = Pair(tmp_path)
        pair.target = bad.place
        pair.source = write(tmp_path / "source", files)
        with pair.primary():
            # What is on the disk already is taken as it is: written anew it would be too young.
            pair.configure(
                pair.job(EVERY, "existing = true", "ignore_existing = true",
                         'scrub = "100%/minute"', "no_times = true").replace("delete = true\n", "")
            )  # fmt: skip
            with pair.standby():
                assert pair.ask("run", "web").code == 0
                assert pair.ask("run", "web", "--scrub").code == 0
            bad.rot(SOON)
            with pair.standby():
                wait_until(lambda: is_damaged(pair), "the part with it is read", 50)
                assert found(pair) == [(SOON, "rotted at the target")]
                assert pair.job_status()["state"] == "DEGRADED"
                told = [each["text"] for each in pair.events() if each["kind"] == "rot"]
                assert told == [f"{SOON}: rotted at the target"]
