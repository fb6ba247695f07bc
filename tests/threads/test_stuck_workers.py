"""Threads that are stuck in a server of several workers: the client is answered, the worker replaced."""

from __future__ import annotations

import re
import signal
import time

import pytest

from harness.http_client import request_bytes
from harness.interpreter import IS_FREE_THREADED
from harness.load import Load
from harness.rendezvous import wait_until

APP = "apps.processes:application"
OPTIONS = ("--workers", "2", "--threads", "2", "--timeout", "1", "--graceful-timeout", "1")
# Of nearly all answers beside a thread that computes: each waits for some switches of threads, 5 ms each.
UNNOTICED = 0.3


@pytest.mark.parametrize("target", ["/stuck", "/stuck?interpreter"])
def test_worker_whose_thread_never_comes_back_is_replaced(serve, tmp_path, target):
    """In C code for ever, with and without the interpreter."""
    log = tmp_path / "access.log"
    server = serve(APP, *OPTIONS, "--access-logfile", str(log))
    workers = server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target=target))
        server.rendezvous.wait_for_prefix("stuck")
        held = int(server.rendezvous.matching("stuck")[0].split()[1])
        assert client.read_response().status == 504
    server.expect_log("timeout: GET /stuck.*processes.py.*in stuck")
    server.expect_log(rf"\[ERROR\] WORKER TIMEOUT \(pid:{held}\): .*did not end when")
    server.expected.append(re.compile("/stuck|calls did not end|SIGKILL"))
    wait_until(lambda: held not in server.states(), "the worker to be replaced", 15)
    new = server.wait_workers(2)
    assert len(set(workers) & set(new)) == 1
    assert server.answering_pids() == {worker.pid for worker in new}
    statuses = re.findall(r'"GET /stuck\S* HTTP/1.1" (\d+)', log.read_text())
    assert statuses == ["504"]


def test_others_do_not_notice_a_thread_that_spins(serve):
    server = serve(APP, *OPTIONS)
    workers = server.wait_workers(2)
    with Load(server.address, 100, lambda number: "/pid", kept=8) as load:
        load.wait_answered(30)
        assert server.request("GET", "/spin").status == 504
        load.wait_answered(30)
    load.assert_lossless()
    assert load.percentile(0.99) < UNNOTICED
    server.expect_log("timeout: GET /spin")
    assert server.wait_workers(2) == workers, "nothing has to be replaced"


@pytest.mark.skipif(IS_FREE_THREADED, reason="without a GIL there is nothing to share")
def test_long_computation_shortens_the_interpreters_switch_interval(serve):
    server = serve(APP, "--threads", "2", "--timeout", "2")

    def interval() -> float:
        return float(server.request("GET", "/switch-interval").body)

    assert interval() == 0.005
    with server.connect() as client:
        client.send(request_bytes(target="/spin"))
        server.rendezvous.wait_for_prefix("spins")
        wait_until(lambda: interval() < 0.001, "the interval to be made short")
        assert client.read_response().status == 504
    server.expect_log("timeout: GET /spin")
    wait_until(lambda: interval() == 0.005, "Python's own interval to be back")


def test_all_threads_of_all_workers_stuck_is_overcome(serve):
    server = serve(APP, *OPTIONS)
    server.wait_workers(2)
    with server.connections(4) as clients:
        for client in clients:
            client.send(request_bytes(target="/stuck"))
        server.rendezvous.wait_for_prefix("stuck", 4)
        assert server.request("GET", "/pid").status == 200, "threads take the place of those that are lost"
        assert [client.read_response().status for client in clients] == [504] * 4
    server.expected.append(re.compile("/stuck|calls did not end|SIGKILL"))
    server.wait_workers(2)


BEYOND_TIMEOUT = (
    1.5  # Seconds: more than --timeout and its grace together, after which a worker could be ended.
)
# The graceful timeout is longer than any end is waited for here: a server that waits for lost calls fails.
PATIENT = ("--threads", "2", "--timeout", "1", "--timeout-grace", "500ms", "--graceful-timeout", "30")


def given_up(server, client, target: str) -> int:
    """Has a call given up, and returns the process that it keeps."""
    client.send(request_bytes(target=target))
    server.rendezvous.wait_for_prefix("stuck")
    held = int(server.rendezvous.matching("stuck")[0].split()[1])
    assert client.read_response().status == 504
    server.expected.append(re.compile("/stuck"))
    return held


@pytest.mark.parametrize("target", ["/stuck", "/stuck?interpreter"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_stop_does_not_wait_for_an_abandoned_call(serve, target, threads):
    server = serve(APP, *PATIENT, "--threads", threads, "--max-requests", "0")
    with server.connect() as client:
        client.send(request_bytes(target=target))
        server.rendezvous.wait_for_prefix("stuck")
        server.expected.append(re.compile("/stuck"))
        # The 504 comes while it stops; the worker that is to follow a stuck one has no time to boot.
        server.signal(signal.SIGTERM)
        assert client.read_response().status == 504
    assert server.wait_exit() == 0
    assert not server.unexpected_records(), server.log_text


@pytest.mark.skipif(IS_FREE_THREADED, reason="without a GIL a call keeps nobody from the interpreter")
def test_worker_ends_early_after_its_last_abandoned_call(serve):
    server = serve(APP, "--workers", "2", *PATIENT)
    server.wait_workers(2)
    with server.connect() as client:
        held = given_up(server, client, "/stuck?interpreter")
    wait_until(lambda: held not in server.states(), "the worker to be replaced", 15)
    server.wait_workers(2)
    server.expect_log("a call that was given up keeps the interpreter")


def test_calls_beside_an_abandoned_one_are_finished(serve):
    server = serve(APP, *PATIENT, "--timeout-path", "/hold=0")
    with server.connect() as stuck, server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        stuck.send(request_bytes(target="/stuck"))
        server.rendezvous.wait_for_prefix("stuck")
        server.expected.append(re.compile("/stuck"))
        server.signal(signal.SIGTERM)
        assert stuck.read_response().status == 504
        time.sleep(BEYOND_TIMEOUT)
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    assert server.wait_exit() == 0
