"""The mirror's benchmark: what it prints, and what it measures with."""

from __future__ import annotations

from pathlib import Path

from benchmark.mirror import Figure, _table, dd_rate, sequential, sync_rate, warm_reads


def test_the_table_says_what_is_asked_and_whether_it_holds() -> None:
    table = _table([
        Figure("one writer", "/s", 1234.5, 800.0, "at least 617", holds=True),
        Figure("sequential write", " MB/s", 900.0, 120.0, "at least 300", holds=False),
        Figure("dd", "/s", 1.0, 2.0, "", holds=True),
    ])  # fmt: skip
    lines = table.strip("\n").splitlines()
    assert len(lines) == 4
    assert "1,234/s" in lines[1]
    assert lines[1].endswith("at least 617: yes")
    assert lines[2].endswith("at least 300: NO")
    assert lines[3].rstrip().endswith("2/s")


def test_every_rate_can_be_measured_on_a_directory(tmp_path: Path) -> None:
    assert sync_rate(tmp_path, 0.01) > 0
    assert sync_rate(tmp_path, 0.01, 2) > 0
    assert dd_rate(tmp_path, 0.01) > 0
    written, flushed = sequential(tmp_path, 4 << 20)
    assert written >= flushed > 0
    assert warm_reads(tmp_path, 4 << 20) > 0
