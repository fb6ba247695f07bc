"""Processes that the application forks without a program of their own, as `multiprocessing` does."""

from __future__ import annotations

import signal
import socket

import pytest

from harness.process import Process
from harness.rendezvous import wait_until


def left(server, name: str) -> list[Process]:
    """The processes that were left behind by this."""
    return [Process(int(event.split()[1])) for event in server.rendezvous.matching(f"{name} ")]


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_left_over_forks_do_not_hold_the_port(serve, preload):
    server = serve("apps.forking", *preload)
    server.wait_workers(1)
    assert server.request("GET", "/fork").status in (200, 404)
    server.rendezvous.wait_for_prefix("request ")
    forked = left(server, "import") + left(server, "request")
    try:
        assert server.request("GET", "/pid").status == 200, "the worker itself still listens"
        server.signal(signal.SIGHUP)
        server.expect_log("Reloaded")
        assert server.request("GET", "/pid").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        forked += left(server, "import")
        assert all(process.alive for process in forked)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(server.address)
            again.listen()
    finally:
        for process in forked:
            process.kill()
    wait_until(lambda: not any(process.alive for process in forked), "them to end")


def test_fork_returning_from_a_request_ends_alone(serve):
    server = serve("apps.coming_back")
    [worker] = server.wait_workers(1)
    for way in ("/return", "/exit", "/raise", "/stream"):
        answer = server.request("GET", way)
        assert (answer.status, answer.body) == (200, b"ab" if way == "/stream" else str(worker.pid).encode())
        for _ in range(10):
            assert server.request("GET", "/").body == str(worker.pid).encode()
    server.expect_log("forked in a request has come back from it", count=3)
    server.expect_log("forked in a request has failed")
    wait_until(lambda: not any(process.alive for process in left(server, "forked")), "them to end")
    assert len(left(server, "forked")) == 5


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_fork_returning_from_the_import_ends_alone(serve, preload):
    server = serve("apps.coming_back", *preload, environment={"FORK_AT_IMPORT": "1"})
    server.expect_log("forked in its import has come back from it")
    [worker] = server.wait_workers(1)
    assert {server.request("GET", "/").body for _ in range(10)} == {str(worker.pid).encode()}
    wait_until(lambda: not any(process.alive for process in left(server, "forked")), "them to end")
