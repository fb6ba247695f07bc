"""HTTP/2 without TLS: requests, answers, streams at once, windows, clients that give up, stop and reload."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time

import pytest
from hyperframe.frame import DataFrame, SettingsFrame

from harness.http2_client import CANCEL, INTERNAL_ERROR, PREFACE, Http2Client
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.sockets import wait_read

SERVER = ("apps.control:application", "--threads", "4", "--access-logfile", "-")
ECHO = "apps.echo:application"
BODIES = "apps.contract:application"


def connect(server, **options) -> Http2Client:
    """A client of a server."""
    return Http2Client(server.address, **options)


def connect_greedy(server) -> Http2Client:
    """A client that takes all there is."""
    client = connect(server, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30})
    client.update_window(0, 1 << 30)
    return client


def echoed(answer) -> dict:
    """What apps.echo tells of a request."""
    assert answer.status == 200, answer
    return json.loads(answer.body)


# Requests


def test_environ(serve):
    server = serve(ECHO)
    with connect(server) as client:
        fields = [("cookie", "a=1"), ("x-a", "b"), ("cookie", "b=2"), ("x_a", "spoof"), ("x-a", "c")]
        environ = echoed(client.request("/p%20q?r=s", fields=fields))["environ"]
    expected = {
        "SERVER_PROTOCOL": "HTTP/2.0",
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/p q",
        "QUERY_STRING": "r=s",
        "HTTP_HOST": "test",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_X_A": "b,c",
        "wsgi.url_scheme": "http",
        "REMOTE_ADDR": "127.0.0.1",
    }
    assert {key: environ.get(key) for key in expected} == expected


def test_http1_is_spoken_on_the_same_port(server):
    assert server.request("GET", "/ping").status == 200
    with connect(server) as client:
        client.expect_alive()


def test_the_preface_may_come_in_pieces(server):
    bytes_of_it = PREFACE + SettingsFrame(0).serialize()
    with connect(server, hello=False) as client:
        for byte in bytes_of_it:
            client.send(bytes([byte]))
            wait_read(client)
        client.expect_alive()


def test_it_can_be_turned_off(serve):
    for option in (("--http2-cleartext", "off"), ("--http-protocols", "h1")):
        server = serve(ECHO, *option)
        with server.connect() as client:
            client.send(PREFACE)
            assert client.read_response().status == 505


def test_a_unix_socket(serve, tmp_path):
    path = tmp_path / "app.sock"
    server = serve("apps.control:application", bind=f"unix:{path}")
    with Http2Client(str(path)) as client:
        client.expect_alive()
    del server


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_bodies(serve, streamed, told):
    server = serve(ECHO, *(["--stream-request-body=always"] if streamed else []))
    body = bytes(range(256)) * 200
    with connect_greedy(server) as client:
        for size in (0, 1, len(body)):
            fields = [("content-length", str(size))] if told else []
            answer = echoed(client.request("/", "POST", fields, body[:size]))
            assert answer["body"] == body[:size].decode("latin-1") if "body" in answer else True
            if told or not streamed:
                assert answer["environ"]["CONTENT_LENGTH"] == str(size)


def test_100_continue(server):
    with connect(server) as client:
        fields = [("expect", "100-continue"), ("content-length", "3")]
        stream = client.open("/ping", "POST", fields, end=False)
        client.wait(lambda: stream in client.answers, "100")
        assert client.answers[stream].interim == [(100, [])]
        client.data(stream, b"abc", end=True)
        assert client.answer(stream).status == 200


# Answers


def test_head_204_304_and_unknown_length(serve):
    server = serve(BODIES)
    with connect(server) as client:
        head = client.request("/ping", "HEAD")
        assert (head.status, head.body, head.ended) == (200, b"", True)
        answer = client.request("/ping")
        assert head.get("content-length") == answer.get("content-length") == "5"
        for name in ("connection", "transfer-encoding", "keep-alive"):
            assert answer.get(name) is None
        assert answer.get("date") and answer.get("server") == "portico"


def test_early_hints(serve):
    server = serve(BODIES)
    with connect(server) as client:
        answer = client.request("/hints")
    assert [status for status, _ in answer.interim] == [103, 103]
    assert answer.interim[0][1] == [("link", "</style.css>; rel=preload; as=style")]
    assert answer.body == b"hinted"


def test_a_file_through_file_wrapper(serve, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4000)
    server = serve(BODIES)
    with connect_greedy(server) as client:
        answer = client.request("/file?kind=real", fields=[("x-file", str(path))])
    assert answer.body == path.read_bytes()


def test_an_answer_that_breaks_off_is_reset(serve):
    server = serve(BODIES)
    server.expect_log(r"(?s).*")
    with connect(server) as client:
        answer = client.request("/wrong-later?value=text-block")
        assert answer.status == 200 and answer.reset == INTERNAL_ERROR and not answer.ended
        assert client.request("/ping").status == 200


# Streams at once


def test_streams_run_at_once_on_all_threads(serve):
    server = serve("apps.control:application", "--threads", "4")
    with connect(server) as client:
        streams = [client.open("/hold?gate=all") for _ in range(4)]
        server.rendezvous.wait_for("holding all", 4)
        server.rendezvous.open("all")
        for stream in streams:
            assert client.answer(stream).body == b"held all"


def test_a_slow_answer_keeps_no_other_waiting(serve):
    server = serve("apps.stuck:application", "--threads", "2")
    with connect(server) as client:
        slow = client.open("/sleep?seconds=1")
        for _ in range(20):
            client.expect_alive()
        assert not client.answers.get(slow)
        assert client.answer(slow).body == b"slept"


def test_a_full_queue_is_503_on_the_stream(serve):
    server = serve("apps.stuck:application", "--threads", "1", "--max-queue", "2")
    with connect(server) as client:
        streams = [client.open("/sleep?seconds=0.5")]
        server.rendezvous.wait_for("sleeps")
        streams += [client.open("/ping") for _ in range(5)]
        statuses = [client.answer(stream).status for stream in streams]
    assert statuses.count(503) == 3 and statuses.count(200) == 3


def test_queue_timeout_and_timeout_of_one_stream(serve):
    server = serve("apps.stuck:application", "--threads", "1", "--queue-timeout", "0.3", "--timeout", "1")
    server.expect_log(r"(?s).*")
    with connect(server) as client:
        stuck = client.open("/sleep?seconds=30")
        server.rendezvous.wait_for("sleeps")
        waiting = client.open("/ping")
        assert client.answer(waiting).status == 503
        assert client.answer(stuck).status == 504
        client.expect_alive()


# Flow control


def test_response_waits_for_the_window_and_continues(serve):
    server = serve("apps.stuck:application", "--threads", "1")
    with connect(server) as client:
        stream = client.open("/large?blocks=10")
        client.wait(
            lambda: stream in client.answers and len(client.answers[stream].body) == 65535, "a window full"
        )
        wait_until(lambda: not server.is_busy(server.worker), "all of it to be made")
        client.ping()
        assert client.window == 0
        answer = client.answers[stream]
        while not answer.ended:
            client.update_window(0, 65536)
            client.update_window(stream, 65536)
            before = len(answer.body)
            client.wait(lambda before=before: answer.ended or len(answer.body) > before, "more")
        assert answer.body == b"x" * 655360


def test_windows_that_grow_by_settings(serve):
    server = serve("apps.stuck:application", "--threads", "1")
    with connect(server, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}) as client:
        client.update_window(0, 1 << 20)
        stream = client.open("/large?blocks=2")
        client.wait(lambda: stream in client.answers and len(client.answers[stream].body) == 10, "ten bytes")
        client.send_frame(SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 20}))
        assert len(client.answer(stream).body) == 131072


def test_an_upload_of_10_mb_by_curl(serve, tmp_path):
    curl = installed("curl")
    server = serve("apps.control:application")
    body = tmp_path / "body"
    body.write_bytes(b"0123456789" * 1_000_000)
    host, port = server.address
    command = [
        curl,
        "-sS",
        "--http2-prior-knowledge",
        "--data-binary",
        f"@{body}",
        "-w",
        " %{http_version} %{http_code}",
    ]
    done = subprocess.run(
        [*command, f"http://{host}:{port}/ping"], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.endswith(b" 2 200"), done


@pytest.mark.parametrize("streams", [1, 32, 100])
def test_h2load(serve, streams):
    h2load = installed("h2load")
    server = serve("apps.control:application", "--workers", "2")
    host, port = server.address
    command = [h2load, "-n", "5000", "-c", "4", "-m", str(streams), f"http://{host}:{port}/ping"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True)
    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout


def test_many_uploads_at_once(serve, tmp_path):
    """Their frames come cut anywhere; none of them waits for one that does not come."""
    h2load = installed("h2load")
    server = serve("apps.control:application", "--body-timeout", "5")
    body = tmp_path / "body"
    body.write_bytes(b"0123456789" * 100_000)
    host, port = server.address
    command = [h2load, "-n", "200", "-c", "2", "-m", "20", "-d", str(body), f"http://{host}:{port}/ping"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True)
    assert "200 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout


# Clients that give up


def test_reset_takes_a_request_from_the_queue(serve):
    server = serve("apps.stuck:application", "--threads", "1", "--access-logfile", "-")
    with connect(server) as client:
        running = client.open("/sleep?seconds=0.5")
        server.rendezvous.wait_for("sleeps")
        queued = [client.open("/sleep?seconds=0.1") for _ in range(3)]
        for stream in queued:
            client.reset(stream)
        assert client.answer(running).body == b"slept"
        client.expect_alive()
    assert len(server.rendezvous.matching("sleeps")) == 1, "they were never run"
    lines = lambda: [line for line in server.stdout.lines if '" 499 ' in line]  # noqa: E731
    wait_until(lambda: len(lines()) == 3, "their lines in the access log")
    server.stop()
    assert "queued requests not run because their client had left: 3" in server.log_text


@pytest.mark.parametrize("how", ["reset", "close"])
def test_running_call_learns_that_its_client_left(serve, how):
    server = serve("apps.stuck:application", "--threads", "2")
    with connect(server) as client:
        stream = client.open("/watch-client?patience=10")
        server.rendezvous.wait_for("begins with False")
        if how == "reset":
            client.reset(stream)
            client.expect_alive()
        else:
            client.close()
        server.rendezvous.wait_for("gone", patience=2)


def test_a_reset_upload_raises_in_a_streamed_body(serve):
    server = serve("apps.inputs:application", "--stream-request-body=always", "--threads", "1")
    server.expect_log(r"(?s).*")
    with connect(server) as client:
        stream = client.open("/ping", "POST", end=False)
        client.data(stream, b"some")
        client.reset(stream)
        client.expect_alive()


# Stop and reload


def test_stop_finishes_streams_and_tells_the_client(serve):
    server = serve("apps.stuck:application", "--threads", "2")
    with connect(server) as client:
        stream = client.open("/sleep?seconds=1")
        server.rendezvous.wait_for("sleeps")
        server.signal(signal.SIGTERM)
        client.wait(lambda: client.goaways, "GOAWAY")
        assert client.goaways[0].last_stream_id == 2**31 - 1 and client.goaways[0].error_code == 0
        late = client.open("/ping")
        assert client.answer(stream).body == b"slept"
        del late
        assert client.wait_end() == 0
        assert client.goaways[-1].last_stream_id >= stream
    assert server.process.wait(10) == 0


def test_idle_session_ends_at_once_at_the_stop(serve):
    server = serve("apps.control:application")
    with connect(server) as client:
        client.expect_alive()
        server.signal(signal.SIGTERM)
        assert client.wait_end() == 0
    assert server.process.wait(10) == 0


def test_a_reload_under_load_fails_no_request(serve):
    server = serve("apps.control:application", "--workers", "2", "--threads", "2")
    stop, failures, done = threading.Event(), [], [0]

    def load() -> None:
        try:
            while not stop.is_set():
                with connect(server) as client:
                    while not stop.is_set() and not client.goaways:
                        streams = [client.open("/ping") for _ in range(5)]
                        for stream in streams:
                            answer = client.answer(stream)
                            last = min((frame.last_stream_id for frame in client.goaways), default=2**31 - 1)
                            if answer.status != 200 and stream <= last:
                                failures.append((stream, answer, client.goaways))
                            done[0] += 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    workers = server.wait_workers(2)
    for _ in range(3):
        before = done[0]
        server.signal(signal.SIGHUP)
        wait_until(lambda before=before: done[0] > before + 200, "requests after the reload", 20)
        workers = server.wait_replaced(workers)
    stop.set()
    for thread in threads:
        thread.join(15)
    assert not failures and done[0] > 500, (failures[:3], done)


def test_an_idle_session_is_closed_after_keep_alive(serve):
    server = serve("apps.control:application", "--keep-alive", "1")
    with connect(server) as client:
        client.expect_alive()
        begun = time.monotonic()
        assert client.wait_end() == 0
        assert time.monotonic() - begun > 0.7


def test_max_requests_sends_clients_away_without_a_failure(serve):
    server = serve("apps.control:application", "--workers", "1", "--max-requests", "20")
    served = 0
    for _ in range(5):
        with connect(server) as client:
            while not client.goaways and served < 60:
                assert client.request("/ping").status == 200
                served += 1
    assert served == 60


def test_the_access_log(serve):
    server = serve("apps.control:application", "--access-logfile", "-")
    with connect(server) as client:
        client.expect_alive()
        assert client.request("/nothing", "DELETE").status == 404
    wait_until(
        lambda: any('"DELETE /nothing HTTP/2.0" 404' in line for line in server.stdout.lines), "the line"
    )
    assert any('"GET /ping HTTP/2.0" 200 10' in line for line in server.stdout.lines)


def test_padded_data_counts_and_is_dropped(server):
    with connect(server) as client:
        stream = client.open("/ping", "POST", [("content-length", "4")], end=False)
        frame = DataFrame(stream, b"body", pad_length=100)
        frame.flags |= {"PADDED", "END_STREAM"}
        client.send_frame(frame)
        assert client.answer(stream).status == 200


def test_a_client_that_cancels_during_the_answer(serve):
    server = serve(BODIES, "--threads", "1")
    with connect(server) as client:
        stream = client.open("/endless")
        client.wait(lambda: stream in client.answers and client.answers[stream].body, "some of it")
        client.reset(stream, CANCEL)
        client.update_window(0, 1 << 20)
        client.expect_alive()
