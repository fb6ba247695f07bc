"""Draws docs/images/benchmark.svg, the chart of the front page, from the figures of a run that is kept.

python bench/front_page.py [--to CHART] [RUN]        RUN: a folder of bench/runs with a raw.json
"""

import argparse
import json
import statistics
from pathlib import Path

from harness.chart import STYLE, text

BENCH = Path(__file__).resolve().parent
CHART = BENCH.parent / "docs" / "images" / "benchmark.svg"
RUN = BENCH / "runs" / "2026-11-21-amd-epyc-2-cores"
KEY = "cpu_microseconds"
OURS = "portico"
# A workload that the servers do little for, two frameworks, and one in which Portico is not first.
PANELS = {
    "browser": "Hello, world, with a browser's headers",
    "flask": "Flask",
    "django": "Django",
    "stream": "Stream of 20 blocks",
}
SERVERS = ("portico", "granian", "uwsgi", "waitress", "gunicorn-gthread")
WIDTH, MARGIN, LABEL, VALUE = 430, 4, 124, 44
HEAD, TITLE, ROW, BAR, GAP = 52, 28, 20, 12, 16


def medians(raw: dict, workload: str) -> dict[str, float]:
    """CPU time of a request in microseconds, by server: the median over the rounds."""
    cells = raw["workloads"][workload]
    return {
        name: statistics.median(sample[KEY] for sample in cells[name]["samples"])
        for name in SERVERS
        if not cells[name]["cannot"]
    }


def shown(microseconds: float) -> str:
    """A figure as the tables of the run have it: three digits."""
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.1f}"


def draw(raw: dict) -> str:
    """The chart as SVG, one panel a workload, each on a scale of its own."""
    panels = {workload: medians(raw, workload) for workload in PANELS}
    height = HEAD + sum(TITLE + ROW * len(figures) + GAP for figures in panels.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Server CPU time per request of {len(SERVERS)} servers">',
        f"<style>{STYLE}\n</style>",
        text(MARGIN, 18, "Server CPU per request, in microseconds", "head"),
        text(MARGIN, 38, "Shorter is better. One process on one core.", "quiet"),
    ]
    top = HEAD
    for workload, figures in panels.items():
        parts += panel(top, PANELS[workload], figures)
        top += TITLE + ROW * len(figures) + GAP
    return "\n".join([*parts, "</svg>", ""])


def panel(top: float, title: str, figures: dict[str, float]) -> list[str]:
    """One workload: its title and a bar for each server, the cheapest first."""
    parts = [text(MARGIN, top + 16, title, "title")]
    scale = (WIDTH - 2 * MARGIN - LABEL - VALUE) / max(figures.values())
    left = MARGIN + LABEL
    for number, (name, value) in enumerate(sorted(figures.items(), key=lambda pair: pair[1])):
        y = top + TITLE + number * ROW
        kind = "ours" if name == OURS else "bar"
        length = value * scale
        parts.append(text(left - 8, y + BAR - 2, name, "", "end"))
        parts.append(f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        parts.append(text(left + length + 5, y + BAR - 2, shown(value)))
    return parts


def main() -> None:
    """Writes the chart."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--to", type=Path, default=CHART, metavar="CHART")
    parser.add_argument("run", type=Path, nargs="?", default=RUN, metavar="RUN")
    options = parser.parse_args()
    options.to.write_text(draw(json.loads((options.run / "raw.json").read_text())))


if __name__ == "__main__":
    main()
