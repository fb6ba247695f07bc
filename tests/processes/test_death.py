"""Workers that die: it costs what they were doing and no more, and the log says what that was and why."""

from __future__ import annotations

import re
import signal
import time

import pytest

from harness.http_client import FramingError, request_bytes
from harness.load import Load
from harness.rendezvous import wait_until

APP = "apps.processes:application"

ACCESS_LINE = re.compile(r'"GET (?P<target>\S+?)(?: HTTP/1\.1)?" (?P<status>\d+) ')


def expect_loss(client) -> None:
    """The connection ends without an answer."""
    with pytest.raises((FramingError, ConnectionResetError)):
        client.read_response()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/segfault?token=1", "SIGSEGV.*in flight: GET /segfault of 127.0.0.1"),
        ("/abort", "SIGABRT.*in flight: GET /abort"),
        ("/exit?status=5", "exit status 5.*os._exit.*in flight: GET /exit of"),
        ("/exit?status=0", "exit status 0.*os._exit.*in flight: GET /exit of"),
    ],
)
def test_death_by_the_application_names_its_request(serve, tmp_path, target, said):
    log = tmp_path / "access.log"
    server = serve(APP, "--workers", "2", "--access-logfile", str(log))
    workers = server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target=target))
        expect_loss(client)
    record = server.expect_log(f"died.*{said}")
    assert any(f"(pid {worker.pid})" in record for worker in workers)
    assert "?" not in record, "what a query holds is for the access log"
    wait_until(lambda: ACCESS_LINE.search(log.read_text()), "the access log")
    (line,) = ACCESS_LINE.finditer(log.read_text())
    assert (line["target"], line["status"]) == (target, "502")
    new = server.wait_workers(2)
    assert len(set(new) & set(workers)) == 1
    assert server.answering_pids() == {worker.pid for worker in new}


def test_death_from_outside_is_logged_with_running_requests(serve, tmp_path):
    log = tmp_path / "access.log"
    server = serve(APP, "--access-logfile", str(log))
    (worker,) = server.wait_workers(1)
    with server.connections(3) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/hold?gate=never&name={number}"))
        server.rendezvous.wait_for("holding never", 3)
        worker.kill()
        for client in clients:
            expect_loss(client)
    record = server.expect_log("died.*SIGKILL from outside")
    assert f"[ERROR] Worker (pid:{worker.pid}) was sent SIGKILL! Perhaps out of memory?" in record
    assert "OOM" in record or "whether memory was short" in record or "out of memory: " in record
    targets = [f"/hold?gate=never&name={number}" for number in range(3)]
    assert record.count("in flight: GET /hold of 127.0.0.1, 0.") == 3, record
    wait_until(lambda: log.read_text().count("\n") == 3, "three lines in the access log")
    lines = list(ACCESS_LINE.finditer(log.read_text()))
    assert sorted(line["target"] for line in lines) == targets
    assert {line["status"] for line in lines} == {"502"}
    server.wait_workers(1)


def test_successor_serves_within_its_import_time(serve):
    server = serve(APP)
    (worker,) = server.wait_workers(1)
    worker.kill()
    # The kernel accepts on behalf of the successor: nobody is refused.
    assert server.request("GET", "/ping").status == 200
    server.expect_log("SIGKILL")


def test_connections_that_nobody_accepted_survive_the_worker(serve):
    server = serve(APP)
    (worker,) = server.wait_workers(1)
    worker.pause()
    with server.connections(20) as clients:
        for client in clients:
            client.send(request_bytes(target="/pid"))
        worker.kill()
        server.expect_log("SIGKILL")
        assert {client.read_response().status for client in clients} == {200}


def test_worker_ignoring_sigterm_is_replaced_and_stopped(serve, tmp_path):
    """The application has put a handler of its own in the way."""
    (tmp_path / "deaf.py").write_text(
        "import signal\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "from apps.processes import application\n"
    )
    server = serve("deaf", "--workers", "2", cwd=tmp_path)
    workers = server.wait_workers(2)
    server.signal(signal.SIGHUP)
    server.wait_replaced(workers)
    server.stop()
    assert not server.find_records("SIGKILL")


def test_stopped_worker_is_killed_at_the_stop(serve):
    server = serve(APP, "--workers", "2", "--graceful-timeout", "1")
    stopped, other = server.wait_workers(2)
    stopped.pause()
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    record = server.expect_log(f"pid {stopped.pid}.*SIGKILL by the supervisor", patience=8)
    assert "was sent SIGKILL" not in record, "Portico has sent it"
    assert server.wait_exit() == 0
    assert time.monotonic() - started > 2.5
    assert not other.alive


def test_workers_of_a_killed_supervisor_finish_and_end(serve):
    server = serve(APP, "--workers", "2", "--preload")
    server.wait_workers(2)
    family = server.supervisor.children()
    assert len(family) == 3
    with server.connect() as client, server.connect() as idle:
        assert idle.request("GET", "/pid").status == 200
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        server.signal(signal.SIGKILL)
        idle.expect_end()
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    wait_until(lambda: not any(process.alive for process in family), "all to end", 5)


def test_supervisor_that_is_killed_while_workers_are_stuck(serve):
    server = serve(APP, "--workers", "2", "--graceful-timeout", "1", "--timeout", "0")
    server.wait_workers(2)
    family = server.supervisor.children()
    with server.connect() as client:
        client.send(request_bytes(target="/stuck?interpreter"))
        server.rendezvous.wait_for_prefix("stuck")
        server.signal(signal.SIGKILL)
        wait_until(lambda: not any(process.alive for process in family), "all to end", 6)


def kill_workers_under_load(serve, kills: int, workers: int = 3) -> None:
    """Kills workers one by one under load on new connections; only what ran in them may fail."""
    server = serve(APP, "--workers", str(workers), "--threads", "4", "--preload")
    server.wait_workers(workers)
    killed: set[int] = set()
    with Load(server.address, 120, lambda number: f"/work?seconds=0.02&name={number}", new_every=1) as load:
        load.wait_answered(36)
        for number in range(kills):
            victims = sorted(pid for pid in server.states() if pid not in killed)
            victim = victims[number % workers]
            worker = next(process for process in server.workers() if process.pid == victim)
            worker.kill()
            killed.add(victim)
            wait_until(lambda dead=worker: not dead.alive, "the worker to end")
            # The row of the dead one says ready until it is reaped.
            wait_until(lambda: len(set(server.states()) - killed) == workers, "the successor", 15)
            server.wait_workers(workers)
            load.wait_answered(2)
        load.wait_answered(36)
    server.expect_log("SIGKILL", kills)
    ran_in = dict(event.split()[1:] for event in server.rendezvous.matching("runs"))
    innocent = [outcome for outcome in load.failed if int(ran_in.get(str(outcome.number), 0)) not in killed]
    # Accepted and not begun: the time between is some 100 us for each request.
    assert len(innocent) <= kills // 5, (innocent, load.told())
    assert len(load.failed) < kills * 8, load.told()
    assert len(server.wait_workers(workers)) == workers


def test_kill_9_costs_the_requests_that_ran(serve):
    kill_workers_under_load(serve, 10)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_kill_9_two_hundred_times(serve):
    kill_workers_under_load(serve, 200)
