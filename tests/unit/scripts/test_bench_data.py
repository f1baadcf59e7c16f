"""scripts/bench: the data made to be hard are hard, and the options choose what they name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from benchmark import corpora, delay
from benchmark.measure import check
from benchmark.model import Job, Kept, Storage, Workload
from benchmark.options import Options, parse
from benchmark.program import Peers
from benchmark.rsync import Rsync
from benchmark.sources import made_up_tree
from benchmark.studies import CLIFF, STUDIES
from prepare.processes import StepError

from netsync.delta.kernel import WEAK_SIZE, weak_sums

BIG = Workload("big", "big", "big", flags=("--inplace",))


@pytest.mark.parametrize("block_size", [4096, 8192, 65536])
def test_crafted_blocks_are_distinct_and_have_one_weak_checksum(block_size: int) -> None:
    count = 3 * block_size // corpora.UNIT * 8
    data = b"".join(corpora.colliding_units(count))
    sums = weak_sums(data, block_size)
    level = weak_sums(bytes([corpora.LEVEL]) * block_size, block_size)
    assert {sums[at : at + WEAK_SIZE] for at in range(0, len(sums), WEAK_SIZE)} == {level}
    units = [data[at : at + corpora.UNIT] for at in range(0, len(data), corpora.UNIT)]
    assert len(set(units)) == count


def test_crafted_blocks_of_another_beginning_are_others() -> None:
    first, second = (set(corpora.colliding_units(2100, begin)) for begin in (0, 262_144))
    assert not first & second


def test_an_edit_changes_one_block_in_a_hundred(tmp_path: Path) -> None:
    corpora.noise(tmp_path / "old", 2 << 20, 1)
    corpora.edited(tmp_path / "new", tmp_path / "old")
    old, new = ((tmp_path / name).read_bytes() for name in ("old", "new"))
    changed = sum(old[at : at + 4096] != new[at : at + 4096] for at in range(0, len(old), 4096))
    assert len(new) == len(old)
    assert changed == len(old) // 4096 // 100


def test_files_are_spread_over_all_directories(tmp_path: Path) -> None:
    corpora.files(tmp_path / "tree", 10, 3, 5)
    sizes = [len(list(folder.iterdir())) for folder in sorted((tmp_path / "tree").iterdir())]
    assert sizes == [4, 3, 3]


def test_the_deep_tree_has_a_file_at_its_lowest_level(tmp_path: Path) -> None:
    """A hundred levels: pytest could not remove a thousand."""
    corpora.deep(tmp_path / "deep", 100)
    lowest = tmp_path.joinpath("deep", *["d"] * 100, "f")
    assert lowest.read_bytes() == b"deep\n"


def test_the_made_up_tree_is_the_same_every_time(tmp_path: Path) -> None:
    trees = [tmp_path / "one", tmp_path / "two"]
    contents = []
    for tree in trees:
        made_up_tree(tree, files=60)
        files = sorted(path for path in tree.rglob("*") if not path.is_dir())
        contents.append({path.relative_to(tree): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len([path for path in contents[0] if path.name != "latest"]) == 60


def test_the_proxy_hands_on_every_byte_in_both_directions() -> None:
    sent = bytes(range(256)) * 4096

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(-1))
        writer.close()

    async def through_the_proxy() -> bytes:
        echoing = await asyncio.start_server(echo, "127.0.0.1", 0)
        proxy = await delay.serve(echoing.sockets[0].getsockname()[1], 0.0)
        async with echoing, proxy:
            port = proxy.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            writer.write_eof()
            received = await reader.read(-1)
            writer.close()
            return received

    assert asyncio.run(through_the_proxy()) == sent


def test_the_proxy_notes_when_each_piece_is_due() -> None:
    async def due() -> tuple[float, list[tuple[float, bytes]]]:
        reader, held = asyncio.StreamReader(), delay.Held(delay.UNDERWAY)
        reader.feed_data(b"piece")
        reader.feed_eof()
        now = asyncio.get_running_loop().time()
        await delay.take(reader, held, 1000.0)
        return now, [held.get_nowait() for _ in range(held.qsize())]

    now, noted = asyncio.run(due())
    assert [piece for _, piece in noted] == [b"piece", b""]
    assert all(when >= now + 1000.0 for when, _ in noted)


def job(storage: Storage, kept: Kept, place: Path) -> Job:
    workload = Workload("big", "big", "big", flags=("--inplace",), kept=kept)
    return Job(workload, place / "source", 0, place, None, storage)


def test_rsync_keeps_what_netsync_keeps_and_flushes_when_it_does(tmp_path: Path) -> None:
    peers = Peers("rsync://there/", [])
    program = Rsync(tmp_path, [])
    memory = program.command(job(Storage.MEMORY, Kept.ALL, tmp_path), peers)
    disk = program.command(job(Storage.DISK, Kept.PLAIN, tmp_path), peers)
    assert {"-aHAX", "--inplace"} <= set(memory)
    assert "--fsync" not in memory
    assert {"-a", "--fsync"} <= set(disk)


def test_a_wrong_copy_ends_the_benchmark(tmp_path: Path) -> None:
    module = tmp_path / "module"
    module.mkdir()
    source = tmp_path / "source"
    source.write_bytes(b"right")
    (module / "big.img").write_bytes(b"wrong")
    with pytest.raises(StepError, match="rsync-tls, big: the copy is wrong"):
        check(Job(BIG, source, 5, module), "rsync-tls", contents=True)


def chosen(*words: str) -> Options:
    return parse(list(words))


def test_without_options_all_workloads_run_on_both_storages_and_no_study() -> None:
    options = chosen()
    assert len(options.only) == 7
    assert options.studies == ()
    assert options.storages == (Storage.MEMORY, Storage.DISK)
    assert options.runs == 5


def test_only_chooses_workloads_studies_and_groups_of_them() -> None:
    options = chosen("--only", "cliff,zeros,big-edit")
    assert options.only == ("big-edit",)
    assert options.studies == CLIFF
    assert chosen("--only", "studies").studies == tuple(STUDIES)
    assert chosen("--only", "memory").only == ()


def test_an_unknown_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chosen("--only", "tree-last")
    assert "tree-first" in capsys.readouterr().err
