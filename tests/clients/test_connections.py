"""Connections cost nothing: silent, idle, slow, half-closed, reset and vanished clients take no thread."""

from __future__ import annotations

import contextlib
import resource
import threading
import time

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until, wait_until_steady

SERVER = ("apps.control:application", "--threads", "4")
WALK_SECONDS = 0.1  # A walk over thousands of connections, for each request, would take longer.
CPU_WINDOW = 0.7  # Seconds over which the CPU time of a server that has nothing to do is taken.


# Silent and idle


def test_silent_and_idle_connections_hold_up_nobody(server):
    with server.connections(20), server.connections(20) as idle:
        for client in idle:
            client.expect_in_sync()
        server.expect_prompt_answer()
        for client in idle:
            client.expect_in_sync()


def test_thousand_idle_connections_are_held_and_cheap(server):
    with server.connections(100) as warm:
        for client in warm:
            client.expect_in_sync()
    memory = server.memory()
    with server.connections(1000) as clients:
        for client in clients:
            client.expect_in_sync()
        assert (server.memory() - memory) / 1000 < 4096
        server.expect_prompt_answer()
        for client in clients[::50]:
            client.expect_in_sync()


def test_thousand_silent_connections_are_held(server):
    with server.connections(1000) as clients:
        server.expect_prompt_answer()
        for client in clients[::50]:
            client.expect_in_sync()


