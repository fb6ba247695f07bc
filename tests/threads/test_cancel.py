"""`portico requests PID` and `portico cancel PID ID`: the one request that is meant ends, and no other."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time

import pytest

from harness.http_client import request_bytes
from harness.interpreter import HAS_GIL
from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sockets import wait_blocked

APP = "apps.cancelling:application"
GRACE = 0.5
# Without --timeout: a request that is cancelled needs none.
OPTIONS = ("--workers", "1", "--timeout-grace", f"{GRACE}s")
# The longest time from the command to the end of the call, beside other tests: the watch's tick, and the
# process of the command itself.
SOON = 2.0
WRITTEN_OFF = r"cancelled: GET \S+ .*did not end when portico\.RequestCancelled was raised"
LATE_CANCELS = 500


def told(server, *words: str):
    """The command's result."""
    return run_to_end(*words, cwd=server.rendezvous.folder)


def requests(server) -> list[dict]:
    """What `portico requests --json` prints."""
    ended = told(server, "requests", str(server.pid), "--json")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return json.loads(ended.stdout)


def only_request(server, phase: str = "running") -> dict:
    """The one request that runs."""
    wait_until(lambda: [request["phase"] for request in requests(server)] == [phase], f"one that is {phase}")
    (request,) = requests(server)
    return request


def cancel(server, name: str) -> tuple[str, float]:
    """What the command says, and its seconds."""
    started = time.monotonic()
    ended = told(server, "cancel", str(server.pid), name)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout, time.monotonic() - started


@pytest.fixture
def logged(tmp_path):
    """The access log: options for it, and a function that waits for the reason of a path."""
    log = tmp_path / "access.log"

    def reason(path: str) -> str:
        def found() -> list[str]:
            lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            return [line.get("portico.reason") for line in lines if line["url.path"] == path]

        wait_until(found, f"the log to tell of {path}")
        return found()[0]

    reason.options = ("--access-logfile", str(log), "--access-logformat", "json")
    return reason


def test_python_call_ends_at_once_with_503(serve, logged):
    """Although there is an `except Exception` around it. Its thread answers what is pipelined behind it."""
    server = serve(APP, *OPTIONS, "--threads", "1", *logged.options)
    with server.connect() as client:
        client.send(request_bytes(target="/spin?secret=1") + request_bytes(target="/ping"))
        server.rendezvous.wait_for("spins")
        request = only_request(server)
        assert (request["method"], request["path"], request["peer"]) == ("GET", "/spin", "127.0.0.1")
        assert request["id"] == "0-1-2" and request["thread"] == "portico-1"
        text, seconds = cancel(server, request["id"])
        assert re.fullmatch(r"GET /spin \(0-1-2\) ended, after \d[\d.]* m?s\n", text), text
        assert seconds < SOON
        response = client.read_response()
        assert (response.status, response.get("Retry-After")) == (503, None)
        assert response.body == b"503 Service Unavailable: the request was cancelled\n"
        assert client.read_response().body == b"pong "
    assert logged("/spin") == "cancelled"
    pattern = r"cancelled: GET /spin of 127\.0\.0\.1, running "
    wait_until(lambda: server.find_records(pattern), "its stack in the log")
    (record,) = server.find_records(pattern)
    assert "in spin_for_ever\n" in record and "secret" not in record
    assert not server.find_records("WORKER TIMEOUT|did not end")
    server.expect_prompt_answer()
    assert requests(server) == []


@pytest.mark.parametrize("path", ["/sleep", "/lock", "/swallow"])
def test_call_that_never_returns_is_given_up(serve, logged, path):
    server = serve(APP, *OPTIONS, "--threads", "1", *logged.options)
    with server.connect() as client, server.connect() as other:
        client.send(request_bytes(target=path))
        request = only_request(server)
        other.send(request_bytes(target="/ping"))
        text, seconds = cancel(server, request["id"])
        assert f"GET {path} ({request['id']}) did not end and was given up, after " in text
        assert GRACE < seconds < GRACE + SOON
        response = client.read_response()
        assert response.status == 503 and response.closes
        assert other.read_response().body == b"pong ", "by the thread in its place"
    assert logged(path) == "cancelled"
    server.expect_log(WRITTEN_OFF)
    server.expect_text(f"a thread is stuck in GET {path}")


