"""`portico status PID`: from shared memory alone, whatever the workers are at."""

from __future__ import annotations

import re

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sources import program

STUCK = "apps.stuck:application"


def status(server) -> str:
    """What the command prints; it fits a terminal."""
    ended = run_to_end("status", str(server.pid), cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert max(map(len, ended.stdout.splitlines())) <= 120
    return ended.stdout


def tables(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of the workers and those of the requests, by column."""
    found = []
    for block in text.split("\n\n")[1:]:
        heading, *rows = block.splitlines()
        if not heading.startswith("SLOT") and not heading.lstrip().startswith("SLOT"):
            continue
        names = re.split(r"\s{2,}", heading.strip())
        split = [re.split(r"\s{2,}", row.strip()) for row in rows]
        # SLOT and PID are figures side by side; all other columns stand apart by two blanks.
        found.append([dict(zip(names, row, strict=True)) for row in split])
    return found[0], found[1] if len(found) > 1 else []


def test_an_idle_server(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "3")
    for _ in range(5):
        server.request()
    text = status(server)
    assert text.splitlines()[0].endswith("1 worker of 3 threads")
    assert "No request is running." in text
    (worker,), requests = tables(text)
    assert worker["STATE"] == "ready"
    assert (worker["REQUESTS"], worker["BUSY"], worker["LOST"]) == ("5", "0/3", "0")
    assert re.fullmatch(r"\d+ MiB", worker["MEMORY"])
    assert re.fullmatch(r"< .*", worker["WAIT P99"])
    assert requests == []


def test_requests_that_run(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "3")
    with server.connect() as client, server.connect() as other:
        client.send(request_bytes(target="/sleep?seconds=3&secret=1"))
        server.rendezvous.wait_for("sleeps")
        other.send(request_bytes(target="/sleep?seconds=3", method="POST", body=b""))
        server.rendezvous.wait_for("sleeps", 2)
        text = status(server)
        (worker,), requests = tables(text)
        assert worker["BUSY"] == "2/3"
        assert [row["REQUEST"] for row in requests] == ["GET /sleep", "POST /sleep"], "the longest first"
        assert {row["STATE"] for row in requests} == {"running"}
        assert {row["CLIENT"] for row in requests} == {"127.0.0.1"}
        assert "secret" not in text
        for each in (client, other):
            assert each.read_response().body == b"slept"


def test_while_the_interpreter_is_held(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target="/hold-interpreter?seconds=3"))
        server.rendezvous.wait_for("holds")
        (worker,), (request,) = tables(status(server))
        assert worker["STATE"] == "ready", "its watch needs no interpreter"
        assert request["REQUEST"] == "GET /hold-interpreter"
        assert client.read_response().status == 200


def test_status_shows_waiting_clients_and_lost_threads(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "2", "--timeout", "1", "--response-buffer", "64k")
    with server.connect(receive_buffer=4096) as client:
        client.send(request_bytes(target="/large?blocks=200"))
        wait_until(
            lambda: [row["STATE"] for row in tables(status(server))[1]] == ["client"], "the client's row"
        )
        if server.request("GET", "/sleep").status != 504:
            pytest.fail("not timed out")
        server.expect_log("did not end when")
        server.expect_log("timeout: GET /sleep")
        states = {row["REQUEST"]: row["STATE"] for row in tables(status(server))[1]}
        assert states["GET /sleep"] == "lost"
        assert tables(status(server))[0][0]["LOST"] == "1"


def test_portico_serve(serve):
    server = serve(None, "threads=2", program=program("serve_stuck"))
    assert status(server).startswith("portico.serve: serving, up ")
    for command in ("reload", "upgrade"):
        ended = run_to_end(command, str(server.pid), cwd=server.rendezvous.folder)
        assert ended.returncode == 1
        assert "has no supervisor" in ended.stderr
