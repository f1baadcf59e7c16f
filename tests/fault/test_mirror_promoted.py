"""A standby that is promoted in the middle of what its primary was about."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import msgspec
import pytest
import trio

from netsync.model import Options
from netsync.state.mirror_record import STANDBY, RecordFile, known_places
from tests.support.killing import KILLED, killed_before
from tests.support.mirrors import COPY, MODULE, Pair
from tests.support.places import differences
from tests.support.processes import netsync, succeed

pytestmark = pytest.mark.timeout(300)
COMPARISON = Options(delete=True, numeric_ids=True, atomic=True)
NAMES = ("a", "b", "c")


def publish_half(pair: Pair) -> None:
    """Compare until some of the new files are published and others are not, and be killed then."""
    for step in itertools.count(10):
        shutil.rmtree(pair.copy / ".netsync", ignore_errors=True)
        for name in NAMES:
            (pair.copy / name).write_text("old")
        assert killed_before(pair.source, pair.copy, COMPARISON, step) == KILLED, "it was too late"
        if len({(pair.copy / name).read_text() for name in NAMES}) > 1:
            return


async def test_a_comparison_that_was_cut_short_is_finished_first(tmp_path: Path) -> None:
    """Half of the old and half of the new is a state that nobody was ever in; and nothing is
    published later, into what has become the original."""
    pair = Pair(tmp_path)
    for name in NAMES:
        (pair.source / name).write_text("old")
    with trio.fail_after(250):
        with pair.standby():
            await pair.start()
        for name in NAMES:
            (pair.source / name).write_text("newer")
        await trio.to_thread.run_sync(publish_half, pair)
        (record,) = known_places(pair.state)
        held = RecordFile(pair.state, record.place)
        held.save(msgspec.structs.replace(record, generation=b""))  # as a comparison begins
        held.close()
        words = ("promote", f"{MODULE}/{COPY}", "--state", pair.state)
        (pair.copy / ".netsync").chmod(0o777)
        result = await trio.to_thread.run_sync(lambda: netsync(*words))
        assert result.code, "what cannot be finished keeps it from being promoted"
        assert "cut short waits in .netsync" in result.stderr
        assert known_places(pair.state)[0].role == STANDBY
        (pair.copy / ".netsync").chmod(0o700)
        await trio.to_thread.run_sync(lambda: succeed(*words))
        assert differences(pair.source, pair.copy, "--omit-dir-times") == ""
        (pair.copy / "a").write_text("of the new original")
        os.link(pair.copy / "a", pair.copy / "d")
        with pair.standby() as server:
            server.wait_for(lambda: "listening" in server.log, "it serves")
        assert (pair.copy / "a").read_text() == "of the new original"
