"""Trials: each test plays one attack and checks every promise; the figures are shown as a table at the end.

Tests marked `hostile` are the long form, `make hostile`. The others are the short form, part of every run.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.certificates import Pair
from harness.hostile.report import heading, table
from harness.hostile.trial import (
    LIMITS,
    THREADS,
    Attack,
    Outcome,
    Pace,
    Promises,
    broken_promises,
    emptiness,
    play,
)
from harness.server import Server

OUTCOMES = pytest.StashKey[list[Outcome]]()
# In the short form a margin that a loaded machine does not use up.
SHORT = Pace(seconds=1.5, rate=150, p99_margin_seconds=0.25)
PLAYS_MAX = 3
# The server must not wait for whatever else this machine does, where that may be asked for.
UNDISTURBED = ("nice", "-n", "-10") if os.geteuid() == 0 else ()


def hostile_seconds() -> float:
    """How long each attack of the long form lasts: HOSTILE_SECONDS, see `make hostile`."""
    return float(os.environ.get("HOSTILE_SECONDS", "8"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long trials may take longer than other tests."""
    for item in items:
        if item.get_closest_marker("hostile") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(60 + 6 * hostile_seconds()))


@pytest.fixture
def pace(request: pytest.FixtureRequest) -> Pace:
    """That of the form which is run."""
    if request.node.get_closest_marker("hostile"):
        return Pace(seconds=hostile_seconds(), rate=150, p99_margin_seconds=0.01)
    return SHORT


@dataclass
class Trial:
    """Plays attacks, each on a server of its own."""

    request: pytest.FixtureRequest
    serve: Callable[..., Server]
    twin: Server
    pair: Pair
    pace: Pace

    def serve_application(
        self, *options: str, limits: tuple[str, ...] = LIMITS, prefix: tuple[str, ...] = ()
    ) -> Server:
        """A server with 8 threads, in cleartext and in TLS, whose bounds are known numbers."""
        server = self.serve(
            "apps.hostile:application",
            *("--threads", str(THREADS)),
            *(() if os.environ.get("HOSTILE_BASE") else limits),
            *options,
            *self.pair.options,
            bind=["http://127.0.0.1:0", "https://127.0.0.1:0"],
            prefix=(*UNDISTURBED, *prefix),
        )
        # What attackers may cause in the log is judged with the other promises, not at the server's stop.
        server.expected.append(re.compile(""))
        return server

    def __call__(
        self,
        attack: Attack,
        *options: str,
        prefix: tuple[str, ...] = (),
        limits: tuple[str, ...] = LIMITS,
        prepare: Callable[[Server], None] = lambda server: None,
        seconds: float | None = None,
        also: Callable[[Outcome], list[str]] = lambda outcome: [],
        **promised: int,
    ) -> None:
        """Plays an attack and fails with every promise that is broken, and with what `also` finds.

        `prepare` has the server before the attack; `promised` are fields of `Promises` that are other than
        usual. A trial that says nothing, because its twin had to wait as well, is played again.
        """
        pace = dataclasses.replace(self.pace, seconds=seconds or self.pace.seconds)
        promises = Promises(pace.p99_margin_seconds, **promised)
        for _ in range(PLAYS_MAX):
            server = self.serve_application(*options, limits=limits, prefix=prefix)
            prepare(server)
            outcome = play(server, self.twin, attack, pace)
            if not emptiness(outcome, promises):
                break
            server.stop()
        outcome.broken = broken_promises(outcome, promises) + also(outcome)
        self.record(outcome)
        if outcome.broken:
            pytest.fail("\n".join(outcome.broken), pytrace=False)

    def record(self, outcome: Outcome) -> None:
        """Keeps it for the table; the file of HOSTILE_REPORT is written anew, so that no abort loses it."""
        outcomes = self.request.config.stash.setdefault(OUTCOMES, [])
        outcomes.append(outcome)
        if path := os.environ.get("HOSTILE_REPORT"):
            Path(path).write_text(report(outcomes))


def report(outcomes: list[Outcome]) -> str:
    """What is shown in the end."""
    return heading(hostile_seconds()) + "\n" + table(outcomes)


@pytest.fixture(scope="module")
def twin(serve_module: Callable[..., Server]) -> Server:
    """A server that nobody attacks."""
    options = ("--threads", str(THREADS))
    return serve_module("apps.hostile:application", *options, prefix=UNDISTURBED)


@pytest.fixture
def trial(request: pytest.FixtureRequest, serve, twin: Server, pair: Pair, pace: Pace) -> Trial:
    """Plays the attacks of a test."""
    return Trial(request, serve, twin, pair, pace)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """The table, where the long form was asked for; HOSTILE_REPORT names a file for it as well."""
    outcomes = config.stash.get(OUTCOMES, [])
    if outcomes and "hostile" in config.option.markexpr:
        terminalreporter.section("attacks")
        terminalreporter.write(report(outcomes))
