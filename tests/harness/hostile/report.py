"""The table of the trials, in Markdown."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from harness.hostile.trial import MIB, Attack, Others, Outcome

PROTOCOLS = {"h1": "HTTP/1", "tls": "HTTP/1 in TLS", "h2c": "HTTP/2", "h2": "HTTP/2 in TLS"}
COLUMNS = (
    "attack",
    "protocol",
    "connections",
    "others' p50 / p99 / most without, ms",
    "others' p50 / p99 / most under it, ms",
    "answered",
    "memory, MiB",
    "disk, MiB",
    "descriptors",
    "threads held",
    "attackers saw",
    "holds",
)


def row(outcome: Outcome) -> list[str]:
    """The cells of a trial."""
    attack, under = outcome.attack, outcome.under
    share = 100 * under.answered / under.sent if under.sent else 0.0
    saw = ", ".join(f"{name} {count}" for name, count in sorted(outcome.tally.items()))
    return [
        attack.title,
        protocols(attack),
        str(attack.connections),
        latencies(outcome.without),
        latencies(under),
        f"{under.answered} of {under.sent} ({int(share * 10) / 10} %)",
        f"{outcome.memory / MIB:.0f}",
        f"{outcome.disk / MIB:.0f}",
        str(outcome.descriptors),
        str(outcome.threads_held),
        saw,
        "no" if outcome.broken else "yes",
    ]


def protocols(attack: Attack) -> str:
    """What it speaks."""
    return ", ".join(PROTOCOLS[protocol] for protocol in attack.protocol.split("+"))


def latencies(others: Others) -> str:
    """Median, p99 and longest."""
    figures = [others.percentile(share) for share in (0.5, 0.99, 1)]
    return " / ".join("-" if figure is None else f"{figure * 1000:.1f}" for figure in figures)


def table(outcomes: Iterable[Outcome]) -> str:
    """All of them, then what does not hold."""
    outcomes = list(outcomes)
    lines = [line(COLUMNS), line("---" for _ in COLUMNS)]
    lines += [line(row(outcome)) for outcome in outcomes]
    lines += [""]
    for outcome in outcomes:
        attack = outcome.attack
        title = f"{attack.title}, {protocols(attack)}, {attack.connections}"
        lines += [f"* {title}: {sentence}" for sentence in outcome.broken]
    return "\n".join(lines).rstrip() + "\n"


def heading(seconds: float) -> str:
    """Where and how long."""
    return f"Python {platform.python_version()}, {platform.machine()}; {seconds:g} s of attack each.\n"


def line(cells: Iterable[str]) -> str:
    """A line of the table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
