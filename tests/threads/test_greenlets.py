"""An application that gevent or eventlet has patched: its threads are greenlets, and so are its requests.

All of its code runs in the thread that has imported it, as such applications expect; what Portico does beside
it, deadlines and refusals among it, does not.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.http_client import chunked, request_bytes
from harness.interpreter import IS_FREE_THREADED
from harness.packages import skip_without
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.sockets import wait_blocked

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
STREAM_PAUSE = 0.05
# What the tests ask; the patch comes in front of it.
GREEN = (TESTS / "apps" / "green.py").read_text()
OPTIONS = ("--workers", "1", "--threads", "4")
LIMITS = ("--timeout", "0.6", "--timeout-grace", "300ms")
WRITTEN_OFF = r"did not end when portico\.RequestTimeout was raised"


@pytest.fixture(params=PATCHES)
def library(request) -> str:
    """Who has patched the application."""
    skip_without(request.param)
    return request.param


@pytest.fixture
def serve_green(serve, library, tmp_path):
    """Starts a server with the application above."""

    def start(*options: str, patch: bool = True):
        (tmp_path / "green.py").write_text((f"{PATCHES[library]}\n" if patch else "") + GREEN)
        server = serve("green:app", *OPTIONS, *options, cwd=tmp_path)
        server.expected.append(re.compile("EventletDeprecationWarning"))
        return server

    return start


def expect_ticks(server) -> None:
    """A thread of the application goes on, which it tells by itself: no request has to run for it."""
    ticks = server.rendezvous.count("tick")
    server.rendezvous.wait_for("tick", ticks + 3, patience=5)


def test_concurrent_requests_are_greenlets_of_one_thread(serve_green):
    """Each of which lasts, with what it keeps."""
    server = serve_green()
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(server.request, "GET", "/where") for _ in range(20)]
        answers = [future.result().body.decode().split() for future in asked]
    assert {name for name, *_ in answers} == {f"portico-{number}" for number in range(1, 5)}
    assert {same for _, same, *_ in answers} == {"True"}, "the thread that has imported the application"
    calls = {name: [] for name, *_ in answers}
    for name, _, count, _ in answers:
        calls[name].append(int(count))
    assert all(sorted(counts) == list(range(1, len(counts) + 1)) for counts in calls.values()), calls


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_threads_of_the_import_go_on_between_requests(serve_green, options):
    server = serve_green(*options)
    expect_ticks(server)  # While no request runs: it is what this is about.
    assert server.request("GET", "/queue?job=it").body == b"put"
    server.rendezvous.wait_for("worked on it")


def test_thread_started_by_a_request_outlives_it(serve_green):
    server = serve_green()
    assert server.request("GET", "/thread").body == b"started"
    server.rendezvous.wait_for("a thread of a request has gone on")


def test_a_pool_of_the_module_serves_all_requests(serve_green):
    """Also when all of its threads have been waiting for a while, whoever has started them."""
    server = serve_green()
    for _ in range(3):
        with ThreadPoolExecutor(4) as clients:
            asked = [clients.submit(lambda: server.request("GET", "/pool").body) for _ in range(8)]
            assert {future.result() for future in asked} == {b"True"}


def test_processes_are_started_and_forked_and_wait_for(serve_green):
    server = serve_green()
    assert server.request("GET", "/subprocess").body == b"said\n"
    assert server.request("GET", "/fork").body == b"7"
    assert server.request("GET", "/ping").body == b"pong "


@pytest.mark.serial
def test_blocks_leave_at_once_and_streams_run_independently(serve_green):
    server = serve_green()
    target = f"/stream?blocks=8&pause={STREAM_PAUSE}"
    started = time.monotonic()
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(lambda: server.request("GET", target).body) for _ in range(4)]
        assert {future.result() for future in asked} == {b"0 1 2 3 4 5 6 7 "}
    assert time.monotonic() - started < 4 * 8 * STREAM_PAUSE, "they ran at the same time"
    with server.connect() as client:
        client.send(request_bytes(target="/stream?blocks=20"))
        client.read_head()
        assert client.read_chunk() == b"0 "
        server.expect_prompt_answer()


@pytest.mark.serial
def test_clients_that_do_not_read_hold_nobody_else(serve_green):
    """Nor the threads of the application: the hub goes on while a greenlet waits for its client."""
    server = serve_green("--response-buffer", "64k")
    with server.connect(receive_buffer=4096) as one, server.connect(receive_buffer=4096) as other:
        one.send(request_bytes(target="/large?blocks=400&bytes=16384"))
        other.send(request_bytes(target="/large?blocks=4&bytes=1600000"))
        wait_blocked(one)
        wait_blocked(other)
        server.expect_prompt_answer()
        expect_ticks(server)
        assert server.rendezvous.count("made all") == 0
        assert len(one.read_response().body) == 400 * 16384
        assert len(other.read_response().body) == 4 * 1600000


def test_other_greenlet_may_ask_while_a_request_waits(serve_green):
    server = serve_green("--response-buffer", "64k")
    with server.connect(receive_buffer=4096) as client:
        client.send(request_bytes(target="/asked-meanwhile"))
        wait_blocked(client)
        expect_ticks(server)
        assert len(client.read_response().body) == 400 * 16384
    server.rendezvous.wait_for("asked enough")


def test_clients_that_send_slowly_hold_nobody_else(serve_green):
    server = serve_green("--stream-request-body=always")
    with server.connect() as client:
        client.send(request_bytes("POST", "/upload", fields=[("Transfer-Encoding", "chunked")]))
        client.send(chunked([b"x" * 1000]).removesuffix(b"0\r\n\r\n"))
        server.rendezvous.wait_for("reads")
        expect_ticks(server)  # While it sends nothing.
        client.send(chunked([b"y" * 500]))
        assert client.read_response().body == b"1500"


@pytest.mark.parametrize("path", ["/sleep", "/spin"])
def test_only_the_request_beyond_its_timeout_is_interrupted(serve_green, path):
    """Nor one that could not go on because of it: while it computes, the hub stands still."""
    server = serve_green(*LIMITS)
    (worker,) = server.wait_workers(1)
    with server.connect() as client, server.connect() as neighbour:
        neighbour.send(request_bytes(target="/stream?blocks=30"))
        neighbour.read_head()
        client.send(request_bytes(target=f"{path}?seconds=5"))
        response = client.read_response()
        assert (response.status, response.closes) == (504, False)
        record = server.expect_log(f"timeout: GET {path} of .*, thread portico-\\d")
        assert "green.py" in record and f"in {path[1:]}\n" in record, (
            "the stack is the request's, not the hub's"
        )
        assert b"".join(neighbour.read_chunks()).endswith(b"29 "), "it has been left alone"
        client.expect_in_sync()
    assert not server.find_records(WRITTEN_OFF)
    assert server.wait_workers(1) == [worker], "the worker goes on"


def test_swallowed_timeout_gives_up_and_replaces_the_greenlet(serve_green):
    server = serve_green(*LIMITS)
    server.expected.append(re.compile(f"timeout: GET /stubborn|{WRITTEN_OFF}"))
    (worker,) = server.wait_workers(1)
    with server.connect() as client, server.connect() as neighbour:
        neighbour.send(request_bytes(target="/stream?blocks=40"))
        neighbour.read_head()
        client.send(request_bytes(target="/stubborn?seconds=2.5"))
        assert client.read_response().status == 504
        client.expect_end()
        server.rendezvous.wait_for("swallows RequestTimeout")
        assert b"".join(neighbour.read_chunks()).endswith(b"39 ")
    server.expect_text("a thread is stuck in GET /stubborn")
    assert server.request("GET", "/pool").body == b"True"
    server.wait_replaced([worker])
    assert not server.find_records("died")


def test_busy_hub_does_not_stop_deadlines(serve_green):
    server = serve_green(*LIMITS, "--graceful-timeout", "1")
    endings = "calls did not end|keeps the interpreter|not finished|died after"
    server.expected.append(re.compile(f"timeout: GET /(spin-stubbornly|queue)|{WRITTEN_OFF}|{endings}"))
    with server.connect() as client, server.connect() as other:
        client.send(request_bytes(target="/spin-stubbornly?seconds=30"))
        server.rendezvous.wait_for("spins stubbornly")
        other.send(request_bytes(target="/queue?job=never"))
        assert client.read_response().status == 504
        assert other.read_response().status == 504
    assert not server.rendezvous.matching("worked on"), "what was given up before it began does not begin"
    server.signal(signal.SIGTERM)
    server.wait_exit()  # The call would go on for longer.


def test_callbacks_and_exceptions_of_a_client_that_leaves(serve_green):
    server = serve_green("--on-disconnect", "raise")
    server.expected.append(re.compile("Exception on /watch"))
    with server.connect() as client:
        client.send(request_bytes(target="/watch?seconds=5"))
        server.rendezvous.wait_for("watches")
    server.rendezvous.wait_for("called back in the same thread: True")
    server.rendezvous.wait_for("raises ClientDisconnected")
    assert server.request("GET", "/ping").body == b"pong "


def test_error_log_lines_of_two_requests_stay_apart(serve_green):
    server = serve_green()
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda name: server.request("GET", f"/errors?name={name}"), "abcd"))
    for name in "abcd":
        wait_until(lambda name=name: f"{name}-one {name}-two {name}-three" in server.log_text, "its line", 5)


def test_exceptions_in_other_greenlets_end_no_worker(serve_green, library):
    server = serve_green()
    (worker,) = server.wait_workers(1)
    assert server.request("GET", "/exit").body == b"went on"
    assert server.request("GET", "/late").body == b"started"
    server.rendezvous.wait_for("the timeout has struck")
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(lambda: server.request("GET", "/sleep?seconds=0.2").body) for _ in range(4)]
        assert [future.result() for future in asked] == [b"slept"] * 4
    assert server.wait_workers(1) == [worker]
    server.expected.append(re.compile("SystemExit: a greenlet exits was raised in a greenlet"))


@pytest.mark.skipif(IS_FREE_THREADED, reason="without a GIL each thread tells its own stack, a greenlet none")
def test_stacks_show_where_each_greenlet_waits(serve_green):
    server = serve_green()
    with server.connect() as client:
        client.send(request_bytes(target="/sleep?seconds=1"))
        server.rendezvous.wait_for("sleeps")
        told = run_to_end("stacks", str(server.pid), cwd=server.rendezvous.folder).stdout
        section = re.search(r"^portico-\d: GET /sleep of [^\n]*\n((?:  .*\n)*)", told, re.MULTILINE)
        assert section and "green.py" in section[1] and "in sleep\n" in section[1], told
        assert len(re.findall(r"^portico-\d: idle$", told, re.MULTILINE)) == 3, told
        assert client.read_response().body == b"slept"


def test_warm_up_runs_in_greenlets_too(serve_green):
    server = serve_green("--warmup", "/sleep?seconds=0.1", "--warmup", "/pool")
    assert server.rendezvous.count("sleeps") == 1
    assert server.request("GET", "/ping").body == b"pong "


def test_a_stop_finishes_what_runs(serve_green):
    server = serve_green("--graceful-timeout", "5")
    with server.connect() as client:
        client.send(request_bytes(target="/sleep?seconds=0.5"))
        server.rendezvous.wait_for("sleeps")
        server.signal(signal.SIGTERM)
        assert client.read_response().body == b"slept"
    assert server.wait_exit() == 0


def test_in_the_process_of_a_program(library, serve, tmp_path):
    (tmp_path / "green.py").write_text(f"{PATCHES[library]}\n{GREEN}")
    program = "import sys, portico, green\nportico.serve(green.app, bind=sys.argv[2], threads=2)\n"
    (tmp_path / "program.py").write_text(program)
    server = serve(None, program=[sys.executable, "program.py"], cwd=tmp_path)
    server.expected.append(re.compile("EventletDeprecationWarning"))
    expect_ticks(server)  # While no request runs.
    assert server.request("GET", "/pool").body == b"True"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_configuration_file_may_patch_and_reloads_work(serve_green, library, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(f"{PATCHES[library]}\nworker_class = '{library}'\n")
    server = serve_green(patch=False)
    first = server.wait_workers(1)
    for _ in range(2):
        assert server.request("GET", "/pool").body == b"True"
        server.signal(signal.SIGHUP)
        first = server.wait_replaced(first)
    assert server.request("GET", "/where").body.split()[1] == b"True"
    assert not server.find_records("died")


def test_helpers_of_portico_leave_no_hub_behind(serve_green, tmp_path):
    """Loggers of Python have locks that are patched: whoever logs waits for them in a hub."""
    (tmp_path / "logging.ini").write_text(LOGGING)
    server = serve_green("--log-config", str(tmp_path / "logging.ini"), "--access-logfile", "-")
    (worker,) = server.wait_workers(1)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda _: server.request("GET", "/where"), range(60)))
    for _ in range(5):
        os.kill(worker.pid, signal.SIGUSR2)
        run_to_end("stacks", str(server.pid), cwd=tmp_path)
    assert server.wait_workers(1) == [worker]


LOGGING = """
[loggers]
keys=root,gunicorn.error,gunicorn.access
[handlers]
keys=stderr
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=stderr
[logger_gunicorn.error]
level=INFO
handlers=stderr
propagate=0
qualname=gunicorn.error
[logger_gunicorn.access]
level=INFO
handlers=stderr
propagate=0
qualname=gunicorn.access
[handler_stderr]
class=StreamHandler
formatter=plain
args=(sys.stderr,)
[formatter_plain]
format=[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s
"""
