"""wsgi.input: a file's semantics over any way in which a body can arrive."""

from __future__ import annotations

import json
import os
import re

import pytest

from harness.http_client import chunked, request_bytes
from harness.rendezvous import wait_until
from harness.wsgi_inputs import read_like_a_file

SERVER = ("apps.inputs:application", "--threads", "2")

LINES = b"a1\nb2\nc3\n"
TEN = b"abcdefghij"


def perform(server, body: bytes, operations: list, in_chunks: bool) -> list:
    """The results of these operations on a request with this body."""
    fields = [("X-Operations", json.dumps(operations))]
    with server.connect() as client:
        if in_chunks:
            head = request_bytes("POST", "/operations", [*fields, ("Transfer-Encoding", "chunked")])
            client.send(head + chunked([body[:2], body[2:7], body[7:]]))
        else:
            client.send(request_bytes("POST", "/operations", fields, body))
        response = client.read_response()
        client.expect_in_sync()
    assert response.status == 200, response
    return json.loads(response.body)


@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("body", "operations"),
    [
        (LINES, [["readline"], ["readline"], ["readline"], ["readline"]]),
        (LINES, [["iterate"], ["read"]]),
        (LINES, [["readlines"], ["readlines"]]),
        (LINES, [["readline", 2], ["readline", 2], ["readline", 0], ["readline", -1]]),
        (LINES, [["readlines", 4], ["readlines", 0], ["read"]]),
        (LINES, [["next"], ["read", 1], ["next"], ["next"], ["next"]]),
        (TEN, [["read", 3], ["read"], ["read"], ["read", 3]]),
        (TEN, [["read", -1], ["read", -1]]),
        (TEN, [["read", None]]),
        (TEN, [["read", 0], ["read", 10], ["read", 1]]),
        (TEN, [["read", 1000], ["readline"], ["readlines"], ["iterate"]]),
        (TEN, [["readline"], ["readline"]]),
        (b"\n\n\r\nx", [["readlines"]]),
        (b"no end\nof line", [["readline"], ["readline", 100], ["readline"]]),
        (b"", [["read"], ["read", 5], ["readline"], ["readlines"], ["iterate"]]),
        (bytes(range(256)), [["read", 200], ["readline"], ["read"]]),
    ],
)
def test_reads_like_a_file(server, body, operations, in_chunks):
    assert perform(server, body, operations, in_chunks) == read_like_a_file(body, operations)


@pytest.mark.parametrize(
    ("size", "block"),
    [(size, block) for size in (65_535, 65_536, 65_537) for block in (-1, 1, 8192, 100_000)]
    + [(size, block) for size in (1_000_000, 5_000_000) for block in (-1, 8192, 100_000)],
)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
def test_bodies_around_the_memory_limit(server, size, block, in_chunks):
    """64 KiB stay in memory, more goes to a file: no difference to the application."""
    body = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    with server.connect() as client:
        if in_chunks:
            head = request_bytes("POST", f"/slurp?block={block}", [("Transfer-Encoding", "chunked")])
            client.send(head + chunked(body[at : at + 30_000] for at in range(0, size, 30_000)))
        else:
            client.send(request_bytes("POST", f"/slurp?block={block}", body=body))
        assert client.read_response().body == str(size).encode()
        client.expect_in_sync()


