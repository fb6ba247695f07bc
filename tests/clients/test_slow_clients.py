"""Clients that take their responses slowly or not at all hold no thread, and nothing beyond bounds."""

from __future__ import annotations

import os
import re
import ssl
import time

import pytest

from apps.long import content
from harness.http2_client import Http2Client, SettingsFrame
from harness.http_client import FramingError, connection, request_bytes
from harness.rendezvous import wait_until

SLOW_PAUSE = 0.2  # Seconds between what a slow reader takes.
# Seconds of the slowest of many answers, beside other tests: what waits for a reader here takes longer.
SLOWEST = 1.0

LENGTH = 8 << 20
KINDS = ["/whole?length={}", "/list?length={}", "/generator?length={}", "/generator?known&length={}"]


def ask(server, target: str, tls: ssl.SSLContext | None = None):
    """A client with a small receive buffer that has asked for `target` and reads nothing."""
    client = server.connect(receive_buffer=64 * 1024)
    if tls:
        client.socket = tls.wrap_socket(client.socket, server_hostname="localhost")
    client.send(request_bytes("GET", target))
    return client


def has_reset(client: Http2Client, stream: int) -> bool:
    """Whether the server has ended the stream."""
    return stream in client.answers and client.answers[stream].reset is not None


def spooled(server) -> tuple[int, int]:
    """Number and bytes on disk of the worker's temporary files."""
    folder = f"/proc/{server.worker.pid}/fd"
    sizes = []
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
            if target.endswith("(deleted)") and "memfd" not in target:
                sizes.append(os.stat(f"{folder}/{name}").st_size)
        except FileNotFoundError:
            pass
    return len(sizes), sum(sizes)


def assert_prompt(server, requests: int = 20) -> None:
    """Other clients are answered at once."""
    slowest = max(server.seconds_to_answer("/ping") for _ in range(requests))
    assert slowest < SLOWEST, f"a request took {slowest:.1f} s"


@pytest.mark.parametrize("target", KINDS)
def test_readers_that_stop_hold_no_thread(serve, target):
    server = serve("apps.long:application", "--threads", "2")
    clients = [ask(server, target.format(LENGTH)) for _ in range(6)]
    assert_prompt(server)
    check_responses(server, clients)


def test_readers_over_tls_hold_no_thread(serve, authority, pair):
    server = serve("apps.long:application", "--threads", "2", *pair.options)
    clients = [ask(server, target.format(LENGTH), authority.context()) for target in KINDS]
    other = ask(server, "/ping", authority.context())
    assert other.read_response().status == 200
    other.close()
    check_responses(server, clients)


def check_responses(server, clients) -> None:
    """The clients get all that they asked for, and nothing is left of it."""
    expected = content(LENGTH)
    for client in clients:
        assert client.read_response().body == expected
        client.close()
    wait_until(lambda: spooled(server) == (0, 0), "the files are gone")


