"""Objects of one request used by several threads at once, and those of many requests by all.

Where the interpreter has no GIL they run at the same time.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable

import pytest

from harness.http_client import chunked, request_bytes
from harness.interpreter import HAS_GIL
from harness.rendezvous import wait_until
from harness.server import run_to_end

SERVER = (
    "apps.shared_objects:application",
    *("--threads", "4", "--request-id", "--request-buffer", "64K", "--timeout", "30"),
)
# How long each hammering goes on, and from how many connections.
SECONDS = 2.0
CLIENTS = 6


def hammer(
    server, run: Callable[[object, int], None], clients: int = CLIENTS, seconds: float = SECONDS
) -> int:
    """Has `run` called with a client and a number again and again, from several threads; how often it was."""
    end, failures, totals = time.monotonic() + seconds, [], []

    def work(first: int) -> None:
        number = first
        try:
            with server.connect(30) as client:
                while time.monotonic() < end and not failures:
                    run(client, number)
                    number += clients
        except BaseException as failure:
            failures.append(failure)
        totals.append((number - first) // clients)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 40)
    if failures:
        raise failures[0]
    return sum(totals)


@pytest.mark.parametrize("way", ["blocks", "lines", "all"])
@pytest.mark.parametrize("size", [4_000, 40_000], ids=["memory", "spooled"])
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
def test_each_byte_of_a_body_is_read_once(server, way, size, in_chunks):
    blocks = [f"{number:07d}\n" for number in range(size)]
    body = "".join(blocks).encode()
    with server.connect(30) as client:
        for _ in range(2):
            if in_chunks:
                head = request_bytes("POST", f"/read?way={way}", [("Transfer-Encoding", "chunked")])
                client.send(head + chunked([body[at : at + 5_000] for at in range(0, len(body), 5_000)]))
            else:
                client.send(request_bytes("POST", f"/read?way={way}", body=body))
            pieces = [piece for own in json.loads(client.read_response().body) for piece in own]
            if way == "all":
                # One thread gets all of it.
                assert pieces == ["".join(blocks)]
            assert sorted("".join(pieces).splitlines(keepends=True)) == blocks


def test_each_byte_still_arriving_is_read_once(serve):
    server = serve(*SERVER, "--stream-request-body")
    blocks = [f"{number:07d}\n" for number in range(20_000)]
    body = "".join(blocks).encode()
    with server.connect(30) as client:
        for way in ("blocks", "lines"):
            client.send(request_bytes("POST", f"/read?way={way}", body=body))
            pieces = [piece for own in json.loads(client.read_response().body) for piece in own]
            assert sorted("".join(pieces).splitlines(keepends=True)) == blocks


def test_blocks_written_at_once_stay_whole(server):
    def run(client, number):
        body = client.request(target="/write").body.decode()
        blocks = re.findall(r"(<\d:\d+>)", body)
        assert "".join(blocks) == body
        runs = re.findall(r"((<\d:\d+>)\2{99})", body)
        assert len(runs) == 250 and sum(len(whole) for whole, _ in runs) == len(body)
        for thread in range(5):
            own = [block for _, block in runs if block.startswith(f"<{thread}:")]
            assert own == [f"<{thread}:{block}>" for block in range(50)]

    assert hammer(server, run, clients=3) > 10


def test_first_of_several_start_response_calls_wins(server):
    def run(client, number):
        response = client.request(target="/start")
        assert response.body.endswith(b" 1"), response
        assert len(set(response.all("X-Thread"))) == 1 and len(response.all("X-Thread")) == 20

    assert hammer(server, run, clients=3) > 10


def test_objects_left_by_requests_touch_no_other(server):
    """The environ, its callables and its id are used again where nobody else has them, and only there."""

    def run(client, number):
        response = client.request(target=f"/keep?number={number}", fields=[("X-Same", "in all requests")])
        assert (response.status, response.get("X-Number")) == (200, str(number)), response
        assert response.body.decode() == f"{number} {response.get('X-Request-Id')}"

    assert hammer(server, run) > 100
    assert server.request("GET", "/wrong").body == b""


def test_callbacks_registered_at_once_are_each_called_once(server):
    def counts() -> list[int]:
        return json.loads(server.request("GET", "/counts").body)

    for number in range(5):
        with server.connect() as client:
            client.send(request_bytes(target="/callbacks"))
            wait_until(lambda number=number: len(counts()) > number, "they to be registered")
    wait_until(lambda: counts() == [80] * 5, "all callbacks")


def test_timeouts_strike_their_own_requests_alone(serve):
    server = serve(SERVER[0], "--threads", "3", "--timeout", "200ms", "--timeout-grace", "20")
    server.expected.append(re.compile("timeout: GET /spin"))

    def run(client, number):
        if number % 2:
            assert client.request(target="/spin").status == 504
        else:
            response = client.request(target="/ping", fields=[("X-Ping", str(number))])
            assert (response.status, response.body) == (200, f"pong {number}".encode())

    assert hammer(server, run, clients=4, seconds=3) > 20
    assert not server.find_records("takes the place of its thread"), "each exception has ended its call"


def test_stacks_of_threads_that_run(serve):
    """Their frames come and go while they are looked at."""
    options = ("--threads", "4", "--slow-request", "100ms")
    server = serve(SERVER[0], *options)
    server.expected.append(re.compile("slow request: GET /deep"))
    worker = server.worker.pid

    def run(client, number):
        if number % 6 == 5:
            ended = run_to_end("stacks", str(server.pid), cwd=server.rendezvous.folder)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert "MainThread" in ended.stdout and "portico-1" in ended.stdout, ended.stdout
        else:
            assert client.request(target="/deep?seconds=0.3").body == b"deep"

    assert hammer(server, run, seconds=4) > 20
    record = server.expect_log(r"slow request: GET /deep")
    assert 'apps/shared_objects.py", line ' in record and "in deep" in record
    assert server.worker.pid == worker


@pytest.mark.skipif(HAS_GIL, reason="nobody gets on without the GIL then")
def test_c_code_holding_the_interpreter_delays_no_other(serve):
    server = serve("apps.stuck:application", "--threads", "2", "--timeout", "0")
    with server.connect() as client:
        begun = time.monotonic()
        client.send(request_bytes(target="/hold-interpreter?seconds=4"))
        server.rendezvous.wait_for("holds")
        for _ in range(10):
            assert server.request("GET", "/ping").body == b"pong "
        assert time.monotonic() - begun < 3
        assert client.read_response().body == b"held"
        assert time.monotonic() - begun > 3
