"""scripts/bench: the chart of the ratios is an SVG that any reader parses."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmark.chart import LEFT, RIGHT, WIDTH, Bar, draw, write_svg
from benchmark.model import WORKLOADS, Result, Run, Storage

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(svg: str, kind: str) -> list[float]:
    """Widths of the bars of this kind, without the legend's square."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    return [
        float(each.attrib["width"])
        for each in found
        if each.attrib.get("class") == kind and each.attrib["x"] == str(LEFT)
    ]


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_ratios_and_the_longest_fits() -> None:
    svg = draw({"a": [Bar(Storage.MEMORY, 4.0)], "b": [Bar(Storage.MEMORY, 2.0)]}, "")
    assert rectangles(svg, "memory") == [WIDTH - LEFT - RIGHT, (WIDTH - LEFT - RIGHT) / 2]


def test_the_line_is_where_a_bar_of_1_ends() -> None:
    svg = draw({"a": [Bar(Storage.MEMORY, 1.0), Bar(Storage.DISK, 5.0)]}, "")
    line = next(ElementTree.fromstring(svg).iter(f"{SVG}line"))
    assert float(line.attrib["x1"]) == LEFT + rectangles(svg, "memory")[0]


def test_each_bar_has_its_title_and_its_ratio() -> None:
    words = texts(draw({"first": [Bar(Storage.MEMORY, 1.234), Bar(Storage.DISK, 5.0)]}, "a note"))
    assert {"first", "1.23", "5.00", "a note"} <= set(words)


def test_only_storages_that_were_measured_are_explained() -> None:
    words = texts(draw({"first": [Bar(Storage.MEMORY, 1.0)]}, ""))
    assert not any("disk" in word for word in words)


def test_titles_and_notes_are_escaped() -> None:
    assert "<b> & more" in texts(draw({"<b> & more": [Bar(Storage.MEMORY, 1.0)]}, "1 < 2"))


def test_the_background_changes_together_with_the_text() -> None:
    """Readable on a light page and on a dark one: the card brings its own ground."""
    svg = draw({}, "")
    dark = svg.partition("prefers-color-scheme:dark")[2]
    assert ".card{" in dark
    assert "text{" in dark


def test_the_chart_shows_rsync_through_stunnel_only(tmp_path: Path) -> None:
    def result(program: str, seconds: float) -> Result:
        return Result(WORKLOADS[0], program, runs=[Run(seconds, 0, 0, 0, 0, 0, 0)])

    results = [result("netsync", 1), result("rsync-tls", 1.5), result("rsync-ssh", 3)]
    write_svg(tmp_path / "chart.svg", results, "")
    words = texts((tmp_path / "chart.svg").read_text())
    assert "1.50" in words
    assert "3.00" not in words