@pytest.mark.parametrize("target", KINDS)
def test_streams_without_a_window_hold_no_thread(serve, target):
    server = serve("apps.long:application", "--threads", "2")
    with Http2Client(server.address, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        streams = [client.open(target.format(LENGTH)) for _ in range(6)]
        assert_prompt(server)
        client.update_window(0, 6 * LENGTH)
        expected = content(LENGTH)
        for stream in streams:
            client.update_window(stream, LENGTH)
            assert client.answer(stream).body == expected


def test_a_body_in_memory_takes_no_file(serve):
    """A whole body within --connection-memory is kept as the application made it."""
    server = serve("apps.long:application", "--threads", "1")
    clients = [ask(server, "/whole?length=4000000") for _ in range(4)]
    assert_prompt(server)
    assert spooled(server) == (0, 0)
    for client in clients:
        assert client.read_response().body == content(4_000_000)
        client.close()


def test_streams_of_one_connection_share_its_memory(serve):
    server = serve("apps.long:application", "--threads", "4", "--connection-memory", "2m")
    before = server.memory()
    with Http2Client(server.address, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        for _ in range(60):
            client.open("/generator?length=1000000")
        wait_until(lambda: spooled(server)[0] > 40, "most responses wait in files")
        assert_prompt(server)
        assert server.memory() - before < 24 << 20


def test_bytes_now_and_then_renew_nothing(serve):
    server = serve("apps.long:application", "--write-timeout", "1", "--threads", "1")
    with Http2Client(server.address, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        streams = [client.open("/generator?length=5000000") for _ in range(4)]
        ends = time.monotonic() + 10
        while time.monotonic() < ends and not all(has_reset(client, stream) for stream in streams):
            for stream in streams:
                if not has_reset(client, stream):
                    client.update_window(stream, 1)
            client.update_window(0, 4)
            client.ping()
            time.sleep(SLOW_PAUSE)
        assert all(has_reset(client, stream) for stream in streams)
    assert_prompt(server)


def test_a_steady_slow_reader_is_served(serve):
    """The kernel takes nothing for longer than --write-timeout, the client goes on reading."""
    length = 6 << 20
    server = serve("apps.long:application", "--write-timeout", "1", "--response-min-rate", "50k")
    with connection(server.address, receive_buffer=4 << 20) as client:
        client.sendall(request_bytes("GET", f"/whole?length={length}"))
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65536)
        body = received.partition(b"\r\n\r\n")[2]
        while len(body) < length:
            time.sleep(SLOW_PAUSE)
            body += client.recv(128 * 1024)
        assert body == content(length)


def test_a_reader_that_stops_is_cut(serve, tmp_path):
    log = tmp_path / "access.log"
    server = serve(
        "apps.long:application", "--write-timeout", "0.5", "--access-logfile", str(log),
        "--access-logformat", "json",
    )  # fmt: skip
    client = ask(server, f"/whole?length={LENGTH}")
    wait_until(lambda: "write_timeout" in log.read_text(), "the log tells of it")
    sent = int(re.search(r'"http.response.body.size":(\d+)', log.read_text())[1])
    assert sent < LENGTH
    client.expect_truncated()
    client.close()


def test_endless_responses_leave_half_of_the_threads(serve):
    options = ["--threads", "4", "--response-spool", "1m", "--write-timeout", "60"]
    server = serve("apps.long:application", *options)
    clients = [ask(server, "/endless") for _ in range(6)]
    assert_prompt(server, 100)
    files, size = spooled(server)
    assert files <= 4 and size <= 4 << 20
    for client in clients:
        client.close()
    wait_until(lambda: spooled(server) == (0, 0), "the files are gone")


def test_without_files_responses_still_leave_threads(serve):
    server = serve(
        "apps.long:application", "--threads", "2", "--response-spool", "0", "--write-timeout", "60"
    )
    clients = [ask(server, f"/generator?length={4 * LENGTH}") for _ in range(4)]
    assert_prompt(server)
    assert spooled(server) == (0, 0)
    for client in clients:
        client.close()


def test_a_body_beyond_all_files_is_refused(serve):
    server = serve("apps.long:application", "--spool-total", "1m")
    with server.connect() as client:
        client.send_until_refused(
            request_bytes("POST", "/length", [("Content-Length", "3000000")]) + b"x" * 3_000_000
        )
        assert client.read_response().status == 507
    server.expect_log(r"no temporary file for a body or a response: .*; raise --spool-total \(1 so far\)")
    assert server.request("POST", "/length", body=b"x" * 900_000).body == b"900000"


def test_bodies_without_a_folder_stay_in_bounded_memory(serve, tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    server = serve("apps.long:application", "--tmp-upload-dir", str(folder), "--connection-memory", "1m")
    folder.rmdir()
    assert server.request("POST", "/length", body=b"x" * 500_000).body == b"500000"
    with server.connect() as client:
        client.send_until_refused(
            request_bytes("POST", "/length", [("Content-Length", "3000000")]) + b"x" * 3_000_000
        )
        assert client.read_response().status == 507
    server.expect_log(r"no temporary file .*; mend --tmp-upload-dir", count=2)


def test_heads_on_many_streams_end_in_calm(serve):
    """Sixty heads of 59 KB on one connection of 1 MB; the peer sends an index of a byte for 3.9 KB."""
    server = serve("apps.long:application", "--connection-memory", "1m")
    fields = [("x-long", "v" * 3900)] * 15
    with Http2Client(server.address) as client:
        try:
            for _ in range(60):
                client.open("/length", "POST", [*fields, ("content-length", "5")], end=False)
        except OSError:
            pass
        assert client.wait_end() == 11, "ENHANCE_YOUR_CALM"
    assert_prompt(server)
    server.expect_log(r"held for clients \(--client-memory\)")


def test_connections_per_client(serve):
    server = serve("apps.long:application", "--connections-per-client", "3", "--forwarded-allow-ips", "")
    with server.connections(3) as clients:
        assert all(client.request("GET", "/ping").status == 200 for client in clients)
        with server.connect() as fourth:
            fourth.expect_end(reset_is_end=True)
        server.expect_log(
            r"closed a connection of 127.0.0.1, which has 3 \(--connections-per-client\); 1 so far"
        )

    def serves_again() -> bool:
        """The end of an earlier connection may arrive after a new one."""
        try:
            return server.request("GET", "/ping").status == 200
        except (FramingError, OSError):
            return False

    wait_until(serves_again, "they have gone")
