"""Streams that the server resets for what the client does to them (CVE-2025-8671, "MadeYouReset").

Each ends as one that the client has reset: it leaves the queue before the application sees it, a call that
runs for it learns that its client has left, and it counts against the limit on resets.
"""

from __future__ import annotations

import struct

import pytest

from harness.http2_client import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    Http2Client,
)
from harness.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    frame,
    window_update,
)
from harness.rendezvous import wait_until
from harness.sockets import wait_read

STUCK = "apps.stuck:application"
GONE = "apps.gone:application"
TOO_MANY = (
    r"closed the HTTP/2 connection of 127\.0\.0\.1: too many requests that it gave up, or had us give up"
)
NOT_RUN = "queued requests not run because their client had left: {}"

RESETS_MAX = 200
"""What a client may have of them at once."""


def overflow(stream: int) -> bytes:
    """WINDOW_UPDATE beyond the most that a window may be."""
    return window_update(stream, (1 << 31) - 1)


def trailers(stream: int, flags: int, block: bytes = b"") -> bytes:
    """A header block on a stream that has begun."""
    return frame(HEADERS, END_HEADERS | flags, stream, block)


ANY_TIME = {
    "a window above the most": (FLOW_CONTROL_ERROR, overflow),
    "a window that grows by nothing": (
        PROTOCOL_ERROR,
        lambda stream: window_update(stream, 0),
    ),
    "PRIORITY of four bytes": (FRAME_SIZE_ERROR, lambda stream: frame(PRIORITY, 0, stream, b"\0" * 4)),
    "PRIORITY that depends on itself": (
        PROTOCOL_ERROR,
        lambda stream: frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 0)),
    ),
}
"""Of a request that is complete, and of one that is not."""

BEHIND_THE_END = {
    "DATA behind the end": (STREAM_CLOSED, lambda stream: frame(DATA, 0, stream, b"more")),
    "a head behind the end": (STREAM_CLOSED, lambda stream: trailers(stream, 0)),
    "trailers behind the end": (STREAM_CLOSED, lambda stream: trailers(stream, END_STREAM)),
}
"""Of a request that is complete."""

DURING_A_BODY = {
    "a body longer than its length": (PROTOCOL_ERROR, lambda stream: frame(DATA, 0, stream, b"12345")),
    "a body shorter than its length": (
        PROTOCOL_ERROR,
        lambda stream: frame(DATA, END_STREAM, stream, b"123"),
    ),
    "trailers before the end of the body": (PROTOCOL_ERROR, lambda stream: trailers(stream, END_STREAM)),
    "trailers that do not end the stream": (PROTOCOL_ERROR, lambda stream: trailers(stream, 0)),
    "trailers with a field of HTTP/1": (
        PROTOCOL_ERROR,
        lambda stream: trailers(stream, END_STREAM, b"\0\x0akeep-alive\x011"),
    ),
    "trailers with a pseudo-field": (
        PROTOCOL_ERROR,
        lambda stream: trailers(stream, END_STREAM, b"\0\x05:path\x01/"),
    ),
}
"""Of a request with `content-length: 4` of whose body nothing has come."""

COMPLETE = {**ANY_TIME, **BEHIND_THE_END}
INCOMPLETE = {**ANY_TIME, **DURING_A_BODY}
FAULTS = {**COMPLETE, **INCOMPLETE}


def connect(server, **options) -> Http2Client:
    """A client of a server."""
    return Http2Client(server.address, **options)


def post(client: Http2Client, path: str) -> int:
    """Begins a request whose body is to come."""
    return client.open(path, "POST", [("content-length", "4")], end=False)


def end_by(client: Http2Client, stream: int, fault: str) -> None:
    """Has the server reset a stream that it knows of; the connection goes on."""
    code, frames = FAULTS[fault]
    client.ping()
    client.send(frames(stream))
    assert client.answer(stream).reset == code
    client.ping()


# Queued requests


@pytest.mark.parametrize("at_once", [1, 50])
def test_requests_that_are_reset_do_not_run(serve, at_once):
    """As many as 900 of one connection: the application sees few, and another client waits for none."""
    server = serve(STUCK, "--threads", "2")
    with connect(server) as client, connect(server) as other:
        frames = []
        for number in range(900):
            stream = 1 + 2 * number
            head = client.headers_frame(stream, client.head(path="/sleep?seconds=0.1"), "END_STREAM")
            frames.append(head.serialize() + overflow(stream))
        try:
            for start in range(0, len(frames), at_once):
                client.send(b"".join(frames[start : start + at_once]))
                wait_read(client)  # So that it comes as so many pieces.
        except OSError:
            pass
        assert client.wait_end() == ENHANCE_YOUR_CALM
        assert other.request("/ping").status == 200
    server.expect_log(TOO_MANY)
    assert len(server.rendezvous.matching("sleeps")) < 10
    assert server.request("GET", "/ping").status == 200


@pytest.mark.parametrize("fault", INCOMPLETE)
def test_a_queued_request_leaves_the_queue(serve, fault):
    server = serve(STUCK, "--threads", "1", "--stream-request-body=always", "--access-logfile", "-")
    with connect(server) as client:
        running = client.open("/sleep?seconds=1")
        server.rendezvous.wait_for("sleeps")
        queued = [post(client, "/sleep?seconds=0") for _ in range(3)]
        for stream in queued:
            end_by(client, stream, fault)
        assert client.answer(running).body == b"slept"
        client.expect_alive()
    assert server.rendezvous.count("sleeps") == 1, "none of them was run"
    lines = lambda: [line for line in server.stdout.lines if '" 499 ' in line]  # noqa: E731
    wait_until(lambda: len(lines()) == 3, "their lines in the access log")
    server.stop()
    assert NOT_RUN.format(3) in server.log_text


