"""The template process: imported once, forked often, and safe to fork."""

from __future__ import annotations

import re
import socket

import pytest

from harness.http_client import request_bytes
from harness.load import Load
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.processes:application"


def test_application_is_imported_once_and_forked(serve):
    server = serve("apps.heavy", "--workers", "3", "--preload", environment={"OBJECTS": "1000"})
    workers = server.wait_workers(3)
    (template,) = set(server.supervisor.children()) - set(workers)
    assert server.rendezvous.matching("imports") == [f"imports {template.pid}"]
    assert len(template.tasks()) == 1, template.thread_names()
    # Python's own hooks run in each worker, and the collector leaves alone what was there before.
    forked = {int(event.split()[1]) for event in server.rendezvous.matching("forked")}
    assert forked >= {worker.pid for worker in workers}
    assert int(server.request("GET", "/frozen").body) > 1000
    assert not server.find_records("WARNING")


def test_template_workers_are_the_supervisors_and_intermediates_reaped(serve):
    server = serve(APP, "--workers", "2", "--preload")
    dying, _ = server.wait_workers(2)
    dying.kill()
    server.expect_log("SIGKILL")
    workers = server.wait_workers(2)
    assert set(server.supervisor.children()) > set(workers)
    wait_until(lambda: all(child.alive for child in server.supervisor.children()), "no zombies", 3)


def share_memory(serve, workers: int, requests: int) -> None:
    """All processes together weigh little more than one worker by itself."""
    server = serve("apps.heavy", "--workers", str(workers), "--preload", environment={"OBJECTS": "2000000"})
    server.wait_workers(workers)
    with Load(server.address, 1000, lambda number: "/pid", kept=16) as load:
        wait_until(lambda: load.sent >= requests, f"{requests} requests", 60)
    load.assert_lossless()
    for _ in range(workers * 3):
        server.request("GET", "/collect")
    processes = [server.supervisor, *server.supervisor.children()]
    total = sum(process.memory() for process in processes)
    largest = max(process.resident_memory() for process in processes)
    assert largest > 100 << 20
    assert total <= 1.35 * largest, [(process, process.memory()) for process in processes]
    record = server.expect_log("Memory of each worker")
    shared, own = re.findall(r"(\d+) MiB (shared|of its own)", record)
    assert int(shared[0]) > 90 > 30 > int(own[0]), record


def test_memory_is_shared_and_told(serve):
    share_memory(serve, 2, 1000)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_memory_is_shared_after_many_requests(serve):
    share_memory(serve, 4, 10_000)


def test_thread_of_the_import_causes_a_warning(serve):
    server = serve("apps.threaded", "--workers", "2", "--preload")
    workers = server.wait_workers(2)
    server.expect_log("WARNING.*planted-thread")
    for worker in workers:
        worker.kill()
        wait_until(lambda dying=worker: not dying.alive, "it to end")
    server.expect_log("SIGKILL", 2)
    assert len(server.wait_workers(2)) == 2
    assert server.request("GET", "/pid").status == 200


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_thread_of_the_import_and_two_hundred_forks(serve):
    server = serve("apps.threaded", "--workers", "4", "--preload")
    server.expect_log("WARNING.*planted-thread")
    for _ in range(50):
        workers = server.wait_workers(4)
        for worker in workers:
            worker.kill()
        wait_until(lambda old=workers: not any(worker.folder.exists() for worker in old), "them to end")
    server.expect_log("SIGKILL", 200)
    server.wait_workers(4)
    assert server.request("GET", "/pid").status == 200


def test_strict_refuses_a_thread_and_names_it(tmp_path):
    arguments = ("--preload=strict", "--bind", "127.0.0.1:0", "apps.threaded")
    ended = run_to_end(*arguments, cwd=tmp_path, environment={"TEST_RENDEZVOUS": str(tmp_path)})
    assert ended.returncode not in (0, 2), ended
    assert "planted-thread" in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("mode", ["on", "strict"])
def test_connection_of_the_import_is_logged_with_peer(serve, tmp_path, mode):
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        environment = {"TEST_PORT": str(port), "TEST_RENDEZVOUS": str(tmp_path)}
        if mode == "on":
            del environment["TEST_RENDEZVOUS"]
            server = serve("apps.connected", "--preload", environment=environment)
            server.expect_log(f"WARNING.*127\\.0\\.0\\.1.*{port}")
            assert server.request("GET", "/pid").status == 200
            return
        arguments = ("--preload=strict", "--bind", "127.0.0.1:0", "apps.connected")
        ended = run_to_end(*arguments, cwd=tmp_path, environment=environment)
        assert ended.returncode not in (0, 2), ended
        assert re.search(f"127\\.0\\.0\\.1.*{port}", ended.stderr), ended.stderr


def test_strict_serves_what_is_safe(serve):
    server = serve(APP, "--preload=strict", "--workers", "2")
    server.wait_workers(2)
    assert not server.find_records("WARNING")


def test_template_that_dies_is_made_again(serve):
    server = serve(APP, "--workers", "2", "--preload")
    workers = server.wait_workers(2)
    (template,) = set(server.supervisor.children()) - set(workers)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        template.kill()
        server.expect_log(f"pid:? {template.pid}, status: 137|template.*SIGKILL")
        wait_until(lambda: len(server.supervisor.children()) == 3 and not template.alive, "a new template")
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    assert server.wait_workers(2) == workers
    workers[0].kill()
    server.expect_log("SIGKILL")
    assert workers[1] in server.wait_workers(2)
