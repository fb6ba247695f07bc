"""How the server stops: nothing that was accepted or waits in the backlog is lost, and it always ends."""

from __future__ import annotations

import signal
import stat
import time

import pytest

from harness.http_client import FramingError, request_bytes
from harness.rendezvous import wait_until
from harness.sockets import listens, wait_read

# Seconds: far less than the graceful timeout of 30, which a server takes that waits for what does not come.
PROMPT = 10
# Seconds after which a second signal is a second wish: a process and its group get one each.
DOUBLE_SIGNAL = 0.5

CONTROL = "apps.control:application"


def stop_seconds(server) -> float:
    """Seconds until the process has ended, with status 0."""
    started = time.monotonic()
    assert server.wait_exit() == 0, server.log_text
    return time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_an_idle_server_with_status_0(serve, number):
    server = serve(CONTROL)
    server.request()
    server.signal(number)
    assert stop_seconds(server) < PROMPT
    assert "Traceback" not in server.log_text
    assert not server.unexpected_records()
    assert "Since the start" not in server.log_text, "there is nothing to tell of"


def test_errors_are_summed_up_at_the_end(serve):
    server = serve(CONTROL, "--threads", "1", "--max-queue", "1", "--graceful-timeout", "1")
    with server.connect() as stuck, server.connect() as queued:
        stuck.send(request_bytes(target="/hold?gate=never"))
        server.rendezvous.wait_for("holding never")
        queued.send(request_bytes(target="/ping"))
        server.wait_engine()  # By two malformed requests.
        assert server.request("GET", "/ping").status == 503
        server.signal(signal.SIGTERM)
        stop_seconds(server)
    (told,) = server.find_records("Since the start")
    assert told.endswith(
        "Since the start: requests refused (malformed, too large or too slow): 2; "
        "requests answered 503 because the queue was full (--max-queue): 1"
    )


def test_term_right_after_the_start(serve):
    server = serve(CONTROL)
    server.signal(signal.SIGTERM)
    assert stop_seconds(server) < PROMPT


def test_process_forked_by_the_application_can_be_terminated(serve):
    """As `multiprocessing` does it: SIGTERM ends the child, and is none of the server's business."""
    server = serve(CONTROL)
    assert server.request("GET", "/fork-and-terminate").body == b"-15"
    assert server.request("GET", "/ping").status == 200
    server.stop()


@pytest.mark.serial
def test_idle_connections_are_closed_at_once(serve):
    server = serve(CONTROL)
    with server.connections(20) as clients:
        for client in clients[:10]:
            client.expect_in_sync()
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        for client in clients:
            client.expect_end()
        assert time.monotonic() - started < 1
    assert stop_seconds(server) < PROMPT


def test_running_queued_and_unaccepted_requests_are_all_answered(serve):
    """One thread, one request running, three behind it: four of four."""
    server = serve(CONTROL, "--threads", "1")
    meeting = server.rendezvous
    with server.connections(4) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/hold-each?gate=all&name={number}"))
            if number == 0:
                meeting.wait_for("runs 0")
        for client in clients:
            wait_read(client)
        server.signal(signal.SIGTERM)
        server.expect_log("(?i)term|stop|shut")
        wait_until(lambda: not listens(server.worker), "the worker to listen no more")
        meeting.open("all")
        for number, client in enumerate(clients):
            response = client.read_response()
            assert (response.status, response.body) == (200, str(number).encode())
            assert response.closes
            client.expect_end()
    assert stop_seconds(server) < PROMPT


@pytest.mark.parametrize("count", [1, 16, 64])
def test_backlog_at_the_signal_is_served(serve, count):
    """The process stands still while clients connect: only the kernel knows them when it wakes to SIGTERM."""
    server = serve(CONTROL, "--threads", "2")
    server.request()
    worker = server.worker
    worker.pause()
    with server.connections(count) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/run?name={number}"))
        server.signal(signal.SIGTERM)
        server.expect_log("Handling signal: term")
        worker.resume()
        for number, client in enumerate(clients):
            response = client.read_response()
            assert (response.status, response.body) == (200, str(number).encode())
    assert stop_seconds(server) < PROMPT


@pytest.mark.parametrize(
    ("target", "size", "is_all_made"),
    [("/large?bytes=10000000&block=10000", 10_000_000, False), ("/large?bytes=900000", 900_000, True)],
    ids=["a stream", "a response that its client has not read"],
)
def test_responses_under_way_end_in_full(serve, target, size, is_all_made):
    server = serve(CONTROL)
    with server.connect(receive_buffer=8192) as client:
        client.send(request_bytes(target=target))
        assert client.read_head().status == 200
        server.signal(signal.SIGTERM)
        if is_all_made:
            wait_until(lambda: "ready" not in server.states().values(), "the worker to leave")
        assert len(client.read_exactly(size)) == size
        client.expect_end()
    assert stop_seconds(server) < PROMPT


