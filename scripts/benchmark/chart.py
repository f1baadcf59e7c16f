"""A bar chart of the ratios, as SVG written by hand."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmark.model import YARDSTICK, Result, ratios

WIDTH, LEFT, RIGHT = 760, 250, 60
TOP, ROW, BAR = 56, 34, 20
STYLE = (
    "text{font:13px sans-serif;fill:#333}.title{font-size:15px;font-weight:bold}"
    ".bar{fill:#2a7ab0}.slow{fill:#b0532a}.one{stroke:#888;stroke-dasharray:4 3}"
)


def write_svg(path: Path, results: Sequence[Result], note: str) -> None:
    """One bar a workload: rsync's time through stunnel over netsync's."""
    ratio = ratios(list(results))
    titles = {result.workload.name: result.workload.title for result in results}
    bars = [
        (title, ratio[name, YARDSTICK])
        for name, title in titles.items()
        if (name, YARDSTICK) in ratio
    ]
    height = TOP + ROW * len(bars) + 40
    scale = (WIDTH - LEFT - RIGHT) / max([1.0, *(value for _, value in bars)])
    one = LEFT + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text class="title" x="12" y="24">How many times as fast as rsync over TLS</text>',
        f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 8}" y2="{height - 36}"/>',
        f'<text x="{one:.1f}" y="{TOP - 12}" text-anchor="middle">rsync = 1</text>',
    ]
    for number, (title, value) in enumerate(bars):
        parts.append(_bar(TOP + number * ROW, title, value, scale))
    parts.append(f'<text x="12" y="{height - 14}">{escape(note)}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _bar(top: int, title: str, value: float, scale: float) -> str:
    kind = "bar" if value >= 1 else "slow"
    width = value * scale
    text = top + BAR - 5
    return (
        f'<text x="{LEFT - 8}" y="{text}" text-anchor="end">{escape(title)}</text>'
        f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}"/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{text}">{value:.2f}</text>'
    )
