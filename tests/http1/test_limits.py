"""Limits on requests: at the edge it works, one more is refused with the status that says so."""

from __future__ import annotations

import json

import pytest

from harness.http_client import chunked, expect_refusal, request_bytes

SERVER = ("apps.echo:application", "--threads", "4", "--limit-request-body", "100000")


def test_request_line_limit(server):
    at_limit = "/" + "a" * (8190 - len("GET / HTTP/1.1"))
    assert server.request("GET", at_limit).status == 200
    expect_refusal(server.address, request_bytes("GET", at_limit + "a"), 414)


def test_request_line_limit_applies_before_its_end(server):
    expect_refusal(server.address, b"GET /" + b"a" * 9000, 414)


def test_field_size_limit(server):
    at_limit = "v" * (8190 - len("X-Long: "))
    assert server.request("GET", "/", [("X-Long", at_limit)]).status == 200
    expect_refusal(server.address, request_bytes("GET", "/", [("X-Long", at_limit + "v")]), 431)


def test_field_count_limit(server):
    fields = [(f"X-{number}", "v") for number in range(99)]
    assert server.request("GET", "/", fields).status == 200, "Host is the hundredth"
    expect_refusal(server.address, request_bytes("GET", "/", [*fields, ("X-Last", "v")]), 431)


def test_head_limit(server):
    fields = [(f"X-{number}", "v" * 8000) for number in range(8)]
    room = 65536 - len(request_bytes("GET", "/", [*fields, ("X-Fill", "")]))
    assert server.request("GET", "/", [*fields, ("X-Fill", "v" * (room - 4))]).status == 200
    expect_refusal(server.address, request_bytes("GET", "/", [*fields, ("X-Fill", "v" * (room + 4))]), 431)


def test_announced_length_beyond_the_limit_is_refused_unread(server):
    assert (
        json.loads(server.request("POST", "/", body=b"x" * 100_000).body)["environ"]["CONTENT_LENGTH"]
        == "100000"
    )
    expect_refusal(server.address, request_bytes("POST", "/", [("Content-Length", "100001")]), 413)


def test_body_limit_by_chunks(server):
    head = request_bytes("POST", "/", [("Transfer-Encoding", "chunked")])
    with server.connect() as client:
        client.send(head + chunked([b"x" * 60_000, b"x" * 40_000]))
        assert client.read_response().status == 200
    expect_refusal(server.address, head + b"ea60\r\n" + b"x" * 60_000 + b"\r\n9c41\r\n", 413)


def test_response_to_a_refused_upload_is_not_lost(server):
    """A client that is still sending must be able to read its 413: no reset over the answer."""
    with server.connect() as client:
        client.send(request_bytes("POST", "/", [("Content-Length", "5000000")]))
        client.send_until_refused(b"x" * 5_000_000)
        assert client.read_response().status == 413


def test_chunk_line_limit(server):
    head = request_bytes("POST", "/", [("Transfer-Encoding", "chunked")])
    with server.connect() as client:
        client.send(head + b"1;" + b"e" * 8190 + b"\r\nx\r\n0\r\n\r\n")
        assert client.read_response().status == 200
        client.expect_in_sync()
    expect_refusal(server.address, head + b"1;" + b"e" * 8191 + b"\r\nx\r\n0\r\n\r\n", 400)


def test_chunk_extensions_of_a_body_are_limited_together(server):
    """AWS' signature in each chunk is 81 bytes: 202 of them have place."""
    head = request_bytes("POST", "/", [("Transfer-Encoding", "chunked")])
    chunk = b"1;chunk-signature=" + b"a" * 64 + b"\r\nx\r\n"
    with server.connect() as client:
        client.send(head + chunk * 202 + b"0\r\n\r\n")
        assert client.read_response().status == 200
        client.expect_in_sync()
    expect_refusal(server.address, head + chunk * 203, 400)


@pytest.mark.parametrize(
    ("option", "value", "fits", "exceeds", "status"),
    [
        ("--limit-request-line", "100", {"target": "/" + "a" * 86}, {"target": "/" + "a" * 87}, 414),
        ("--limit-request-fields", "3", {"fields": [("A", "")] * 2}, {"fields": [("A", "")] * 3}, 431),
        (
            "--limit-request-field_size",
            "100",
            {"fields": [("A", "v" * 97)]},
            {"fields": [("A", "v" * 98)]},
            431,
        ),
        ("--limit-request-head", "2k", {"fields": [("A", "v" * 1900)]}, {"fields": [("A", "v" * 2048)]}, 431),
        (
            "--limit-request-body",
            "10",
            {"method": "POST", "body": b"x" * 10},
            {"method": "POST", "body": b"x" * 11},
            413,
        ),
    ],
)
def test_each_limit_is_a_setting(serve, option, value, fits, exceeds, status):
    server = serve("apps.echo:application", option, value)
    assert server.request(**fits).status == 200
    expect_refusal(server.address, request_bytes(**exceeds), status)
