"""`portico status` and `portico stacks` of a server with several workers, of one worker, and of strangers."""

from __future__ import annotations

import re

import pytest

from harness.http_client import request_bytes
from harness.server import run_to_end

APP = "apps.processes:application"
GIVEN_UP = re.compile("/stuck|calls did not end|keeps the interpreter to itself|SIGKILL")


def run_command(name: str, pid: int, folder) -> str:
    """What `portico NAME PID` prints; it must succeed."""
    ended = run_to_end(name, str(pid), cwd=folder, timeout=10)
    assert ended.returncode == 0, ended
    return ended.stdout


def test_status_names_every_worker_and_what_it_does(serve, tmp_path):
    server = serve(APP, "--workers", "2", "--threads", "3")
    workers = server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        text = run_command("status", server.pid, tmp_path)
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    assert all(str(worker.pid) in text for worker in workers), text
    assert text.count("ready") >= 2 and text.count("GET /hold") == 1, text


def test_status_and_stacks_while_c_holds_every_interpreter(serve, tmp_path):
    server = serve(APP, "--workers", "2", "--threads", "1", "--timeout", "0", "--graceful-timeout", "1")
    workers = server.wait_workers(2)
    with server.connections(2) as clients:
        for number, client in enumerate(clients, 1):
            client.send(request_bytes(target="/stuck?interpreter"))
            server.rendezvous.wait_for_prefix("stuck", number)
        assert run_command("status", server.pid, tmp_path).count("GET /stuck") == 2
        text = run_command("stacks", server.pid, tmp_path)
        assert text.count("in stuck") == 2 and text.count("GET /stuck") == 2, text
        text = run_command("stacks", workers[0].pid, tmp_path)
        assert text.count("in stuck") == 1, text
        server.expected.append(GIVEN_UP)
        server.stop()


@pytest.mark.parametrize("name", ["status", "stacks", "reload", "upgrade"])
@pytest.mark.parametrize("pid", ["1", "999999999"])
def test_process_of_another_program_is_refused_in_brief(tmp_path, name, pid):
    ended = run_to_end(name, pid, cwd=tmp_path, timeout=10)
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1 and pid in ended.stderr, ended.stderr