@pytest.mark.parametrize("target", ["/ignore", "/read-some"])
@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_unread_body_does_not_become_the_next_request(server, target, size):
    """The body is made of requests: a server that loses count would answer them."""
    trap = b"GET /trap HTTP/1.1\r\nHost: a\r\n\r\n"
    body = (trap * (size // len(trap) + 1))[:size]
    with server.connect() as client:
        client.send(request_bytes("POST", target, body=body))
        response = client.read_response()
        assert (response.status, response.body) == (200, b"ignored" if target == "/ignore" else b"GET")
        if response.closes:
            client.expect_end(reset_is_end=True)
        else:
            client.expect_in_sync()


def test_stream_is_dead_when_its_request_is_over(server):
    with server.connect() as client:
        client.request("POST", "/kept", body=b"secret")
        client.request("POST", "/ping", body=b"another's")
        response = client.request("GET", "/late")
    assert response.body in (b"ValueError", b"OSError", b"ClientDisconnected"), response.body


@pytest.mark.parametrize("end", ["close", "reset", "half_close"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_incomplete_body_never_reaches_the_application(server, meeting, end, framing):
    """Bodies are buffered before a thread is taken, so an aborted upload costs the application nothing."""
    before = meeting.count("slurp begins")
    client = server.connect()
    if framing == "length":
        client.send(request_bytes("POST", "/slurp", [("Content-Length", "1000000")]) + b"x" * 100_000)
    else:
        head = request_bytes("POST", "/slurp", [("Transfer-Encoding", "chunked")])
        client.send(head + b"f4240\r\n" + b"x" * 100_000)
    getattr(client, end)()
    if end == "half_close":
        assert b" 200 " not in client.read_to_end()
    for _ in range(3):
        assert server.request("GET", "/ping").status == 200
    assert meeting.count("slurp begins") == before
    client.close()


# With --stream-request-body the application is called when the head is in.


@pytest.fixture(scope="module")
def streaming(serve_module):
    """A server that streams all request bodies."""
    return serve_module("apps.inputs:application", "--threads", "2", "--stream-request-body=always")


def test_streamed_body_is_read_while_it_arrives(streaming):
    meeting = streaming.rendezvous
    with streaming.connect() as client:
        client.send(request_bytes("POST", "/early", [("Content-Length", "15")]))
        for number in range(3):
            client.send(b"part%d" % number)
            meeting.wait_for(f"read part{number}")
        assert client.read_response().body == b"done"
        client.expect_in_sync()


def test_streamed_chunks_are_read_while_they_arrive(streaming):
    meeting = streaming.rendezvous
    with streaming.connect() as client:
        client.send(request_bytes("POST", "/early", [("Transfer-Encoding", "chunked")]))
        for number in range(3, 6):
            client.send(b"5\r\npart%d\r\n" % number)
            meeting.wait_for(f"read part{number}")
        client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"done"
        client.expect_in_sync()


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
@pytest.mark.parametrize("block", [-1, 65_536])
def test_streamed_bodies_arrive_whole(streaming, size, block):
    with streaming.connect() as client:
        client.send(request_bytes("POST", f"/slurp?block={block}", body=b"x" * size))
        assert client.read_response().body == str(size).encode()
        client.expect_in_sync()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("block", [-1, 65_536])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_aborted_upload_raises_oserror(streaming, end, block, framing):
    """The table of silent truncations: neither empty bytes nor a clean end of file, but an error."""
    meeting = streaming.rendezvous
    begun = meeting.count("slurp begins")
    errors = [event for event in meeting.events() if event.startswith("OSError")]
    client = streaming.connect()
    if framing == "length":
        client.send(request_bytes("POST", f"/slurp?block={block}", [("Content-Length", "1000000")]))
    else:
        client.send(
            request_bytes("POST", f"/slurp?block={block}", [("Transfer-Encoding", "chunked")]) + b"f4240\r\n"
        )
    client.send(b"x" * 100_000)
    meeting.wait_for("slurp begins", begun + 1)
    getattr(client, end)()
    ended = [event for event in wait_for_ends(meeting, len(errors) + 1) if event.startswith("OSError")]
    assert len(ended) == len(errors) + 1
    assert "ClientDisconnected" in ended[-1].split()[1].split(",")
    assert "slurped 100000" not in meeting.events()
    assert streaming.request("GET", "/ping").status == 200
    streaming.expected.append(re.compile(r"POST /slurp\b.*ClientDisconnected"))


def wait_for_ends(meeting, count: int) -> list[str]:
    """The events, once `count` slurps have ended in an error."""
    wait_until(lambda: sum(event.startswith("OSError") for event in meeting.events()) >= count, "the OSError")
    return meeting.events()


def test_unread_streamed_body_becomes_no_request(streaming):
    trap = b"GET /trap HTTP/1.1\r\nHost: a\r\n\r\n"
    for count in (1, 1000, 100_000):
        with streaming.connect() as client:
            client.send_until_refused(request_bytes("POST", "/ignore", body=trap * count))
            response = client.read_response()
            assert (response.status, response.body) == (200, b"ignored")
            if response.closes:
                client.expect_end(reset_is_end=True)
            else:
                client.expect_in_sync()
