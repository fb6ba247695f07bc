"""Workers that are replaced for their age, their memory or their requests: the successor is ready first."""

from __future__ import annotations

import re
import time

import pytest

from harness.http_client import request_bytes
from harness.load import Load
from harness.rendezvous import wait_until

APP = "apps.processes:application"


def recycle_under_load(
    serve, seconds: float, import_seconds: float, rate: float, options: tuple[str, ...] = ()
) -> int:
    """Workers that are due every 50 requests, with an application that takes its time to import.

    Returns how many workers have come and gone.
    """
    environment = {"IMPORT_SECONDS": str(import_seconds)}
    options = ("--workers", "2", "--max-requests", "50", *options)
    server = serve("apps.slow_import", *options, environment=environment)
    server.wait_workers(2)
    board, least_ready, most, seen = server.scoreboard(), 2, 0, set()
    end = time.monotonic() + seconds
    with Load(server.address, rate, lambda number: "/pid", kept=16) as load:

        def look() -> bool:
            nonlocal least_ready, most
            least_ready = min(least_ready, board.ready())
            states = board.states()
            most = max(most, len(states))
            seen.update(states)
            return time.monotonic() > end

        wait_until(look, "the end", seconds + 5)
    load.assert_lossless()
    assert least_ready == 2, "a worker left before its successor was ready"
    assert most <= 4, "one at a time: at most its successor and the one that has just left besides"
    return len(seen) - 2


@pytest.mark.serial
def test_recycling_with_a_slow_import_keeps_full_capacity(serve):
    assert recycle_under_load(serve, 8, 3, 300) >= 2


def test_recycling_as_quickly_as_it_goes_loses_nothing(serve):
    assert recycle_under_load(serve, 5, 0, 500, ("--preload",)) >= 8


def test_due_worker_is_replaced_although_it_warms_up(serve):
    server = serve(APP, "--max-lifetime", "1", "--warmup", "/sleep?seconds=1.5")
    due = server.workers()[0]
    wait_until(lambda: not due.alive, "it to be replaced")


@pytest.mark.chaos
@pytest.mark.timeout(0)
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_recycling_for_long(serve, chaos_seconds, preload):
    recycle_under_load(serve, chaos_seconds, 3, 500, preload)


def test_workers_that_started_together_are_not_due_together(serve):
    """The jitter is on by default."""
    server = serve(APP, "--workers", "2", "--max-requests", "300")
    server.wait_workers(2)
    with Load(server.address, 400, lambda number: "/pid", kept=8) as load:
        wait_until(lambda: len(server.find_records("is to be replaced")) >= 2, "two to be replaced", 15)
    load.assert_lossless()
    records = server.find_records("is to be replaced")[:2]
    limits = [int(re.search(r"(\d+) with its jitter", record)[1]) for record in records]
    assert all(300 <= limit <= 330 for limit in limits), records
    # One worker may have all of the connections, and its successor after it.
    told = server.find_records(r"\[INFO\] Autorestarting worker after current request\.$")
    workers = [re.search(r"\] \[(\d+)\] \[INFO\]", record)[1] for record in told]
    assert len(workers) >= 2 and len(set(workers)) == len(workers), "gunicorn's words, once each"


def test_leaking_worker_is_replaced_in_time(serve):
    server = serve(APP, "--worker-max-rss", "96m")
    (worker,) = server.wait_workers(1)
    with Load(server.address, 100, lambda number: "/leak?bytes=500000", kept=4) as load:
        wait_until(lambda: not worker.alive, "the worker that leaks to be replaced", 20)
    load.assert_lossless()
    server.expect_log("replaced: .*(?:memory|RSS|PSS|MiB)")
    assert len({outcome.body for outcome in load.outcomes}) >= 2


def test_worker_has_an_end_of_its_lifetime(serve):
    server = serve(APP, "--workers", "2", "--max-lifetime", "1s")
    old = server.wait_workers(2)
    with Load(server.address, 200, lambda number: "/pid", kept=8) as load:
        wait_until(lambda: not any(worker.alive for worker in old), "both workers to be replaced", 10)
    load.assert_lossless()
    server.expect_log("replaced: ")
    server.expect_log(rf"Worker exiting \(pid: {old[0].pid}\): it has lived for 1 s \(--max-lifetime\)")


def test_long_request_in_a_leaving_worker_completes(serve):
    server = serve(APP, "--max-requests", "5", "--max-requests-jitter", "0")
    (worker,) = server.wait_workers(1)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        assert worker.pid in server.answering_pids(8)
        wait_until(lambda: server.states().get(worker.pid) == "retiring", "the worker to retire")
        wait_until(lambda: worker.pid not in server.answering_pids(3), "the worker to be told so")
        assert worker.pid not in server.answering_pids(8)
        server.rendezvous.open("only")
        assert client.read_response().body == str(worker.pid).encode()
    server.wait_replaced([worker])
