"""Objects of one request used by several threads at once, and those of many requests by all.

Where the interpreter has no GIL they run at the same time. The module is its own application.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.routes import Routes, parameters, plain
from harness.http_client import chunked, request_bytes
from harness.interpreter import HAS_GIL
from harness.rendezvous import wait_until
from harness.server import run_to_end

SERVER = (
    "test_shared_objects:application",
    *("--threads", "4", "--request-id", "--request-buffer", "64K", "--timeout", "30"),
)
# How long each hammering goes on, and from how many connections.
SECONDS = 2.0
CLIENTS = 6

routes = Routes()
application = routes.application
helpers = ThreadPoolExecutor(8)
# What requests have left for others to use when they have ended; the newest of them.
kept: list[tuple] = []
KEPT_MAX = 50
# The end of the process waits for the helpers.
waiting = threading.BoundedSemaphore(4)


def together(functions: list[Callable[[], object]]) -> list:
    """What they return, called at the same moment in threads of their own."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(run, functions))


@routes("/read")
def read(environ, start_response):
    """Several threads read the body at once, each in its way; answers with the pieces that they got."""
    stream = environ["wsgi.input"]

    def by(take):
        return lambda: [piece.decode() for piece in iter(take, b"")]

    def into():
        buffer = bytearray(8)
        return bytes(buffer[: stream.readinto(buffer)])

    ways = {
        "blocks": [by(lambda: stream.read(8))] * 4 + [by(into)] * 2,
        "lines": [by(stream.readline)] * 3 + [lambda: [line.decode() for line in stream]] * 2,
        "all": [by(stream.read)] * 4,
    }
    pieces = together(ways[parameters(environ)["way"]])
    return plain(start_response, json.dumps(pieces))


@routes("/write")
def write(environ, start_response):
    """Several threads write blocks at once."""
    send = start_response("200 OK", [("Content-Type", "text/plain")])

    def of(number):
        return lambda: [send(f"<{number}:{block}>".encode() * 100) for block in range(50)]

    together([of(number) for number in range(5)])
    return []


@routes("/start")
def start(environ, start_response):
    """Several threads call start_response at once: one of them is the first."""

    def begin():
        try:
            start_response("200 OK", [("X-Thread", str(threading.get_ident()))] * 20)
        except AssertionError as error:
            return str(error)
        return "begun"

    results = together([begin] * 6)
    return [" ".join(sorted(set(results))).encode() + b" %d" % results.count("begun")]


@routes("/keep")
def keep(environ, start_response):
    """Leaves all that it was given to others, who use it at once and later."""
    number = parameters(environ)["number"]
    send = start_response("200 OK", [("X-Number", number)])
    asked = environ["portico.client_disconnected"]
    mine = (number, environ["portico.request_id"], environ, start_response, send, asked)
    if len(kept) >= KEPT_MAX:
        kept.pop(0)
    kept.append(mine)
    helpers.submit(use, [mine])
    if waiting.acquire(blocking=False):
        helpers.submit(use, list(kept)).add_done_callback(lambda _: waiting.release())
    return [f"{number} {environ['portico.request_id']}".encode()]


wrong: list[str] = []


def use(many: list[tuple]) -> None:
    """Does with other requests' objects what an application can do; notes what should not be."""
    for objects in many:
        try:
            look_at(*objects)
        except Exception as error:
            wrong.append(repr(error))


def look_at(number: str, ident: str, environ: dict, start_response, send, asked) -> None:
    """Uses what one request was given, which may have ended, or may end meanwhile."""
    for _ in range(3):
        if (environ["portico.request_id"], parameters(environ)["number"]) != (ident, number):
            wrong.append(f"{number} {ident} has become {environ}")
        if not dict(environ) or not isinstance(environ["portico.deadline"](), float | None):
            wrong.append("a deadline that is none")
        asked()
        environ["wsgi.errors"].flush()
        environ["wsgi.input"].read(1)
    time.sleep(0.0005)
    attempts = (
        (start_response, ("500 Stolen", [("X-Stolen", number)])),
        (environ["wsgi.early_hints"], ([("Link", "</stolen>")],)),
        (send, (b"",)),
    )
    for function, arguments in attempts:
        try:
            function(*arguments)
        except AssertionError:
            pass  # It has ended, or has begun.


@routes("/wrong")
def tell_wrong(environ, start_response):
    """What was noted."""
    return plain(start_response, "\n".join(wrong[:5]))


@routes("/deep")
def deep(environ, start_response):
    """Calls that come and go, for whoever looks at its frames."""
    end = time.monotonic() + float(parameters(environ)["seconds"])

    def descend(depth: int) -> int:
        return 1 + descend(depth - 1) if depth else 0

    while time.monotonic() < end:
        for depth in range(0, 60, 3):
            descend(depth)
    return plain(start_response, "deep")


@routes("/spin")
def spin(environ, start_response):
    """Computes until an exception ends it."""
    while True:
        sum(range(200))


@routes("/callbacks")
def callbacks(environ, start_response):
    """Registers callbacks from several threads, and waits for its client to leave."""
    called: list[int] = []
    ask = environ["portico.client_disconnected"]
    together([lambda: [ask(lambda: called.append(1)) for _ in range(20)]] * 4)
    end = time.monotonic() + 10
    while len(called) < 80 and time.monotonic() < end:
        time.sleep(0.002)
    counts.append(len(called))
    return plain(start_response, "left")


counts: list[int] = []


@routes("/counts")
def tell_counts(environ, start_response):
    """How many callbacks each of them has seen."""
    return plain(start_response, json.dumps(counts))


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
    for _ in range(5):
        with server.connect() as client:
            client.send(request_bytes(target="/callbacks"))
            time.sleep(0.05)
    wait_until(lambda: json.loads(server.request("GET", "/counts").body) == [80] * 5, "all callbacks")


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
    assert 'test_shared_objects.py", line ' in record and "in deep" in record
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
