"""Tables for people: one a workload, on the terminal and in summary.md."""

from .workloads import BY_NAME

REFERENCE = "portico"


def formatted(value, kind):
    """A value in the unit that reads best; a dash for what was not measured."""
    if value is None:
        return "-"
    if kind == "microseconds":
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    if kind == "seconds":
        if value >= 1:
            return f"{value:.2f} s"
        return f"{value * 1e3:.2f} ms" if value >= 0.001 else f"{value * 1e6:.0f} us"
    if kind == "bytes":
        if abs(value) >= 1 << 20:
            return f"{value / (1 << 20):,.1f} MB"
        return f"{value / 1024:,.2f} KB" if abs(value) >= 1024 else f"{value:,.0f} B"
    if kind == "text":
        return str(value)
    if kind == "ratio":
        return f"{value:.2f}"
    if kind == "share":
        return f"{value:.1%}"
    return f"{value:,.0f}"


def ratio(cell, reference, key):
    """A server's figure over Portico's; None where either is missing or Portico's is not positive."""
    ours, theirs = reference and reference.median(key), cell.median(key)
    return theirs / ours if ours and ours > 0 and theirs is not None else None


def ratio_text(cell, compared):
    if cell.cannot:
        return "cannot"
    return f"{compared:.2f}" if compared is not None else "-"


def rows(workload, cells):
    """Header and rows of one workload's table, as lists of text."""
    header = ["server", *(column.title for column in workload.columns), "ratio", "spread", "rounds"]
    reference = cells.get(REFERENCE)
    body = []
    for name, cell in cells.items():
        compared, spread = ratio(cell, reference, workload.ratio), cell.spread(workload.ratio)
        body.append([
            name,
            *(formatted(cell.median(column.key), column.kind) for column in workload.columns),
            ratio_text(cell, compared),
            f"{spread:.0%}" if spread is not None else "-",
            str(len(cell.samples)),
        ])  # fmt: skip
    return header, body


def notes(workload, cells):
    """One line for every server that cannot do the workload, and what the ratio compares."""
    lines = [f"{name} cannot: {first_line(cell.cannot)}" for name, cell in cells.items() if cell.cannot]
    title = next(column.title for column in workload.columns if column.key == workload.ratio)
    lines.append(f"ratio: {title}, each server's over Portico's")
    return lines


def first_line(text):
    """Enough of a reason for a table: its last line, where tracebacks put their message."""
    return text.strip().splitlines()[-1][:160] if text.strip() else text


def text_table(workload, cells):
    """The table for a terminal."""
    header, body = rows(workload, cells)
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = [f"\n{workload.title}"]
    for row in [header, *body]:
        figures = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join(["", row[0].ljust(widths[0]), *figures]))
    return "\n".join(lines + [f"    {note}" for note in notes(workload, cells)])


def markdown_table(workload, cells):
    """The same table for summary.md."""
    header, body = rows(workload, cells)
    lines = [f"## {workload.title}", "", "| " + " | ".join(header) + " |"]
    lines.append("|---|" + "---:|" * (len(header) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes(workload, cells)), ""])


def logging_cost(results):
    """What the access log adds, as lines for each server measured with and without; empty if not measured."""
    off, on = results.get("hello", {}), results.get("access-log", {})
    lines = []
    for name, cell in on.items():
        without = name in off and off[name].median("cpu_microseconds")
        if without and not cell.cannot:
            lines.append(f"{name}: {cell.median('cpu_microseconds') / without - 1:+.1%} CPU per request")
    return lines


def summary(results, machine_line):
    """The text of summary.md."""
    parts = ["# Summary", "", machine_line, ""]
    parts += [markdown_table(BY_NAME[name], cells) for name, cells in results.items()]
    if lines := logging_cost(results):
        parts += ["## What the access log costs", "", *(f"* {line}" for line in lines), ""]
    return "\n".join(parts)