@pytest.mark.parametrize("fault", COMPLETE)
def test_a_complete_request_leaves_the_queue(serve, fault):
    server = serve(STUCK, "--threads", "1")
    with connect(server) as client:
        running = client.open("/sleep?seconds=1")
        server.rendezvous.wait_for("sleeps")
        end_by(client, client.open("/sleep?seconds=0"), fault)
        assert client.answer(running).body == b"slept"
        client.expect_alive()
    assert server.rendezvous.count("sleeps") == 1


def test_reset_request_beside_other_workers_never_runs(serve):
    """Waiting requests of HTTP/1 go to a sibling that is free; a stream stays and ends with its session."""
    server = serve(STUCK, "--workers", "2", "--threads", "1")
    with connect(server) as client:
        sleeping = [client.open("/sleep?seconds=1") for _ in range(3)]
        server.rendezvous.wait_for("sleeps")
        for stream in sleeping[1:]:
            end_by(client, stream, "a window above the most")
        assert client.answer(sleeping[0]).body == b"slept"
        client.expect_alive()
    assert server.rendezvous.count("sleeps") == 1


# Running ones


@pytest.mark.parametrize("fault", COMPLETE)
def test_a_running_call_learns_of_it(serve, fault):
    server = serve(STUCK, "--threads", "2")
    with connect(server) as client:
        stream = client.open("/watch-client?patience=10")
        server.rendezvous.wait_for("begins with False")
        end_by(client, stream, fault)
        server.rendezvous.wait_for("gone", patience=2)
        client.expect_alive()


@pytest.mark.parametrize("fault", COMPLETE)
def test_its_callbacks_are_called(serve, fault):
    server = serve(GONE, "--threads", "1")
    with connect(server) as client:
        stream = client.open("/callback?patience=10")
        server.rendezvous.wait_for("begins with False")
        end_by(client, stream, fault)
        server.rendezvous.wait_for("waited for it", patience=2)
        assert client.request("/ping").status == 200
    assert len(server.rendezvous.matching("called back for /callback")) == 1
    server.expect_log("ZeroDivisionError")


@pytest.mark.parametrize("fault", COMPLETE)
def test_the_exception_ends_it(serve, fault):
    server = serve(GONE, "--threads", "1", "--on-disconnect", "raise", "--access-logfile", "-")
    with connect(server) as client:
        stream = client.open("/spin?patience=30")
        server.rendezvous.wait_for("begins")
        end_by(client, stream, fault)
        server.rendezvous.wait_for("raised", patience=2)
        assert client.request("/ping").status == 200
    wait_until(lambda: any('" 499 ' in line for line in server.stdout.lines), "its line in the access log")


@pytest.mark.parametrize("fault", INCOMPLETE)
def test_reading_its_body_raises(serve, fault):
    server = serve("apps.inputs:application", "--threads", "1", "--stream-request-body=always")
    with connect(server) as client:
        stream = post(client, "/slurp")
        server.rendezvous.wait_for("slurp begins")
        end_by(client, stream, fault)
        server.rendezvous.wait_for_prefix("OSError", patience=2)
        assert client.request("/ping").status == 200
    server.expect_log("(?s).*")


def test_a_response_on_its_way_ends(serve):
    """Its thread is free for others, whether it makes the next block or waits for the client to take it."""
    server = serve(STUCK, "--threads", "2")
    with connect(server) as client:
        client.update_window(0, 1_000_000)
        slow = client.open("/stream?blocks=1000&pause=0.02")
        large = client.open("/large?blocks=1000")
        both = lambda: all(n in client.answers and client.answers[n].body for n in (slow, large))  # noqa: E731
        client.wait(both, "blocks of both")
        for stream in (slow, large):
            client.send(overflow(stream) * 2)
        for stream in (slow, large):
            assert client.answer(stream).reset == FLOW_CONTROL_ERROR
        assert [client.request("/ping").status for _ in range(3)] == [200] * 3
    wait_until(lambda: not server.is_busy(server.worker), "both threads")


# How many there may be


def test_as_many_as_may_be_nobodys_fault(serve):
    server = serve(STUCK, "--threads", "2")
    with connect(server) as client:
        for number in range(RESETS_MAX - 20):
            stream = client.open("/ping")
            client.send(overflow(stream))
            if number % 10 == 0:
                client.ping()
        client.expect_alive()


def test_what_both_sides_reset_is_counted_together(serve):
    server = serve(STUCK, "--threads", "1")
    with connect(server) as client:
        blocker = client.open("/sleep?seconds=3")
        server.rendezvous.wait_for("sleeps")
        resets = 0
        try:
            while resets < 2 * RESETS_MAX:
                stream = client.open("/ping")
                client.send(overflow(stream) if resets % 2 else frame(RST_STREAM, 0, stream, b"\0\0\0\x08"))
                resets += 1
                wait_read(client)
        except OSError:
            pass
        assert client.wait_end() == ENHANCE_YOUR_CALM
        assert blocker not in client.answers, "the session ends, not the stream"
        print({n: (a.reset, a.status) for n, a in client.answers.items()}, client.goaways)
        made = [number for number, answer in client.answers.items() if answer.reset == FLOW_CONTROL_ERROR]
        assert RESETS_MAX / 2 - 5 < len(made) < RESETS_MAX / 2 + 20
    server.expect_log(TOO_MANY)


def test_resets_by_the_application_are_not_the_clients(serve):
    server = serve("apps.contract:application", "--threads", "4")
    with connect(server) as client:
        for _ in range(RESETS_MAX + 50):
            assert client.request("/wrong-later?value=text-block").reset == INTERNAL_ERROR
        assert client.request("/ping").status == 200
    server.expect_log("(?s).*")
