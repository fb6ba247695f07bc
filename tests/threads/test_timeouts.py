"""The timeout of a request: what it does to a call, to its client, and to everybody else."""

from __future__ import annotations

import json
import re
import signal
import threading
import time

import pytest

from harness.http_client import Client, request_bytes
from harness.interpreter import HAS_GIL
from harness.server import STOP_PATIENCE
from harness.sockets import wait_blocked
from harness.sources import program

STUCK = "apps.stuck:application"
TIMEOUT = 0.6
OPTIONS = ("--workers", "1", "--timeout", f"{TIMEOUT}", "--timeout-grace", "300ms")
# When a call has ended at the latest: after its timeout, its grace and the looks at it, beside other tests.
LATEST = TIMEOUT + 1
NAP = 0.4
IN_PROCESS = program("serve_stuck")
GRACEFUL = 2
WRITTEN_OFF = r"did not end when portico\.RequestTimeout was raised"


def ask(client: Client, target: str, method: str = "GET"):
    """A request's answer, and the seconds that it took."""
    started = time.monotonic()
    response = client.request(method, target)
    return response, time.monotonic() - started


def check_504(response, seconds: float) -> None:
    """The answer is a 504, neither too early nor later than a second."""
    assert response.status == 504, response
    assert response.get("Content-Type") == "text/plain; charset=utf-8"
    assert TIMEOUT <= seconds < LATEST


def test_python_call_raises_and_its_client_gets_504(serve):
    """Although there is an `except Exception` around it. Requests pipelined behind are answered."""
    server = serve(STUCK, *OPTIONS, "--threads", "1")
    with server.connect() as client:
        started = time.monotonic()
        client.send(request_bytes(target="/spin?secret=1") + request_bytes(target="/ping") * 2)
        check_504(client.read_response(), time.monotonic() - started)
        assert [client.read_response().body for _ in range(2)] == [b"pong ", b"pong "]
        client.expect_in_sync()
    record = server.expect_log(
        r"timeout: GET /spin of 127\.0\.0\.1, running 0\.[67] s, queued 0\.0 s, thread portico-1"
    )
    assert "in spin\n" in record and "in spin_for_ever\n" in record and "secret" not in record
    assert "/threading.py" not in record, "how threads start is no news"
    assert not server.find_records(WRITTEN_OFF)


def test_log_of_a_timeout_names_the_request(serve):
    """By the value of X-Request-Id, as far as that is short and cannot be taken for a line of the log."""
    server = serve(STUCK, *OPTIONS, "--threads", "1", "--slow-request", "200ms")
    for path, value, told in [
        ("/spin", "7f3a-1", "7f3a-1"),
        ("/sleep", 'a\tb"' + "x" * 200, r"a\tb\"" + "x" * 124),
    ]:
        with server.connect() as client:
            client.send(request_bytes(target=path, fields=[("x-request-id", value)]))
            assert client.read_response().status == 504
        line = re.escape(f"GET {path} of 127.0.0.1, request id {told}, running ")
        server.expect_log(f"slow request: {line}")
        server.expect_log(f"timeout: {line}", 1 if path == "/spin" else 2)


def test_head_is_timed_out_without_a_body(serve):
    server = serve(STUCK, *OPTIONS)
    with server.connect() as client:
        response, seconds = ask(client, "/spin", "HEAD")
        check_504(response, seconds)
        client.expect_in_sync()
    server.expect_log("timeout: HEAD /spin")


@pytest.mark.parametrize("path", ["/sleep", "/lock"])
def test_c_call_is_answered_and_its_thread_replaced(serve, path):
    server = serve(STUCK, *OPTIONS, "--threads", "1")
    with server.connect() as client:
        started = time.monotonic()
        client.send(request_bytes(target=path) + request_bytes(target="/ping"))
        response = client.read_response()
        check_504(response, time.monotonic() - started)
        assert response.closes
        client.expect_end()
    server.expect_log(f"timeout: GET {path} .*in {path[1:]}\n")
    server.expect_log(WRITTEN_OFF)
    server.expect_prompt_answer("/count")  # Another thread has taken its place.
    server.expect_text(f"a thread is stuck in GET {path}")


def test_an_answer_that_has_begun_is_cut(serve):
    server = serve(STUCK, *OPTIONS, "--threads", "1")
    for path in ("/generate", "/generate-sleep"):
        with server.connect() as client:
            client.send(request_bytes(target=path))
            client.expect_truncated()
        server.expect_log(f"timeout: GET {path} .*last block")
        server.expected.append(re.compile(WRITTEN_OFF))
        server.expect_prompt_answer("/count")


