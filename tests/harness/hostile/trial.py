"""One attack on one server: what the other clients see under it, and what the worker holds.

At the same moment a second server, its twin, has the same clients and no attackers: whatever else the machine
does while it measures, it does to both. The promises that a trial checks stand in `Promises`; what is broken
is told in sentences.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

from harness.hostile.side import Side
from harness.hostile.watch import WORKER_ENDED, Watch, holding
from harness.process import Process
from harness.rendezvous import wait_until
from harness.server import Server

MIB = 1 << 20
THREADS = 8
# What is asked of the server, so that each bound is a number: `Promises` says them again.
BUDGET_BYTES, SPOOL_BYTES = 64 * MIB, 256 * MIB
LIMITS = ("--client-memory", "64m", "--spool-total", "256m")
RELEASE_SECONDS = 10.0
ARRIVAL_SECONDS_MIN = 0.5
# Where even the twin is slower than so many margins, the machine is too busy for the figures to say anything.
TWIN_MARGINS_MAX = 2


@dataclass
class Attack:
    """What is played: a function of `attacks.py`, its protocol, its connections, what it is told.

    Of several protocols, joined by `+`, each has as many of the connections.
    """

    kind: str
    protocol: str
    connections: int
    parameters: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    # All in one moment are overload, which is not tried.
    arrivals_a_second: float = 300

    def arrival_seconds(self, most: float) -> float:
        """Within which the attackers arrive."""
        return min(max(ARRIVAL_SECONDS_MIN, self.connections / self.arrivals_a_second), most)

    @property
    def title(self) -> str:
        """How the table calls it."""
        return self.name or self.kind.replace("_", " ")


@dataclass
class Pace:
    """How long a trial takes and how finely it measures."""

    seconds: float
    rate: float
    p99_margin_seconds: float


@dataclass
class Promises:
    """What must hold under an attack."""

    p99_margin_seconds: float
    # The budget, and 32 MiB for the worker itself: interpreter, application, engine.
    memory_bytes_max: int = BUDGET_BYTES + 32 * MIB
    disk_bytes_max: int = SPOOL_BYTES
    # Lines of the log that one attack may cause, whatever its size.
    log_lines_max: int = 40


@dataclass
class Others:
    """What became of the requests of the other clients."""

    sent: int
    seconds: list[float]
    told: str

    @property
    def answered(self) -> int:
        """How many were answered 200 in time."""
        return len(self.seconds)

    def percentile(self, share: float) -> float | None:
        """Seconds within which this share of those answered was; None if none was."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@dataclass
class Outcome:
    """What a trial has shown."""

    attack: Attack
    without: Others
    under: Others
    memory: int
    disk: int
    descriptors: int
    threads_held: int
    log_lines: list[str]
    tally: dict[str, int]
    left: str | None
    worker_alive: bool
    broken: list[str] = field(default_factory=list)


def play(server: Server, twin: Server, attack: Attack, pace: Pace) -> Outcome:
    """Attacks the server, has other clients ask it and its twin meanwhile, and lets the attackers go.

    The first address of the server is in cleartext, where the others come whatever the attack speaks; its
    second is in TLS.
    """
    worker = server.worker
    first = len(server.records)
    attackers = Side(
        "attackers",
        addresses=server.addresses,
        kind=attack.kind,
        protocols=attack.protocol.split("+"),
        connections=attack.connections,
        arrival_seconds=attack.arrival_seconds(pace.seconds * 3 / 4),
        parameters=attack.parameters,
    )
    others = Side("others", address=server.address, rate=pace.rate)
    others_of_twin = Side("others", address=twin.address, rate=pace.rate)
    with attackers, others, others_of_twin, Watch(worker, server.scoreboard()) as watch:
        for side in (attackers, others, others_of_twin):
            side.tell("begin")
        time.sleep(pace.seconds)
        # Those of the twin first: they have no answers to wait for, and attackers must not have gone before.
        without, under = Others(**others_of_twin.tell("end")), Others(**others.tell("end"))
        watch.stop()
        tally = attackers.tell("finish") if "rates" in attack.parameters else {}
        tally |= attackers.tell("end")
    return Outcome(
        attack=attack,
        without=without,
        under=under,
        memory=watch.most("memory"),
        disk=watch.most("disk"),
        descriptors=watch.most("descriptors"),
        threads_held=watch.typical("busy_threads"),
        log_lines=server.records[first:],
        tally=tally,
        left=what_is_left(worker, server),
        worker_alive=worker.alive,
    )


def what_is_left(worker: Process, server: Server) -> str | None:
    """What the server still holds for attackers that have gone; None as soon as that is nothing."""
    latest = None

    def is_released() -> bool:
        nonlocal latest
        latest = holding(worker, server.scoreboard())
        return not latest.disk and not latest.busy_threads

    try:
        wait_until(is_released, "what attackers had to be released", RELEASE_SECONDS)
    except TimeoutError:
        return f"{latest.disk / MIB:.1f} MiB of files and {latest.busy_threads} threads"
    except WORKER_ENDED:
        pass
    return None


def emptiness(outcome: Outcome, promises: Promises) -> str | None:
    """Why the figures say nothing of the attack: the twin, which nobody attacked, had to wait as well."""
    without, slowest = outcome.without, TWIN_MARGINS_MAX * promises.p99_margin_seconds
    if without.answered < without.sent or not without.answered:
        return f"the trial says nothing: without the attack the others saw {without.told}"
    if (p99 := without.percentile(0.99)) > slowest:
        return (
            f"a server that nobody attacked had a p99 of {p99 * 1000:.1f} ms: either the attack takes the "
            "machine as a whole, or something else does, and the trial says nothing"
        )
    return None


def broken_promises(outcome: Outcome, promises: Promises) -> list[str]:
    """What does not hold, in sentences."""
    without, under = outcome.without, outcome.under
    empty = emptiness(outcome, promises)
    broken = [empty] if empty else []
    if under.answered < under.sent or not under.sent:
        broken.append(f"{under.answered} of {under.sent} requests of others were answered: {under.told}")
    before, now, margin = without.percentile(0.99), under.percentile(0.99), promises.p99_margin_seconds
    if before is not None and now is not None and now > before + margin:
        broken.append(
            f"the p99 of others was {now * 1000:.1f} ms, without the attack {before * 1000:.1f}: "
            f"more than {margin * 1000:.0f} ms above"
        )
    if outcome.memory > promises.memory_bytes_max:
        most = promises.memory_bytes_max / MIB
        broken.append(f"the worker had {outcome.memory / MIB:.0f} MiB of memory, not {most:.0f} at most")
    if outcome.disk > promises.disk_bytes_max:
        most = promises.disk_bytes_max / MIB
        broken.append(f"the worker had {outcome.disk / MIB:.0f} MiB of files, not {most:.0f} at most")
    if len(outcome.log_lines) > promises.log_lines_max:
        broken.append(f"the attack wrote {len(outcome.log_lines)} records to the log: {sample(outcome)}")
    if any(re.search(r"panicked at|Traceback", line) for line in outcome.log_lines):
        broken.append(f"something failed within the server: {sample(outcome)}")
    if outcome.left:
        broken.append(f"when the attackers had left, there were {outcome.left}")
    if not outcome.worker_alive:
        broken.append("the worker did not survive")
    if not outcome.tally.get("connected"):
        broken.append("the trial says nothing: no attacker connected")
    return broken


def sample(outcome: Outcome) -> str:
    """Some of what the log says."""
    return "; ".join([*outcome.log_lines[:3], "…", *outcome.log_lines[-2:]])
