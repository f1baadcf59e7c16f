"""Who may write to a mirrored place: one table, and the words of each refusal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netsync.errors import RefusedError, RootError
from netsync.server.mirroring import refuse_writer
from netsync.server.mirrors import open_root, plain_path, refuse_overlap, refuse_promotion
from netsync.state.mirror_record import PRIMARY, Record, RecordFile, refuse_mirrored
from netsync.wire.messages import Place
from netsync.wire.mirroring import Mirror

OURS, THEIRS, OLD = (bytes([number]) * 16 for number in range(3))
RECORD = Record(b"/srv", b"db", "m", "primary1", 3, generation=OURS, complete=True, seq=40)
REQUEST = Mirror(Place("m", b"db"), OURS, 3, head=52)


@pytest.mark.parametrize(
    ("record", "request_", "identity"),
    [
        ({}, {}, "primary1"),
        ({}, {"generation": THEIRS, "parents": (OURS,)}, "primary1"),
        ({"generation": b""}, {"generation": THEIRS}, "primary1"),
        (
            {"generation": b"", "claim": OURS},
            {"generation": THEIRS, "parents": (OURS,)},
            "primary1",
        ),
        ({"generation": b"", "claim": OURS}, {"generation": THEIRS, "adopt": True}, "primary1"),
        ({}, {"generation": THEIRS, "adopt": True}, "primary1"),
        ({}, {"adopt": True}, "other"),
        ({}, {"epoch": 4, "generation": THEIRS}, "other"),
        ({"role": PRIMARY}, {"epoch": 4, "generation": THEIRS}, "other"),
    ],
)
def test_who_may_write(record: dict[str, Any], request_: dict[str, Any], identity: str) -> None:
    refuse_writer(
        msgspec.structs.replace(RECORD, **record),
        msgspec.structs.replace(REQUEST, **request_),
        identity,
    )


@pytest.mark.parametrize(
    ("record", "request_", "identity", "words"),
    [
        ({}, {}, "other", "copy of another primary: 'primary1' at epoch 3, up to operation 40"),
        ({}, {"generation": THEIRS, "parents": (OLD,)}, "primary1", "not one that this"),
        (
            {"generation": b"", "claim": OURS},
            {"generation": THEIRS, "parents": (OLD,)},
            "primary1",
            "not one that this",
        ),
        (
            {"generation": OLD, "claim": OURS},
            {"generation": THEIRS, "parents": (OLD,)},
            "primary1",
            "not one that this",
        ),
        ({}, {"epoch": 2}, "primary1", "12 operations of yours, from 41 on, are not in it"),
        ({"role": PRIMARY}, {}, "primary1", "promoted on .* at epoch 3.* 12 operations of yours"),
        ({"role": PRIMARY}, {"adopt": True}, "primary1", "--epoch 4"),
        ({}, {"epoch": 2, "generation": OLD}, "primary1", "how much is only yours is not known"),
    ],
)
def test_who_may_not_learns_why_and_what_to_do(
    record: dict[str, Any], request_: dict[str, Any], identity: str, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        refuse_writer(
            msgspec.structs.replace(RECORD, **record),
            msgspec.structs.replace(REQUEST, **request_),
            identity,
        )
    assert caught.value.op == "mirror to", "by which the primary knows that it must stop"
    assert caught.value.hint


@pytest.mark.parametrize("place", [b"/srv", b"/srv/db/x", b"/"])
def test_mirrors_do_not_lie_in_one_another(place: bytes) -> None:
    refuse_overlap([RECORD], b"/srv/db")
    refuse_overlap([RECORD], b"/srv/db2")
    with pytest.raises(RefusedError, match="mirrored by 'primary1' already"):
        refuse_overlap([RECORD], place)


def test_a_place_is_a_path_that_leads_down() -> None:
    assert [plain_path(path) for path in (b"", b"/", b"a/./b//", b"./a")] == [
        b"", b"", b"a/b", b"a"]  # fmt: skip
    for path in (b"..", b"a/../b", b".netsync", b"a\0"):
        with pytest.raises(RefusedError):
            plain_path(path)


def test_what_may_be_promoted() -> None:
    refuse_promotion(RECORD, force=False)
    incomplete = msgspec.structs.replace(RECORD, complete=False, words="it was changed")
    with pytest.raises(RefusedError, match="no whole copy: it was changed"):
        refuse_promotion(incomplete, force=False)
    refuse_promotion(incomplete, force=True)
    with pytest.raises(RefusedError, match="promoted already"):
        refuse_promotion(msgspec.structs.replace(RECORD, role=PRIMARY), force=True)


def test_the_directory_of_a_whole_copy_is_not_made_anew(tmp_path: Path) -> None:
    """Where it is missing its file system is not mounted, and the copy is elsewhere."""
    (tmp_path / "m").mkdir()
    record = msgspec.structs.replace(RECORD, base=os.fsencode(tmp_path / "m"))
    with pytest.raises(RootError, match="not there"):
        open_root(record)
    assert not (tmp_path / "m" / "db").exists()
    os.close(open_root(msgspec.structs.replace(record, complete=False)))
    assert (tmp_path / "m" / "db").is_dir()


def test_no_way_to_the_copy_is_open_to_others(tmp_path: Path) -> None:
    """By its own path, above, below, through a link, with dots; beside it all is free."""
    copy = tmp_path / "m" / "db"
    copy.mkdir(parents=True)
    (tmp_path / "m" / "link").symlink_to(copy)
    state = tmp_path / "state"
    record = msgspec.structs.replace(RECORD, base=os.fsencode(tmp_path / "m"))
    held = RecordFile(state, record.place)
    held.save(record)
    for path in ("m/db", "m", "m/db/x/y", "m/link", "m/link/z", "m/./other/../db", "."):
        with pytest.raises(RefusedError, match="standby's copy of what 'primary1' mirrors here"):
            refuse_mirrored(state, os.fsencode(tmp_path / path))
    for path in ("m/other", "m/db2", "elsewhere"):
        refuse_mirrored(state, os.fsencode(tmp_path / path))
    refuse_mirrored(state, os.fsencode(tmp_path) + b"/m/db\0")
    held.save(msgspec.structs.replace(record, role=PRIMARY))
    refuse_mirrored(state, record.place)
    held.close()
