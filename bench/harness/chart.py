"""The README's chart: CPU per request relative to Portico, one panel a workload. SVG, for light and dark."""

from html import escape

from .report import REFERENCE, ratio

KEY = "cpu_microseconds"
PANEL_WIDTH, PANELS_ACROSS, GAP, MARGIN = 330, 3, 24, 20
ROW, BAR, TITLE, LABEL, VALUE = 19, 12, 26, 112, 48
HEAD, FOOT = 62, 26
RATIO_MAX = 4.0  # longer bars are cut and say so by their number
TITLES = {
    "hello": "Hello, world",
    "browser": "Browser's headers",
    "access-log": "Access log on",
    "10k": "10 KB answer",
    "echo": "10 KB POST echoed",
    "stream": "20 streamed blocks",
    "sleep": "10 ms sleep, 64 threads",
    "mixed": "9 fast, 1 slow of 100 ms",
    "compute": "1 ms of Python",
    "flask": "Flask",
    "django": "Django",
}
STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 13px } .head { font-weight: 600; font-size: 16px }
  .quiet { fill: #656d76 } .bar { fill: #afb8c1 } .ours { fill: #0969da }
  .one { stroke: #656d76; opacity: .5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #8d96a0 } .bar { fill: #484f58 } .ours { fill: #4493f8 }
    .one { stroke: #8d96a0 }
  }"""


def draw(results, subtitle):
    """The SVG's text, or None if no workload has a figure of Portico's to compare with."""
    panels = [(name, bars(cells)) for name, cells in results.items() if name in TITLES]
    panels = [(name, rows) for name, rows in panels if any(rate for _, rate, _ in rows)]
    if not panels:
        return None
    height_of_panel = TITLE + ROW * max(len(rows) for _, rows in panels)
    across = min(PANELS_ACROSS, len(panels))
    down = -(-len(panels) // across)
    width = 2 * MARGIN + across * PANEL_WIDTH + (across - 1) * GAP
    height = HEAD + down * (height_of_panel + GAP) + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="Server CPU per request relative to Portico">',
        f"<style>{STYLE}\n</style>",
        text(MARGIN, 28, "Server CPU per request, relative to Portico (shorter is better)", "head"),
        text(MARGIN, 48, subtitle, "quiet"),
    ]
    for number, (name, rows) in enumerate(panels):
        x = MARGIN + (number % across) * (PANEL_WIDTH + GAP)
        y = HEAD + (number // across) * (height_of_panel + GAP)
        parts.append(panel(x, y, TITLES[name], rows))
    parts.append(text(MARGIN, height - 12, f"Bars longer than {RATIO_MAX:.0f} are cut; “cannot” is explained "
                                           "in the run's summary.md.", "quiet"))  # fmt: skip
    return "\n".join([*parts, "</svg>", ""])


def bars(cells):
    """(server, ratio or None, why not or None), Portico first, then by cost, then those that cannot."""
    reference = cells.get(REFERENCE)
    found = []
    for name, cell in cells.items():
        compared = None if cell.cannot else ratio(cell, reference, KEY)
        found.append((name, compared, "cannot" if cell.cannot else None))
    return sorted(found, key=lambda row: (row[0] != REFERENCE, row[1] is None, row[1] or 0))


def panel(x, y, title, rows):
    scale = (PANEL_WIDTH - LABEL - VALUE) / RATIO_MAX
    left = x + LABEL
    parts = [text(x, y + 14, title, "title")]
    for number, (name, value, why_not) in enumerate(rows):
        top = y + TITLE + number * ROW
        baseline = top + BAR - 2
        parts.append(text(left - 8, baseline, name, "", "end"))
        if value is None:
            parts.append(text(left + 2, baseline, why_not or "not measured", "quiet"))
            continue
        length = min(value, RATIO_MAX) * scale
        kind = "ours" if name == REFERENCE else "bar"
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        )
        parts.append(text(left + length + 5, baseline, f"{value:.2f}" if value < 10 else f"{value:.0f}"))
    one, bottom = left + scale, y + TITLE + len(rows) * ROW - (ROW - BAR)
    parts.append(f'<path class="one" d="M{one:.1f} {y + TITLE - 4}V{bottom}" stroke-dasharray="2 3"/>')
    return "\n".join(parts)


def text(x, y, content, kind="", anchor=""):
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(content)}</text>'
