"""Deadlines: of an idle connection, of a head, of a body and its rate, of a reader that takes nothing."""

from __future__ import annotations

import contextlib
import select
import time

import pytest

from harness.http_client import Client, expect_refusal, request_bytes

IDLE_PAUSE = 0.5  # Seconds between the requests of a client, shorter than its connection may be idle.
SLOW_PAUSE = 0.1  # Seconds between the pieces of a client that is slower than it may be.
STEADY_PAUSE = 0.15  # Seconds between those of one that is fast enough: 500 bytes in each make 3 kB a second.


def test_idle_connection_is_closed_after_keep_alive(serve):
    server = serve("apps.control:application", "--keep-alive", "1")
    with server.connect() as client:
        client.expect_in_sync()
        started = time.monotonic()
        client.expect_end()
        assert time.monotonic() - started >= 0.9


def test_request_delivered_before_the_idle_deadline_is_answered(serve):
    server = serve("apps.control:application", "--keep-alive", "1")
    with server.connections(30) as clients:
        for client in clients:
            client.expect_in_sync()
        started = time.monotonic()
        for number, client in enumerate(clients):
            sleep_until(started + 0.70 + number * 0.007)
            client.expect_in_sync()


def test_each_request_renews_the_idle_deadline(serve):
    server = serve("apps.control:application", "--keep-alive", "1")
    with server.connect() as client:
        for _ in range(5):
            client.expect_in_sync()
            time.sleep(IDLE_PAUSE)
        client.expect_in_sync()


def test_running_request_is_not_idle(serve):
    server = serve(
        "apps.control:application", "--keep-alive", "1", "--head-timeout", "1", "--body-timeout", "1"
    )
    with server.connect() as client:
        assert client.request("GET", "/sleep?seconds=2.5").body == b"slept"
        client.expect_in_sync()


def test_slow_head_is_ended_by_its_deadline(serve):
    """Bytes that trickle in do not renew it."""
    server = serve("apps.control:application", "--head-timeout", "1")
    with server.connect() as client:
        started = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        send_slowly(client, b"X: a\r\n")
        response = client.read_response()
        assert response.status == 408
        assert response.closes
        assert time.monotonic() - started >= 0.9


def test_unfinished_head_request_gets_408_without_a_body(serve):
    server = serve("apps.control:application", "--head-timeout", "1")
    expect_refusal(server.address, b"HEAD / HTTP/1.1\r\nHost: a\r\n", 408, method="HEAD")


def test_silent_connection_is_closed_without_a_response(serve):
    """408 to somebody who asked nothing would be taken for the answer to a request just sent."""
    server = serve("apps.control:application", "--head-timeout", "1")
    with server.connect() as client:
        started = time.monotonic()
        client.expect_end()
        assert time.monotonic() - started >= 0.9


def test_stalled_body_is_ended_by_its_deadline(serve):
    server = serve("apps.control:application", "--body-timeout", "1")
    with server.connect() as client:
        client.send(request_bytes("POST", "/consume", [("Content-Length", "100")]) + b"some")
        started = time.monotonic()
        response = client.read_response()
        assert (response.status, response.closes) == (408, True)
        assert time.monotonic() - started >= 0.9


def test_body_below_the_minimum_rate_is_ended(serve):
    server = serve("apps.control:application", "--body-timeout", "1", "--body-min-rate", "1000")
    with server.connect() as client:
        client.send(request_bytes("POST", "/consume", [("Content-Length", "100000")]))
        send_slowly(client, b"slow")
        assert client.read_response().status == 408


def test_body_above_the_minimum_rate_may_take_long(serve):
    server = serve("apps.control:application", "--body-timeout", "1", "--body-min-rate", "1000")
    with server.connect() as client:
        client.send(request_bytes("POST", "/consume", [("Content-Length", "10000")]))
        for _ in range(20):
            client.send(b"x" * 500)
            time.sleep(STEADY_PAUSE)
        assert client.read_response().body == b"10000"


def sleep_until(moment: float) -> None:
    """Lets a connection be idle until then: how long it has been so is what matters."""
    time.sleep(max(0.0, moment - time.monotonic()))


@pytest.mark.serial
def test_reader_that_takes_nothing_is_dropped(serve):
    server = serve("apps.control:application", "--write-timeout", "1", "--response-buffer", "65536")
    client = server.connect(receive_buffer=4096)
    client.send(request_bytes(target="/large?bytes=50000000&block=100000&name=stalled"))
    server.rendezvous.wait_for("stalled is closed early")
    assert server.seconds_to_answer() < 0.5
    client.close()


def send_slowly(client: Client, piece: bytes) -> None:
    """Sends a piece now and then until the server has sent something, or ended, which it does meanwhile."""
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            client.send(piece)
            if select.select([client.socket], [], [], SLOW_PAUSE)[0]:
                return
        raise AssertionError("the server lets its client go on")
