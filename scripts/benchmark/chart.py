"""A bar chart of the ratios, as SVG written by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from benchmark.model import YARDSTICK, Result, Storage, ratios

WIDTH, LEFT, RIGHT = 780, 270, 60
TOP, BAR, BETWEEN, BELOW = 78, 18, 14, 36
COLOURS = {Storage.MEMORY: "memory", Storage.DISK: "disk"}
LEGEND = {Storage.MEMORY: "in memory (tmpfs)", Storage.DISK: "on disk, both flush"}

# The card has a background of its own, so that text and ground always change together: a page
# may be dark where the reader's system is light, and the other way round.
STYLE = (
    "text{font:13px sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:bold}"
    ".ratio{paint-order:stroke;stroke:#fff;stroke-width:5px}"
    ".small{font-size:11px}.card{fill:#fff;stroke:#8c959f}"
    ".memory{fill:#1f6fb2}.disk{fill:#2b8a5b}.one{stroke:#57606a;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.card{fill:#0d1117;stroke:#6e7681}"
    ".ratio{stroke:#0d1117}.memory{fill:#4f9fe0}.disk{fill:#4fb586}.one{stroke:#b1bac4}}"
)


@dataclass(frozen=True)
class Bar:
    """A ratio, and the storage it was measured on."""

    storage: Storage
    ratio: float


def write_svg(path: Path, results: Sequence[Result], note: str) -> None:
    """Bars for each workload: rsync's time through stunnel over netsync's."""
    path.write_text(draw(_groups(results), note))


def _groups(results: Sequence[Result]) -> dict[str, list[Bar]]:
    ratio = ratios(results)
    titles = {result.workload.name: result.workload.title for result in results}
    groups = {
        title: [
            Bar(storage, ratio[name, storage, YARDSTICK])
            for storage in Storage
            if (name, storage, YARDSTICK) in ratio
        ]
        for name, title in titles.items()
    }
    return {title: bars for title, bars in groups.items() if bars}


def draw(groups: dict[str, list[Bar]], note: str) -> str:
    """The SVG: a group of bars for each title, a line at 1 where both take the same time."""
    bars = [bar for group in groups.values() for bar in group]
    height = TOP + sum(BAR * len(group) + BETWEEN for group in groups.values()) + BELOW
    scale = (WIDTH - LEFT - RIGHT) / max([1.25, *(bar.ratio for bar in bars)])
    one, end = LEFT + scale, height - BELOW
    storages = [storage for storage in Storage if any(bar.storage is storage for bar in bars)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img" aria-labelledby="title">',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        '<text id="title" class="title" x="14" y="26">'
        "rsync's time through stunnel, divided by netsync's</text>",
        *_legend(storages),
        f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 8}" y2="{end}"/>',
        *_labelled(groups, scale),
        f'<text class="small" x="{one:.1f}" y="{TOP - 13}" text-anchor="middle">as fast: 1</text>',
        f'<text class="small" x="14" y="{height - 14}">{escape(note)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(storages: Sequence[Storage]) -> Iterator[str]:
    x = 14
    for storage in storages:
        yield f'<rect class="{COLOURS[storage]}" x="{x}" y="38" width="12" height="12"/>'
        yield f'<text class="small" x="{x + 17}" y="48">{LEGEND[storage]}</text>'
        x += 190


def _labelled(groups: dict[str, list[Bar]], scale: float) -> Iterator[str]:
    top = TOP
    for title, bars in groups.items():
        middle = top + BAR * len(bars) / 2 + 5
        yield f'<text x="{LEFT - 10}" y="{middle:.1f}" text-anchor="end">{escape(title)}</text>'
        for bar in bars:
            width = bar.ratio * scale
            yield (
                f'<rect class="{COLOURS[bar.storage]}" x="{LEFT}" y="{top}"'
                f' width="{width:.1f}" height="{BAR - 2}"/>'
                f'<text class="ratio" x="{LEFT + width + 6:.1f}" y="{top + BAR - 5}">'
                f"{bar.ratio:.2f}</text>"
            )
            top += BAR
        top += BETWEEN