@pytest.fixture
def many_descriptors():
    """Lets this process open as many descriptors as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.serial
@pytest.mark.slow
def test_eight_thousand_idle_connections(serve, many_descriptors):
    server = serve("apps.control:application", "--threads", "4")
    memory = server.memory()
    with server.connections(8000) as clients:
        for client in clients:
            client.expect_in_sync()
        assert (server.memory() - memory) / 8000 < 1024
        assert server.seconds_to_answer() < WALK_SECONDS


# Slow clients


def test_slow_uploads_take_no_thread(server):
    with server.connections(50) as clients:
        for client in clients:
            client.send(request_bytes("POST", "/consume", [("Content-Length", "50")]))
        for _ in range(10):
            for client in clients:
                client.send(b"x")
            server.expect_prompt_answer()
        for client in clients:
            client.send(b"x" * 40)
        for client in clients:
            assert client.read_response().body == b"50"


def test_buffered_responses_to_slow_readers_take_no_thread(server):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect(receive_buffer=4096)) for _ in range(20)]
        for client in clients:
            client.send(request_bytes(target="/large?bytes=900000"))
        server.expect_prompt_answer()
        for client in clients:
            assert len(client.read_response().body) == 900_000
            client.expect_in_sync()


def test_stream_to_a_slow_reader_bounds_memory(server):
    before = server.memory()
    with server.connect(receive_buffer=4096) as client:
        client.send(request_bytes(target="/large?bytes=200000000&block=1000000&name=slow"))
        assert client.read_head().status == 200
        wait_until_steady(server.memory)
        assert server.memory() - before < 8_000_000
        assert server.rendezvous.count("all of slow is sent") == 0
        server.expect_prompt_answer()
    server.rendezvous.wait_for("slow is closed early")


@pytest.mark.parametrize("size", [100_000_000, pytest.param(1_000_000_000, marks=pytest.mark.slow)])
def test_large_download_is_bounded_in_memory(server, size):
    server.request("GET", "/large?bytes=4000000&block=100000")
    server.reset_peak_memory()
    before = server.peak_memory()
    with server.connect(60) as client:
        client.send(request_bytes(target=f"/large?bytes={size}&block=100000"))
        assert client.read_head().get("Content-Length") == str(size)
        left = size - len(client.buffer)
        while left:
            data = client.socket.recv(min(left, 1 << 20))
            assert data
            left -= len(data)
        client.buffer = b""
        client.expect_in_sync()
    assert server.peak_memory() - before < 8_000_000


@pytest.mark.parametrize("size", [100_000_000, pytest.param(1_000_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [[], ["--stream-request-body=always"]], ids=["buffered", "streamed"])
def test_large_upload_is_bounded_in_memory(serve, size, options):
    server = serve("apps.control:application", "--threads", "4", *options)
    server.request("POST", "/consume", body=b"x" * 4_000_000)
    server.reset_peak_memory()
    before = server.peak_memory()
    with server.connect(60) as client:
        client.send(request_bytes("POST", "/consume", [("Content-Length", str(size))]))
        block = b"x" * 1_000_000
        for _ in range(size // len(block)):
            client.send(block)
        assert client.read_response().body == str(size).encode()
        client.expect_in_sync()
    assert server.peak_memory() - before < 8_000_000


# Clients that leave


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
def test_departing_clients_leave_nothing_behind(server, leave):
    stream = request_bytes(target="/large?bytes=3000000&block=100000")
    stages = [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        request_bytes("POST", "/", [("Content-Length", "10")]) + b"123",
        request_bytes(),
        stream,
        request_bytes() + b"GET",
    ]
    server.request()
    wait_until_steady(server.descriptors)
    descriptors = server.descriptors()
    clients = []
    for data in stages * 5:
        client = server.connect()
        clients.append((data, client))
        client.send(data)
        getattr(client, leave)()
    if leave == "half_close":
        for data, client in clients:
            try:
                client.read_to_end()
            except ConnectionResetError:
                # Who has half-closed counts as one that left: its stream is cut, and does not look whole.
                assert data == stream, f"reset after {data!r}"
            client.close()
    wait_until(lambda: server.descriptors() <= descriptors, "the descriptors to be closed")
    server.expect_prompt_answer()


def test_half_closed_client_waits_for_a_free_thread(server):
    with server.connect() as client:
        client.send(request_bytes(target="/ping", fields=[("X-Ping", "half")]))
        client.half_close()
        assert client.read_response().body == b"pong half"
        client.expect_end()


def test_half_closed_client_gets_the_running_requests_response(server, meeting):
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=half-running"))
        meeting.wait_for("holding half-running")
        client.half_close()
        meeting.open("half-running")
        assert client.read_response().body == b"held half-running"
        client.expect_end()


# Descriptors


def test_soft_descriptor_limit_is_raised(serve):
    server = serve("apps.control:application", prefix=("sh", "-c", 'ulimit -Sn 64 && exec "$@"', "sh"))
    soft, hard = resource.prlimit(server.worker.pid, resource.RLIMIT_NOFILE)
    assert soft == hard > 64


FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")


@pytest.mark.serial
def test_out_of_descriptors_pauses_and_recovers(serve):
    """Connections that are at work are kept, those that wait in the kernel are served when there is room."""
    server = serve("apps.control:application", "--threads", "2", prefix=FEW_DESCRIPTORS)
    half, rest = request_bytes(fields=[("X-Half", "1")], target="/ping")[:-2], b"\r\n"
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(100):
            # At once: one that has sent nothing makes room for others.
            clients.append(stack.enter_context(server.connect()))
            clients[-1].send(half)
        server.expect_log("descriptors")
        before = server.cpu_seconds()
        time.sleep(CPU_WINDOW)
        assert server.cpu_seconds() - before < 0.2, "a server that cannot accept must not spin"
        for client in clients:
            client.send(rest)
            assert client.read_response().body == b"pong "
            client.close()
    server.expect_prompt_answer()
    assert len(server.find_records("descriptors")) < 8, "told again and again, more and more rarely"


def test_idle_connections_make_room_for_new_ones(serve):
    server = serve("apps.control:application", "--threads", "2", prefix=FEW_DESCRIPTORS)
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(200):
            clients.append(stack.enter_context(server.connect()))
            clients[-1].expect_in_sync()
        clients[-1].expect_in_sync()
        clients[0].expect_end(reset_is_end=True)
        server.expect_prompt_answer()


# Streams


def test_streams_of_different_speed_run_independently(server):
    results = {}

    def fetch(name: str, pause: float) -> None:
        with server.connect(30, receive_buffer=8192) as client:
            client.send(request_bytes(target=f"/large?bytes=2000000&block=10000&name={name}"))
            length = int(client.read_head().get("Content-Length"))
            while length > len(client.buffer):
                client.receive()
                time.sleep(pause)  # Readers of different speed are what this is about.
            results[name] = len(client.buffer)

    threads = [threading.Thread(target=fetch, args=(f"{pause}", pause)) for pause in (0, 0, 0.01)]
    for thread in threads:
        thread.start()
    server.expect_prompt_answer()
    for thread in threads:
        thread.join(50)
    assert set(results.values()) == {2_000_000}
