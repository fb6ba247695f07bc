"""`--workers 1..4`: as many as the load needs, without a failed request on the way up or down."""

from __future__ import annotations

import signal
import time

import pytest

from harness.load import Load
from harness.rendezvous import wait_until

# How many workers there are goes by the load.
pytestmark = pytest.mark.serial

APP = "apps.processes:application"
SETTLED = 0.5  # Seconds in which a worker too many would have been started.
PEAK_SECONDS = 3  # Of load at its peak, in which workers could become too many.


class Watched:
    """How many ready workers there were at each moment."""

    def __init__(self, server) -> None:
        self.board = server.scoreboard()
        self.counts: list[int] = []

    def until(self, condition, patience: float) -> None:
        """Watches until `condition()`."""

        def look() -> bool:
            count = self.board.ready()
            if not self.counts or self.counts[-1] != count:
                self.counts.append(count)
            return condition()

        wait_until(look, f"the condition; ready workers were {self.counts}", patience)


def test_it_starts_with_the_least(serve):
    server = serve(APP, "--workers", "2..4")
    server.wait_workers(2)
    time.sleep(SETTLED)
    assert len(server.states()) == 2


def test_load_brings_workers_and_loses_no_request(serve):
    """40 requests/s of 50 ms are two threads' work; one thread each."""
    server = serve(APP, "--workers", "1..4", "--threads", "1", "--preload")
    server.wait_workers(1)
    watched = Watched(server)
    with Load(server.address, 50, lambda number: "/sleep?seconds=0.05", kept=24) as load:
        watched.until(lambda: watched.board.ready() >= 3, 15)
        # And the queue is gone.
        watched.until(lambda: len(load.busy) <= 6, 10)
        waited_first = [outcome.seconds for outcome in load.outcomes if outcome.status]
        end = time.monotonic() + 2
        watched.until(lambda: time.monotonic() > end, 5)
    load.assert_lossless()
    assert max(watched.counts) <= 4
    assert watched.counts == sorted(watched.counts), f"no flapping under steady load: {watched.counts}"
    late = sorted(outcome.seconds for outcome in load.outcomes[-60:])
    assert late[len(late) // 2] < 0.2 < max(waited_first)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_step_load_scales_up_and_down_again(serve):
    server = serve(APP, "--workers", "1..4", "--threads", "1", "--preload")
    server.wait_workers(1)
    watched = Watched(server)
    with Load(server.address, 5, lambda number: "/pid", kept=4) as background:
        with Load(server.address, 50, lambda number: "/sleep?seconds=0.05", kept=24) as load:
            watched.until(lambda: watched.board.ready() >= 3, 20)
            time.sleep(PEAK_SECONDS)
        load.assert_lossless()
        peak = max(watched.counts)
        watched.until(lambda: watched.board.ready() == 1, 200)
        assert watched.counts[watched.counts.index(peak) :] == list(range(peak, 0, -1)), watched.counts
    background.assert_lossless()


def test_signals_move_within_the_range(serve):
    server = serve(APP, "--workers", "1..3")
    server.wait_workers(1)
    for count in (2, 3):
        server.signal(signal.SIGTTIN)
        wait_until(lambda wanted=count: server.scoreboard().ready() == wanted, f"{count} workers")
    server.signal(signal.SIGTTIN)
    wait_until(lambda: not server.supervisor.has_pending(signal.SIGTTIN), "the signal to be taken")
    # Signals are obeyed one after the other: had that one brought a fourth, three would be left now.
    server.signal(signal.SIGTTOU)
    wait_until(lambda: server.scoreboard().ready() == 2 and len(server.states()) == 2, "2 workers")
