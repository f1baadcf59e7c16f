"""scripts/bench: medians, ratios, tables, verdicts, and what the JSON keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark import document, markdown, report
from benchmark.model import (
    WORKLOADS,
    Finding,
    Result,
    Run,
    Storage,
    Workload,
    amount,
    ratios,
)
from benchmark.verdicts import verdicts
from prepare.processes import StepError

TREE, SAME = WORKLOADS[:2]


def run(seconds: float, *, wire: int = 100_000, other: float = 0.0) -> Run:
    return Run(
        seconds=seconds,
        wire_bytes=wire,
        client_cpu=0.5,
        server_cpu=0.25,
        client_rss=10 << 20,
        server_rss=20 << 20,
        other_cpu=other,
    )


def result(
    workload: Workload, program: str, *seconds: float, storage: Storage = Storage.MEMORY
) -> Result:
    return Result(workload, program, storage, [run(each) for each in seconds])


def sample() -> list[Result]:
    return [
        result(TREE, "netsync", 2.0, 9.0, 1.0),
        result(TREE, "rsync-tls", 3.0, 3.5, 2.5),
        result(SAME, "netsync", 2.0),
        result(SAME, "rsync-tls", 1.0),
        result(TREE, "netsync", 2.0, storage=Storage.DISK),
        result(TREE, "rsync-tls", 12.0, storage=Storage.DISK),
    ]


def documented(results: list[Result], findings: list[Finding] | None = None) -> document.Document:
    machine = {
        "cpu": "a processor",
        "cores": 2,
        "memory_mib": 2048,
        "kernel": "6.1",
        "python": "3.11.2",
        "openssl": "OpenSSL 3",
        "rsync": "rsync version 3.5.0",
        "stunnel": "stunnel 5.68",
        "commit": "0123456789abcdef+",
    }
    settings = {"runs": 3, "quick": False, "lacks": ["acls"]}
    sources = {"tree": {"origin": "a tree", "entries": 7, "bytes": 4_200_000}}
    when = "2026-11-24T00:00:00+00:00"
    return document.Document(machine, settings, sources, results, findings or [], when)


def test_the_median_is_of_each_figure_and_one_slow_run_does_not_count() -> None:
    assert sample()[0].median().seconds == 2.0


def test_a_ratio_is_the_programs_time_over_netsyncs_on_the_same_storage() -> None:
    found = ratios(sample())
    assert found["tree-first", Storage.MEMORY, "rsync-tls"] == 1.5
    assert found["tree-first", Storage.DISK, "rsync-tls"] == 6.0
    assert found["tree-first", Storage.MEMORY, "netsync"] == 1.0


def test_without_netsync_there_is_no_ratio() -> None:
    assert ratios([result(TREE, "rsync-tls", 1.0)]) == {}


def test_both_sides_count_for_cpu_and_the_larger_for_memory() -> None:
    assert run(1.0).cpu == 0.75
    assert run(1.0).rss == 20 << 20


@pytest.mark.parametrize(
    ("count", "text"), [(999, "1 KB"), (9_999_499, "9,999 KB"), (60_000_000, "60 MB")]
)
def test_amounts_are_in_powers_of_1000(count: int, text: str) -> None:
    assert amount(count) == text


def test_verdicts_tell_reached_stretch_and_missed() -> None:
    words = {(each.workload, each.what): each.word for each in verdicts(sample())}
    assert words["tree-first", "ratio"] == "reached"
    assert words["tree-first", "ratio on disk"] == "reached"
    assert words["tree-same", "ratio"] == "MISSED"
    assert words["tree-same", "wire"] == "reached"
    assert words["tree-first", "RSS"] == "reached"


def test_a_stretch_is_told_when_it_is_reached() -> None:
    insert = WORKLOADS[-1]
    mine = Result(insert, "netsync", runs=[run(1.0, wire=1_000_000)])
    words = {each.what: each.word for each in verdicts([mine, result(insert, "rsync-tls", 3.0)])}
    assert words == {
        "ratio": "reached",
        "wire": "reached, with the stretch",
        "RSS": "reached",
    }


def test_columns_align_words_left_and_figures_right() -> None:
    text = report.columns([("a", "b", "one"), ("long", "x", "1")])
    assert text.splitlines() == ["a     b  one", "long  x    1"]


def test_the_tables_show_each_storage_and_each_program() -> None:
    lines = report.tables(sample(), judged=True).splitlines()
    assert "tree-first  netsync       2.00   1.00  100 KB  10 / 20   0.75" in lines
    assert any(line.split()[:3] == ["rsync-tls", "12.00", "6.00"] for line in lines)
    assert not any("WARNING" in line for line in lines)


def test_a_busy_machine_is_warned_of() -> None:
    busy = Result(TREE, "netsync", runs=[run(1.0, other=1000.0)])
    assert "WARNING" in report.tables([busy], judged=False)


def test_markdown_has_a_row_for_each_workload_with_both_ratios() -> None:
    lines = markdown.section(documented(sample())).splitlines()
    row = next(line for line in lines if TREE.title in line)
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["2.00 s", "3.00 s", "1.50", "6.00"]
    same = next(line for line in lines if SAME.title in line)
    assert same.split("|")[5].strip() == "-"


def test_markdown_tells_the_machine_the_commit_and_what_netsync_lacks() -> None:
    preface = markdown.section(documented(sample())).splitlines()[0]
    assert "0123456789ab with changes" in preface
    assert "rsync version 3.5.0" in preface
    assert "does not keep acls" in preface
    assert "tree: a tree, 7 entries, 4,200 KB" in preface


def test_the_number_of_runs_is_what_was_run() -> None:
    assert documented(sample()).runs == "1 to 3 runs"
    assert documented(sample()[:2]).runs == "3 runs"


def test_markdown_shows_findings_with_their_limits() -> None:
    finding = Finding("memory", "a million files", 123.4, "MiB", 250.0)
    text = markdown.section(documented([], [finding]))
    assert "| memory: a million files | 123 MiB | 250 MiB |" in text


def test_a_finding_above_its_limit_is_missed() -> None:
    assert Finding("flat", "one / many", 2.1, "times as long", 2.0).verdict == "MISSED"
    assert Finding("flat", "one / many", 2.0, "times as long", 2.0).verdict == "reached"
    assert Finding("memory", "each file", 300.0, "bytes").verdict == ""


def test_the_json_holds_all_runs_and_is_read_back_as_it_was(tmp_path: Path) -> None:
    written = documented(sample(), [Finding("flat", "one / many", 1.5, "times as long", 2.0)])
    document.write(tmp_path / "figures.json", written)
    assert document.read(tmp_path / "figures.json") == written
    content = json.loads((tmp_path / "figures.json").read_text())
    assert content["schema"] == "netsync.bench/1"
    first = content["results"][0]
    assert [each["seconds"] for each in first["runs"]] == [2.0, 9.0, 1.0]
    assert content["results"][1]["ratio"] == 1.5


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "netsync.bench/2"}'])
def test_another_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(StepError, match=r"other\.json"):
        document.read(tmp_path / "other.json")
