"""Threads: few, long-lived, never more calls at once than asked for."""

from __future__ import annotations

import select
import threading
import time

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until_steady

CPU_WINDOW = 1.5  # Seconds over which the CPU time of a server that has nothing to do is taken.


def request_from_many(server, target: str, clients: int, each: int) -> list[str]:
    """Bodies of `each` requests from each of `clients` connections at once."""
    bodies: list[str] = []

    def run() -> None:
        with server.connect(30) as client:
            for _ in range(each):
                bodies.append(client.request("GET", target).body.decode())

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert len(bodies) == clients * each
    return bodies


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_concurrent_calls_are_limited_to_the_threads(serve, threads):
    server = serve("apps.control:application", "--threads", str(threads))
    request_from_many(server, "/concurrency?seconds=0.005", clients=20, each=10)
    request_from_many(server, "/concurrency", clients=20, each=10)
    most, seen = map(int, server.request("GET", "/figures").body.split())
    assert most == threads
    assert seen == threads


def test_all_threads_are_used_at_once(serve):
    server = serve("apps.control:application", "--threads", "4")
    with server.connections(4) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/hold-each?gate=all&name={number}"))
        for number in range(4):
            server.rendezvous.wait_for(f"runs {number}")
        server.rendezvous.open("all")
        assert [client.read_response().body for client in clients] == [b"0", b"1", b"2", b"3"]


def test_thread_locals_last(serve):
    """The counts that the threads keep for themselves add up to all requests: no thread was ever replaced."""
    server = serve("apps.control:application", "--threads", "3")
    last: dict[str, int] = {}
    for clients in (1, 6):
        for body in request_from_many(server, "/concurrency?seconds=0.001", clients, each=20):
            calls, _, name = body.partition(" ")
            last[name] = max(last.get(name, 0), int(calls))
    assert len(last) <= 3
    assert sum(last.values()) == 140


def test_process_has_only_the_announced_threads(serve):
    """Those of the application, the standby, the main thread, and at most two of housekeeping."""
    server = serve("apps.control:application", "--threads", "4")
    request_from_many(server, "/concurrency?seconds=0.001", clients=30, each=5)
    tasks = int(
        next(line.split()[1] for line in status_lines(server.worker.pid) if line.startswith("Threads:"))
    )
    assert 5 <= tasks <= 4 + 1 + 1 + 2


def status_lines(pid: int) -> list[str]:
    """Lines of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        return file.readlines()


@pytest.mark.serial
def test_an_idle_server_uses_no_cpu(serve):
    server = serve("apps.control:application", "--threads", "4")
    request_from_many(server, "/concurrency", clients=8, each=20)
    with server.connections(20):
        wait_until_steady(server.cpu_seconds)
        before = server.cpu_seconds()
        time.sleep(CPU_WINDOW)
        assert server.cpu_seconds() - before <= 0.02


@pytest.mark.serial
def test_computing_threads_do_not_stop_the_event_loop(serve):
    """The interpreter is held for a second: refusals and connections need none of it."""
    server = serve("apps.control:application", "--threads", "2")
    with server.connect() as busy:
        busy.send(request_bytes(target="/spin?seconds=1"))
        with server.connect() as client:
            client.send(b"NOT HTTP\r\n\r\n")
            assert client.read_response().status == 400
        assert not select.select([busy.socket], [], [], 0)[0], "the interpreter is still held"
        assert busy.read_response().body == b"spun"
