"""Draws the plots of the performance page from the tables of `benches/README.md`, so that both always agree.

python docs/plots.py FOLDER
"""

from __future__ import annotations

import re
import statistics
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

RESULTS = Path(__file__).parent.parent / "benches" / "README.md"

WIDTH = 460
BAR = 16
ROW = 66
MARGIN = 16
"""Sizes in pixels. A label stands above its bars, so that a phone shows it large enough."""

SMALL = 10
"""Figures from here on are shown without decimals."""

MODELS = (("demo, 2 million parameters", "#14836f"), ("0.5B shape", "#c2571a"))


class Plot(NamedTuple):
    """A bar chart: rows of the table of ratios, each under a shorter label."""

    title: str
    unit: str
    rows: dict[str, str]


PLOTS = {
    "overhead": Plot(
        "Speed beside a bare loop over llama.cpp",
        "1.0 is the speed of the bare loop; higher is better",
        {
            "Rust stream / raw": "Rust, one stream",
            "8 streams together / raw batch of 8 in one unified pool": "Rust, 8 streams",
            "Python `for` / raw": "Python for, one stream",
            "Python `async for` / raw": "Python async for, one stream",
            "8 async streams / raw batch of 8": "Python async for, 8 streams",
        },
    ),
    "neighbours": Plot(
        "What running streams keep of their speed",
        "1.0 is the speed without the neighbour; higher is better",
        {
            "7 running beside 1 paused / 7 alone": "7 streams beside a paused one",
            "8 streams beside 3,000 idle tokens / in an empty engine": "8 streams beside 3,000 cached tokens",
            "8 streams beside one busy thread / best of fixed n_threads 1 and 2": "8 streams beside a busy thread",
            "pool for 4 of 8 streams / the pool for 8": "8 streams in a pool for 4",
        },
    ),
    "prefixes": Plot(
        "Time to the first token after 1,000 known tokens",
        "how many times faster than a cold start; higher is better",
        {
            "first token of a repeated 1,000-token prefix, cold / warm": "the prefix is in the KV pool",
            "the same when the prefix was offloaded to host memory": "the prefix was offloaded",
        },
    ),
}


def measured(results: str, row: str) -> list[list[float]]:
    """The figures of the demo model and of the 0.5B shape in a row of the table, one for each run."""
    [line] = re.findall(rf"(?m)^\| {re.escape(row)} \|(.*)\|$", results)
    _target, demo, _target, shape = (cell.split("(")[0] for cell in line.split("|"))
    return [[float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", cell)] for cell in (demo, shape)]


def drawn(plot: Plot, results: str) -> str:
    """The plot as SVG: a bar for the median of the runs, a dot for each of them."""
    rows = [(label, measured(results, row)) for row, label in plot.rows.items()]
    highest = max(figure for _, both in rows for figures in both for figure in figures)
    scale = (WIDTH - 2 * MARGIN - 60) / highest
    top = 90
    height = top + len(rows) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<title>{escape(plot.title)}</title><style>text{{font-family:sans-serif}}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fff" stroke="#d8dedc"/>',
        text(MARGIN, 28, plot.title, size=17, fill="#1c2b27"),
        text(MARGIN, 48, plot.unit, size=13, fill="#54645f"),
    ]
    for at, (model, colour) in enumerate(MODELS):
        parts.append(f'<rect x="{MARGIN + at * 210}" y="58" width="11" height="11" fill="{colour}"/>')
        parts.append(text(MARGIN + 17 + at * 210, 68, model, size=13, fill="#54645f"))
    for at, (label, both) in enumerate(rows):
        y = top + at * ROW
        parts.append(text(MARGIN, y + 12, label, size=14, fill="#1c2b27"))
        for below, (figures, (_, colour)) in enumerate(zip(both, MODELS, strict=True)):
            parts += bar(y + 20 + below * BAR, figures, scale, colour)
    return "\n".join([*parts, "</svg>", ""])


def bar(y: int, figures: list[float], scale: float, colour: str) -> list[str]:
    """The bar of one model, with its median as a number."""
    if not figures:
        return []
    median = statistics.median(figures)
    end = MARGIN + max(figures) * scale
    return [
        f'<rect x="{MARGIN}" y="{y}" width="{median * scale:.1f}" height="{BAR - 2}" fill="{colour}"/>',
        *(
            f'<circle cx="{MARGIN + figure * scale:.1f}" cy="{y + BAR / 2 - 1}" r="3" fill="#fff" stroke="{colour}"/>'
            for figure in figures
        ),
        text(round(end) + 8, y + 12, f"{median:.2f}" if median < SMALL else f"{median:.0f}", size=13, fill="#1c2b27"),
    ]


def text(x: int, y: int, words: str, *, size: int, fill: str) -> str:
    """Words at a point."""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}">{escape(words)}</text>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the plots to the site."""
    from mkdocs.structure.files import File  # noqa: PLC0415  # drawing alone needs no mkdocs

    results = RESULTS.read_text(encoding="utf-8")
    for name, plot in PLOTS.items():
        files.append(File.generated(config, f"assets/{name}.svg", content=drawn(plot, results)))
    return files


if __name__ == "__main__":
    for name, plot in PLOTS.items():
        (Path(sys.argv[1]) / f"{name}.svg").write_text(
            drawn(plot, RESULTS.read_text(encoding="utf-8")), encoding="utf-8"
        )
