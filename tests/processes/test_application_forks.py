"""Processes that the application forks without a program of their own, as `multiprocessing` does."""

from __future__ import annotations

import signal
import socket

import pytest

from harness.process import Process
from harness.rendezvous import wait_until

# Leaves a process behind at its import and at each request of /fork.
APPLICATION = """
import os, time
from apps.meeting import rendezvous
from apps.processes import application as inner

def leave_process(name):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    rendezvous.emit(f"{name} {pid}")

leave_process("import")

def application(environ, start_response):
    if environ["PATH_INFO"] == "/fork":
        leave_process("request")
    return inner(environ, start_response)
"""


def left(server, name: str) -> list[Process]:
    """The processes that were left behind by this."""
    return [Process(int(event.split()[1])) for event in server.rendezvous.matching(f"{name} ")]


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_left_over_forks_do_not_hold_the_port(serve, tmp_path, preload):
    (tmp_path / "forking.py").write_text(APPLICATION)
    server = serve("forking", *preload, cwd=tmp_path)
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


# Forks a process that comes back, by whatever way, from where it was forked.
COMING_BACK = """
import os, sys
from apps.meeting import rendezvous
from apps.processes import application as inner

def fork():
    pid = os.fork()
    if pid:
        rendezvous.emit(f"forked {pid}")
    return pid == 0

AT_IMPORT

class Stream:
    def __iter__(self):
        yield b"a"
        fork()
        yield b"b"

    def close(self):
        fork()

def application(environ, start_response):
    way = environ["PATH_INFO"]
    if way == "/return":
        fork()
    if way == "/exit" and fork():
        sys.exit(5)
    if way == "/raise" and fork():
        raise RuntimeError("planted error")
    if way == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Stream()
    return inner({**environ, "PATH_INFO": "/pid"}, start_response)
"""


def test_fork_returning_from_a_request_ends_alone(serve, tmp_path):
    (tmp_path / "coming_back.py").write_text(COMING_BACK.replace("AT_IMPORT", ""))
    server = serve("coming_back", cwd=tmp_path)
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
def test_fork_returning_from_the_import_ends_alone(serve, tmp_path, preload):
    (tmp_path / "coming_back.py").write_text(COMING_BACK.replace("AT_IMPORT", "fork()"))
    server = serve("coming_back", *preload, cwd=tmp_path)
    server.expect_log("forked in its import has come back from it")
    [worker] = server.wait_workers(1)
    assert {server.request("GET", "/").body for _ in range(10)} == {str(worker.pid).encode()}
    wait_until(lambda: not any(process.alive for process in left(server, "forked")), "them to end")