def test_a_stream_that_goes_on_is_not_touched(serve):
    server = serve(STUCK, *OPTIONS)
    blocks = 6
    response = server.request("GET", f"/stream?blocks={blocks}&pause={TIMEOUT / 2}")
    assert response.body == b"block." * blocks


def test_waiting_for_a_slow_reader_is_not_counted(serve):
    server = serve(STUCK, *OPTIONS, "--threads", "1", "--response-buffer", "64k")
    with server.connect(receive_buffer=4096) as client:
        client.send(request_bytes(target="/large?blocks=200"))
        client.read_line()
        wait_blocked(client)
        time.sleep(3 * TIMEOUT)  # The call waits for longer than it may compute.
        client.buffer = b"HTTP/1.1 200 OK\r\n" + client.buffer
        assert len(client.read_response().body) == 200 * 65536


def test_an_application_may_answer_by_itself(serve):
    server = serve(STUCK, *OPTIONS)
    response = server.request("GET", "/own-answer")
    assert (response.status, response.body) == (503, b"took too long")
    server.expect_log("timeout: GET /own-answer")


def test_close_is_ended_too(serve):
    server = serve(STUCK, *OPTIONS, "--threads", "1")
    with server.connect() as client:
        assert client.request(target="/close").body == b"whole answer"
        response, seconds = ask(client, "/count")
        assert response.status == 200
        assert TIMEOUT / 2 < seconds < LATEST, "the thread was in close() until then"
    assert "in close\n" in server.expect_log("timeout: GET /close")


def test_an_application_that_raises_it_has_timed_out(serve):
    server = serve(STUCK)
    assert server.request("GET", "/raise").status == 504


def test_late_exception_reaches_no_other_request(serve):
    """The calls end in C code at about the moment when the exception is raised in them."""
    server = serve(STUCK, "--workers", "1", "--threads", "1", "--timeout", "100ms", "--timeout-grace", "5s")
    server.expected.append(re.compile("timeout: GET /sleep"))
    statuses = set()
    with server.connect() as client:
        for number in range(60):
            statuses.add(client.request(target=f"/sleep?seconds={0.1 + number % 20 / 1000}").status)
            assert client.request(target="/count").body == b"20000"
    assert statuses <= {200, 504}
    assert 504 in statuses, "some were in time to be struck"


def test_a_call_that_holds_the_interpreter(serve):
    """Its stack comes without the interpreter; its client and one that waits behind get their answers."""
    server = serve(STUCK, *OPTIONS, "--threads", "2")
    with server.connect() as client:
        response, seconds = ask(client, "/hold-interpreter?seconds=4")
        check_504(response, seconds)
        client.expect_end()
    record = server.expect_log("timeout: GET /hold-interpreter .*in hold_interpreter")
    assert "stuck.py" in record
    if HAS_GIL:
        assert "portico-" in server.expect_log("C code holds the interpreter, .*MainThread")
    server.expect_log(WRITTEN_OFF)
    assert server.request("GET", "/count").status == 200, "once it is let go of"


@pytest.mark.parametrize("in_process", [False, True], ids=["command", "portico.serve"])
def test_term_ends_a_server_whose_interpreter_is_held(serve, in_process):
    """Nothing that SIGTERM asks for waits until C code lets go of the interpreter."""
    if in_process:
        settings = ("threads=2", f"graceful_timeout={GRACEFUL}", "timeout=0")
        server = serve(None, *settings, program=IN_PROCESS)
    else:
        server = serve(STUCK, "--workers", "1", "--graceful-timeout", str(GRACEFUL), "--timeout", "0")
    server.expected.append(re.compile("keeps the interpreter to itself|cut GET /hold-interpreter|died after"))
    with server.connect() as held, server.connect() as idle:
        idle.expect_in_sync()
        held.send(request_bytes(target="/hold-interpreter?seconds=60"))
        server.rendezvous.wait_for("holds")
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        idle.expect_end()
        assert server.process.poll() is None, "the engine has heard of it, before the call was given up"
        # The call takes longer than this.
        server.process.wait(STOP_PATIENCE)
        assert time.monotonic() - started >= GRACEFUL


@pytest.mark.serial
def test_timeouts_by_path_and_none(serve):
    server = serve(STUCK, "--workers", "1", "--timeout", "0", "--timeout-path", "/spin=300ms")
    assert server.request("GET", "/sleep?seconds=1").status == 200
    # It would spin for ever.
    assert server.request("GET", "/spin").status == 504
    server.expect_log("timeout: GET /spin")