def test_call_that_keeps_the_interpreter_is_given_up(serve):
    server = serve(APP, *OPTIONS, "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target="/hold-interpreter?seconds=4"))
        server.rendezvous.wait_for("holds")
        text, seconds = cancel(server, only_request(server)["id"])
        assert "was given up" in text and seconds < GRACE + SOON
        assert client.read_response().status == 503
    server.expect_log(WRITTEN_OFF)
    if HAS_GIL:
        server.expect_text("in hold_interpreter")
    assert server.request("GET", "/ping").status == 200, "once it is let go of"


def test_call_that_catches_the_exception_is_given_up(serve):
    server = serve(APP, *OPTIONS, "--threads", "1")
    with server.connect() as client:
        client.send(request_bytes(target="/catches"))
        server.rendezvous.wait_for("begins")
        assert "was given up" in cancel(server, only_request(server)["id"])[0]
        client.expect_truncated()
    assert server.rendezvous.count("catches") == 1, "it is raised once"
    server.expect_log(WRITTEN_OFF)


def test_call_that_awaits_its_reader_costs_no_thread(serve, logged):
    server = serve(APP, *OPTIONS, "--threads", "1", "--response-buffer", "64k", *logged.options)
    (worker,) = server.workers()
    with server.connect(receive_buffer=4096) as client:
        client.send(request_bytes(target="/large?blocks=100000"))
        client.read_line()
        wait_blocked(client)
        request = only_request(server, "awaiting_client")
        text, seconds = cancel(server, request["id"])
        assert " ended, after " in text and seconds < SOON
        server.expect_prompt_answer()
    assert logged("/large") == "cancelled"
    assert [process.pid for process in server.workers()] == [worker.pid]


def test_queued_request_has_no_id_yet(serve):
    server = serve(APP, *OPTIONS, "--threads", "1")
    with server.connect() as client, server.connect() as waiting:
        client.send(request_bytes(target="/spin"))
        server.rendezvous.wait_for("spins")
        waiting.send(request_bytes(target="/ping"))
        server.wait_engine()
        request = only_request(server)
        assert request["path"] == "/spin"
        cancel(server, request["id"])
        assert client.read_response().status == 503
        assert waiting.read_response().body == b"pong "


def test_what_is_no_request_that_runs_hits_nothing(serve):
    server = serve(APP, *OPTIONS, "--threads", "1")
    assert server.request("GET", "/short/1").status == 200
    with server.connect() as client:
        client.send(request_bytes(target="/spin"))
        server.rendezvous.wait_for("spins")
        own = only_request(server)["id"]
        assert own == "0-1-4"
        for name, error in [
            ("0-1-2", "no request 0-1-2 runs: it has ended, and nothing was cancelled"),
            ("0-1-6", "no request 0-1-6 runs"),
            ("0-2-4", "no request 0-2-4 runs"),
            ("7-1-4", "no request 7-1-4 runs"),
            ("4", '"4" is no id of a request'),
        ]:
            ended = told(server, "cancel", str(server.pid), name)
            assert ended.returncode == 1 and ended.stdout == ""
            assert ended.stderr.startswith(f"portico: error: {error}"), ended.stderr
        assert only_request(server)["id"] == own
        cancel(server, own)
        assert client.read_response().status == 503


def test_calls_of_the_next_worker_have_new_ids(serve):
    server = serve(APP, *OPTIONS, "--threads", "1", "--max-requests", "0")
    assert server.request("GET", "/short/1").status == 200
    (worker,) = server.workers()
    worker.kill()
    server.expected.append(re.compile(r"worker 0 \(pid \d+\) died|WORKER"))
    server.wait_replaced([worker])
    with server.connect() as client:
        client.send(request_bytes(target="/spin"))
        server.rendezvous.wait_for("spins")
        request = only_request(server)
        assert request["id"] != "0-1-2"
        cancel(server, request["id"])
        assert client.read_response().status == 503


@contextlib.contextmanager
def load(server, clients: int):
    """Clients that ask for one short call after the other; yields what they got, by path."""
    statuses: dict[str, int] = {}
    wrong: list[str] = []
    stopped = threading.Event()

    def ask(number: int) -> None:
        with server.connect() as client:
            count = 0
            while not stopped.is_set():
                count += 1
                path = f"/short/{number}/{count}"
                response = client.request(target=path)
                statuses[path] = response.status
                if response.status == 200 and response.body != path.encode():
                    wrong.append(path)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses, wrong
    finally:
        stopped.set()
        for thread in threads:
            thread.join(20)


def test_late_cancels_under_load_hit_no_neighbour(serve):
    """Ids of calls that have just ended, while their threads are in the next ones: as late clicks are."""
    server = serve(APP, "--workers", "1", "--threads", "4")
    board = server.scoreboard()
    with load(server, 6) as (statuses, wrong):
        wait_until(lambda: len(statuses) > 50, "the load")
        for _ in range(LATE_CANCELS):
            before = [board.sequence(0, thread) for thread in range(4)]
            ended: list[int] = []

            def next_call(before=before, ended=ended) -> bool:
                ended[:] = [number for number in range(4) if board.sequence(0, number) > before[number] | 1]
                return bool(ended)

            wait_until(next_call, "the next call of a thread")
            for number in ended:
                board.ask_cancel(0, number, before[number] + 1 & ~1)
        count = len(statuses)
        wait_until(lambda: len(statuses) > count + 50, "calls after the last of them")
    assert set(statuses.values()) == {200} and not wrong
    assert not server.find_records("cancelled")


def test_cancels_at_the_end_hit_the_meant_call(serve):
    """Calls that run are cancelled; whether they end before that or not, no other one ends for it."""
    server = serve(APP, "--workers", "1", "--threads", "4")
    board = server.scoreboard()
    meant = set()
    with load(server, 6) as (statuses, wrong):
        wait_until(lambda: len(statuses) > 50, "the load")
        for number in range(LATE_CANCELS):
            thread = number % 4
            sequence, path = board.running(0, thread)
            if path:
                meant.add(path)
                board.ask_cancel(0, thread, sequence)
            time.sleep(0.002)  # So that they are spread over the ticks of the watch.
    assert set(statuses.values()) <= {200, 503} and not wrong
    assert {path for path, status in statuses.items() if status == 503} <= meant
    server.expected.append(re.compile("cancelled: GET /short/"))


def test_upload_that_is_awaited_is_cancelled(serve, logged):
    server = serve(APP, *OPTIONS, "--threads", "1", "--stream-request-body=always", *logged.options)
    with server.connect() as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegin")
        server.rendezvous.wait_for("uploads")
        request = only_request(server, "awaiting_client")
        text, seconds = cancel(server, request["id"])
        assert " ended, after " in text and seconds < SOON
        assert client.read_response().status == 503
    assert logged("/upload") == "cancelled"
