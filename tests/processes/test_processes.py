"""Supervisor and workers: who there is, how many, and what operators' signals do to them."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.processes:application"


def test_supervisor_forks_workers_and_runs_no_application(serve):
    server = serve(APP, "--workers", "2")
    workers = server.wait_workers(2)
    assert server.answering_pids() == {worker.pid for worker in workers}
    assert server.supervisor.children() == workers
    assert len(server.supervisor.tasks()) == 1, server.supervisor.thread_names()
    assert server.request("GET", "/multiprocess").body == b"True"


def test_one_worker_has_a_supervisor_too(serve):
    server = serve(APP)
    (worker,) = server.wait_workers(1)
    assert worker.pid != server.pid
    assert server.answering_pids(5) == {worker.pid}
    assert server.request("GET", "/multiprocess").body == b"False"


def test_supervisor_costs_little_memory(serve):
    """Of its own: what it shares with the workers is there anyway."""
    server = serve(APP, "--workers", "2")
    server.wait_workers(2)
    assert server.supervisor.private_memory() < 8 << 20


def test_web_concurrency_counts_below_the_option(serve):
    environment = {"PORTICO_WORKERS": None, "WEB_CONCURRENCY": "2"}
    serve(APP, environment=environment).wait_workers(2)
    serve(APP, "--workers", "3", environment=environment).wait_workers(3)


def test_default_workers_are_the_cpus_of_the_affinity(serve):
    cpu = min(os.sched_getaffinity(0))
    server = serve(APP, environment={"PORTICO_WORKERS": None}, prefix=("taskset", "-c", str(cpu)))
    server.wait_workers(1)


def test_more_and_fewer_workers_by_signal(serve):
    server = serve(APP, "--workers", "2")
    server.wait_workers(2)
    server.signal(signal.SIGTTIN)
    server.wait_workers(3)
    server.signal(signal.SIGTTOU)
    server.wait_workers(2)
    for _ in range(3):
        server.signal(signal.SIGTTOU)
    server.wait_workers(1)
    # The supervisor takes one signal after the other: had the last one gone, two would be left now.
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)


def test_worker_removed_by_ttou_finishes_its_requests(serve):
    server = serve(APP, "--workers", "2", "--threads", "1")
    server.wait_workers(2)
    with server.connections(2) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/hold?gate={number}"))
            server.rendezvous.wait_for(f"holding {number}")
        server.signal(signal.SIGTTOU)
        wait_until(lambda: "retiring" in server.states().values(), "a worker to retire")
        for number, client in enumerate(clients):
            server.rendezvous.open(str(number))
            assert client.read_response().status == 200
    server.wait_workers(1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_worker_that_an_operator_ends_is_replaced(serve, number):
    server = serve(APP, "--workers", "2")
    workers = server.wait_workers(2)
    workers[0].signal(number)
    wait_until(lambda: not workers[0].alive, "the worker to end")
    assert workers[1] in server.wait_workers(2)
    assert not server.find_records("SIGKILL")
    server.expect_log("is to be replaced: it was told to")
    server.expect_log(rf"Worker exiting \(pid: {workers[0].pid}\): it was told to")


def test_worker_ended_by_term_finishes_its_request(serve):
    server = serve(APP, "--workers", "2")
    server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        (worker,) = [worker for worker in server.workers() if server.is_busy(worker)]
        worker.signal(signal.SIGTERM)
        wait_until(lambda: not server.answering_pids(3) & {worker.pid}, "the other one to serve", 10)
        server.rendezvous.open("only")
        assert client.read_response().body == str(worker.pid).encode()
    wait_until(lambda: not worker.alive, "the worker to end")
    server.wait_workers(2)


def test_winch_withdraws_workers_and_hup_restores_them(serve):
    server = serve(APP, "--workers", "2")
    server.wait_workers(2)
    server.signal(signal.SIGWINCH)
    wait_until(lambda: not server.supervisor.children(), "the workers to leave")
    with server.connect() as waiting:
        waiting.send(request_bytes(target="/pid"))
        waiting.expect_silence(0.3)
        server.signal(signal.SIGHUP)
        server.wait_workers(2)
        assert waiting.read_response().status == 200


def test_logs_are_reopened_by_all_processes(serve, tmp_path):
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    server = serve(APP, "--workers", "2", "--access-logfile", str(access), error_log=errors)
    workers = server.wait_workers(2)
    server.answering_pids()
    wait_until(lambda: access.read_text().count("\n") == 40, "40 lines in the first access log")
    for path in (access, errors):
        path.rename(path.with_suffix(".1"))
    server.signal(signal.SIGUSR1)
    wait_until(lambda: access.exists() and errors.exists(), "new log files")
    old = access.with_suffix(".1")

    def opened() -> set[str]:
        targets: set[str] = set()
        for process in [server.supervisor, *workers]:
            for link in (process.folder / "fd").iterdir():
                try:
                    targets.add(os.readlink(link))
                except OSError:
                    pass
        return targets

    wait_until(lambda: not {str(old), str(errors.with_suffix(".1"))} & opened(), "the old files to be let go")
    lines_before = old.read_text().count("\n")
    assert server.answering_pids() == {worker.pid for worker in workers}
    wait_until(lambda: access.read_text().count("\n") == 40, "40 lines in the new access log")
    assert old.read_text().count("\n") == lines_before
    server.stop()
    assert "WARNING" not in errors.read_text()


def test_application_keeps_its_own_children_and_signal_handlers(serve):
    """The supervisor's handlers are not the workers': what an application sees are Python's defaults."""
    server = serve(APP)
    told = server.request("GET", "/signals").body.decode()
    assert "SIGCHLD=<Handlers.SIG_DFL: 0>" in told
    assert "default_int_handler" not in told, "Ctrl-C is the supervisor's business"


def test_serve_refuses_several_workers_and_names_the_command(tmp_path):
    (tmp_path / "script.py").write_text(
        "import portico\nportico.serve(lambda environ, start_response: [], workers=2, bind='127.0.0.1:0')\n"
    )
    ended = run_to_end(cwd=tmp_path, program=[sys.executable, "script.py"])
    assert ended.returncode == 1
    assert "ValueError" in ended.stderr and "workers" in ended.stderr and "portico " in ended.stderr


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_initial_memory_is_independent_of_the_descriptor_limit(serve, preload):
    sizes = []
    for limit in (1024, 20_000):
        server = serve(APP, *preload, prefix=("prlimit", f"--nofile={limit}:{limit}"))
        (worker,) = server.wait_workers(1)
        server.request("GET", "/pid")
        sizes.append((worker.resident_memory(), server.supervisor.resident_memory()))
        server.stop()
    for few, many in zip(*sizes, strict=True):
        assert abs(many - few) < 1 << 20, sizes


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a PID namespace")
def test_process_1_reaps_orphans_and_stops_in_order(serve):
    server = serve(APP, prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    assert server.request("GET", "/orphan").status == 200
    (init,) = server.supervisor.children()
    wait_until(lambda: len(init.children()) == 1, "the orphan to be reaped", 5)
    init.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert not server.unexpected_records()


def test_orphans_of_the_application_are_reaped(serve):
    """It is a subreaper, so that a worker of the template is its child."""
    server = serve(APP)
    (worker,) = server.wait_workers(1)
    number = int(server.request("GET", "/orphan").body)
    wait_until(lambda: not os.path.exists(f"/proc/{number}"), "the orphan to be reaped", 5)
    assert server.wait_workers(1) == [worker]
    assert not server.find_records("died")