def test_upload_under_way_is_finished(serve):
    server = serve(CONTROL)
    with server.connect() as client:
        client.send(request_bytes("POST", "/consume", [("Content-Length", "10")]) + b"12345")
        server.signal(signal.SIGTERM)
        server.expect_log("(?i)term|stop|shut")
        client.send(b"67890")
        response = client.read_response()
        assert (response.body, response.closes) == (b"10", True)
    assert stop_seconds(server) < PROMPT


def test_pipelined_requests_that_have_arrived_are_answered(serve):
    server = serve(CONTROL)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=first") + request_bytes(target="/run?name=second"))
        server.rendezvous.wait_for("holding first")
        server.signal(signal.SIGTERM)
        server.rendezvous.open("first")
        first = client.read_response()
        assert first.body == b"held first"
        if not first.closes:
            assert client.read_response().body == b"second"
        client.expect_end(reset_is_end=True)
    assert stop_seconds(server) < PROMPT


def test_new_connections_are_refused_after_listening_ends(serve):
    server = serve(CONTROL, "--threads", "1")
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        server.signal(signal.SIGTERM)
        server.wait_refusing()
        server.rendezvous.open("only")
        assert client.read_response().body == b"held only"
    assert stop_seconds(server) < PROMPT


def test_graceful_timeout_bounds_the_stop(serve):
    server = serve(CONTROL, "--threads", "2", "--graceful-timeout", "1")
    with server.connect() as client:
        client.send(request_bytes(target="/sleep?seconds=60"))
        wait_until(lambda: server.is_busy(server.worker), "the call to begin")
        server.signal(signal.SIGTERM)
        assert 0.8 < stop_seconds(server) < PROMPT
        with pytest.raises((FramingError, ConnectionResetError)):
            client.read_response()
    assert "/sleep" in server.log_text, "the log names the request that was given up"


@pytest.mark.parametrize(
    ("application", "target", "has_begun", "seconds"),
    [(CONTROL, "/spin?seconds=30", False, 4), ("apps.contract:application", "/endless", True, 3)],
    ids=["a stuck thread", "an endless stream"],
)
def test_graceful_timeout_bounds_what_would_not_end(serve, application, target, has_begun, seconds):
    server = serve(application, "--threads", "1", "--graceful-timeout", "1")
    with server.connect(receive_buffer=4096) as client:
        client.send(request_bytes(target=target))
        wait_until(lambda: server.is_busy(server.worker), "the call to begin")
        if has_begun:
            assert client.read_head().status == 200
        server.signal(signal.SIGTERM)
        assert stop_seconds(server) < seconds


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_stops_at_once(serve, second):
    server = serve(CONTROL, "--threads", "1", "--graceful-timeout", "30")
    with server.connect() as client:
        client.send(request_bytes(target="/sleep?seconds=20"))
        wait_until(lambda: server.is_busy(server.worker), "the call to begin")
        server.signal(signal.SIGTERM)
        server.expect_log("(?i)term|stop|shut")
        time.sleep(DOUBLE_SIGNAL)
        server.signal(second)
        started = time.monotonic()
        server.wait_exit()
        assert time.monotonic() - started < 2


def test_threads_and_hooks_of_the_application_end_well(serve, tmp_path):
    """atexit handlers run: applications flush there."""
    (tmp_path / "flushing.py").write_text(
        "import atexit, sys\n"
        "atexit.register(lambda: print('flushed at exit', file=sys.stderr, flush=True))\n"
        "from apps.echo import application\n"
    )
    server = serve("flushing", cwd=tmp_path)
    server.request("GET", "/ping")
    server.stop()
    assert "flushed at exit" in server.log_text


def test_nothing_is_written_and_nothing_is_needed(serve, tmp_path):
    """A read-only working directory, no HOME, no TMPDIR that exists: a locked-down container."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "hello.py").write_text("from apps.echo import application\n")
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    missing = {
        "HOME": None,
        "USER": None,
        "LOGNAME": None,
        "XDG_RUNTIME_DIR": None,
        "TERM": None,
        "LANG": None,
    }
    server = serve("hello", cwd=folder, environment=missing)
    assert server.request("POST", "/", body=b"x").status == 200
    assert [path.name for path in folder.iterdir()] == ["hello.py"]
    server.stop()
    assert [path.name for path in folder.iterdir()] == ["hello.py"]
    assert sorted(path.name for path in server.rendezvous.folder.iterdir()) == []
    folder.chmod(0o700)


def test_large_bodies_leave_no_files(serve, tmp_path):
    """The spool is unlinked from the beginning."""
    spool = tmp_path / "spool"
    spool.mkdir()
    server = serve(CONTROL, environment={"TMPDIR": str(spool)})
    with server.connect() as client:
        client.send(request_bytes("POST", "/consume", [("Content-Length", "2000000")]) + b"x" * 1_000_000)
        wait_read(client)
        assert list(spool.iterdir()) == []
        client.send(b"x" * 1_000_000)
        assert client.read_response().body == b"2000000"
    assert list(spool.iterdir()) == []