def test_slow_requests_are_told_and_not_touched(serve):
    """At that time, and at twice and four times that."""
    server = serve(STUCK, "--workers", "1", "--slow-request", "150ms")
    assert server.request("GET", "/sleep?seconds=1").body == b"slept"
    told = "slow request: GET /sleep of 127.0.0.1"
    server.expect_log(told, count=3)
    records = server.find_records(told)
    assert len(records) == 3, records
    assert all("in sleep\n" in record and "[WARNING]" in record for record in records)
    assert "running 0.1 s" in records[0] or "running 0.2 s" in records[0]
    assert server.request("GET", "/ping").status == 200
    assert len(server.find_records("slow request")) == 3


def keep_asking(server, stop: threading.Event, failures: list, times: list) -> None:
    """Asks one quick request after the other."""
    with server.connect(5) as client:
        while not stop.is_set():
            response, seconds = ask(client, "/ping")
            times.append(seconds)
            if response.status != 200:
                failures.append(response)


@pytest.mark.serial
@pytest.mark.parametrize("in_process", [False, True], ids=["command", "portico.serve"])
def test_two_stuck_threads_of_eight_harm_nobody_else(serve, in_process):
    """One in Python, one in C code: two 504, six unaffected, and all eight back within two seconds."""
    if in_process:
        server = serve(None, "threads=8", f"timeout={TIMEOUT}", program=IN_PROCESS)
    else:
        server = serve(STUCK, "--workers", "1", "--threads", "8", "--timeout", str(TIMEOUT))
    stop, failures, times = threading.Event(), [], []
    askers = [threading.Thread(target=keep_asking, args=(server, stop, failures, times)) for _ in range(6)]
    with server.connect() as one, server.connect() as other:
        for asker in askers:
            asker.start()
        started = time.monotonic()
        one.send(request_bytes(target="/lock"))
        other.send(request_bytes(target="/sleep"))
        for client in (one, other):
            check_504(client.read_response(), time.monotonic() - started)
        stop.set()
        for asker in askers:
            asker.join(10)
    assert not failures
    assert len(times) > 100 and max(times) < TIMEOUT, f"the longest of {len(times)} took {max(times)}"
    started = time.monotonic()
    with server.connections(8) as clients:
        for client in clients:
            client.send(request_bytes(target=f"/sleep?seconds={NAP}"))
        assert {client.read_response().status for client in clients} == {200}
    assert time.monotonic() - started < 2 * NAP, "eight at once"
    server.expect_log(WRITTEN_OFF, 2)
    server.expect_log("timeout: GET /(lock|sleep) .*, in (lock|sleep)\n", 2)
    if in_process:
        server.expect_text("has no supervisor to do it")


def test_worker_ends_in_order_beside_a_stuck_thread(serve):
    """What is registered with `atexit` runs; the thread does not take the process down with an abort."""
    server = serve(STUCK, *OPTIONS, "--threads", "2")
    workers = server.workers()
    assert server.request("GET", "/swallow").status == 504
    server.rendezvous.wait_for("swallows")
    server.expect_log("timeout: GET /swallow .*, in spin_for_ever\n")
    server.expect_log(WRITTEN_OFF)
    server.wait_replaced(workers)
    server.rendezvous.wait_for("exits")
    assert server.request("GET", "/ping").status == 200


def test_at_most_all_threads_may_be_replaced(serve):
    server = serve(STUCK, *OPTIONS, "--threads", "1", "--graceful-timeout", "1")
    server.expected.append(re.compile("timeout: GET /sleep|calls did not end"))
    for _ in range(2):
        assert server.request("GET", "/sleep").status == 504
    server.expect_log("as many threads are stuck as there may be")


def test_application_can_ask_for_its_remaining_time(serve):
    """Also from another thread; it counts anew from each block."""
    server = serve(
        "apps.gone:application", "--workers", "1", "--timeout", "20", "--timeout-path", "/deadline=5"
    )
    first, later, elsewhere, anew = json.loads(server.request("GET", "/deadline").body)
    assert 4 < first <= 5
    assert first - 1 < elsewhere <= later <= first - 0.3
    assert later < anew <= 5


def test_without_a_timeout_there_is_no_deadline(serve):
    server = serve("apps.gone:application", "--workers", "1", "--timeout", "0")
    assert server.request("GET", "/deadline").body == b"[None, None, None, None]"
