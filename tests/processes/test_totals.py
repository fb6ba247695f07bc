"""Totals outlive workers: no recycling, no reload and no kill -9 makes a counter fall or lose a request."""

from __future__ import annotations

import contextlib
import json
import operator
import threading

import pytest

from harness.load import Load
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.processes:application"
WORKERS = 2


class Sampler:
    """Reads every total, again and again, and keeps those that have fallen."""

    def __init__(self, board) -> None:
        self.board = board
        self.fallen: list[tuple[int, int, int]] = []
        self.samples = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        before = self.board.totals()
        while not self.stop.is_set():
            now = self.board.totals()
            if any(map(operator.gt, before, now)):
                pairs = enumerate(zip(before, now, strict=True))
                self.fallen += [(word, old, new) for word, (old, new) in pairs if old > new]
            before, self.samples = now, self.samples + 1

    def __enter__(self) -> Sampler:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join()


def metrics(server) -> dict:
    """The totals of the whole server."""
    ended = run_to_end("status", str(server.pid), "--json", cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return json.loads(ended.stdout)["metrics"]


def kill_one(server) -> None:
    """Kills some worker; there may be none for a moment, since they are recycled as well."""
    found: list = []

    def killed() -> bool:
        found[:] = server.workers()[:1]
        with contextlib.suppress(ProcessLookupError):
            for victim in found:
                victim.kill()
        return bool(found)

    wait_until(killed, "a worker to kill")
    wait_until(lambda: not found[0].alive, "it to end")


def replace_workers(serve, recycles: int, kills: int) -> None:
    """Recycles workers, then kills some, under load, while every total is sampled."""
    options = ("--workers", str(WORKERS), "--max-requests", "2", "--max-requests-jitter", "0", "--preload")
    server = serve(APP, *options)
    server.wait_workers(WORKERS)
    board, seen = server.scoreboard(), set()

    def replaced(count: int) -> bool:
        # One that is being forked has no process id yet.
        seen.update(pid for pid in board.states() if pid)
        return len(seen) >= WORKERS + count

    with Sampler(board) as sampler:
        with Load(server.address, 100, lambda number: "/pid", kept=4) as load:
            wait_until(lambda: replaced(recycles), f"{recycles} recycled workers", 60 + recycles)
        load.assert_lossless()
        found = metrics(server)
        assert found["portico_calls_total"] == len(load.outcomes), "each request is counted once"
        starts = found["portico_worker_starts_total"]
        assert starts["boot"] == WORKERS and starts["replace"] >= recycles
        assert sum(found["portico_worker_deaths_total"].values()) == 0
        with Load(server.address, 100, lambda number: "/pid", kept=4) as attacked:
            for _ in range(kills):
                kill_one(server)
                attacked.wait_answered(10)
        killed = metrics(server)
        # One that is killed before it is ready has died in its boot.
        deaths = killed["portico_worker_deaths_total"]
        assert 0 < deaths["sigkill"] <= deaths["sigkill"] + deaths["boot"] <= kills
        assert sum(deaths.values()) == deaths["sigkill"] + deaths["boot"]
        assert killed["portico_busy_seconds_total"] > found["portico_busy_seconds_total"] > 0
        calls = killed["portico_calls_total"] - found["portico_calls_total"]
        answered = sum(outcome.status == 200 for outcome in attacked.outcomes)
        assert answered <= calls <= len(attacked.outcomes), attacked.told()
    assert sampler.fallen == []
    assert sampler.samples > recycles, "a total that falls and rises again is seen"
    server.expect_log("SIGKILL", 1)
    server.wait_workers(WORKERS)


@pytest.mark.timeout(300)
def test_counters_never_fall_over_200_recycles_and_kills(serve):
    replace_workers(serve, 200, 5)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_counters_never_fall_over_1000_recycles_and_kills(serve):
    replace_workers(serve, 1000, 50)
