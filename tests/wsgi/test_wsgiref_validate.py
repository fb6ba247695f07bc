"""wsgiref.validate, the standard library's judge of PEP 3333, finds nothing."""

from __future__ import annotations

import pytest

from harness.http_client import chunked, request_bytes

SERVER = ("apps.validated:application", "--threads", "2")

CASES = {
    "whole_body": b"12",
    "by_blocks": b"12",
    "by_lines": b"12",
    "written": b"written and returned",
    "generated": b"one two",
    "lazily": b"lazy",
    "empty": b"",
    "logs": b"logged",
    "wrapped_file": b"x" * 100_000,
    "replaced": b"replaced",
}
BODY = b"12\n45\n7890\r\n"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_validator_is_silent(server, case, framing):
    with server.connect() as client:
        if framing == "length":
            client.send(request_bytes("POST", f"/a%20b?case={case}", [("Content-Type", "text/plain")], BODY))
        else:
            head = request_bytes(
                "POST", f"/?case={case}", [("Transfer-Encoding", "chunked"), ("Cookie", "a=b")]
            )
            client.send(head + chunked([BODY[:5], BODY[5:]]))
        response = client.read_response()
        assert response.status in (200, 204, 503)
        assert response.body == CASES[case]
        client.send(request_bytes(target=f"/?case={case}"))
        assert client.read_response().status == response.status
    if case == "logs":
        server.expect_text("a line for the log")


@pytest.mark.parametrize("case", ["written", "generated", "lazily", "empty", "wrapped_file"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_validator_is_silent_for_each_method(server, case, method):
    with server.connect() as client:
        assert client.request(method, f"/?case={case}").status in (200, 204)
        assert client.request(method, f"/deep/path?case={case}").status in (200, 204)


def test_validator_is_silent_with_a_root_path(serve):
    server = serve("apps.validated:application", "--root-path", "/mounted")
    assert server.request("GET", "/mounted/x?case=generated").body == b"one two"
    assert server.request("GET", "/mounted?case=generated").body == b"one two"


def test_validator_is_silent_with_streamed_bodies(serve):
    server = serve("apps.validated:application", "--stream-request-body=always")
    for case in ("whole_body", "by_blocks", "by_lines"):
        assert server.request("POST", f"/?case={case}", [("Content-Type", "text/plain")], BODY).body == b"12"


def test_validator_is_silent_on_a_unix_socket(serve, tmp_path):
    server = serve("apps.validated:application", bind=f"unix:{tmp_path}/socket")
    assert server.request("GET", "/?case=generated").body == b"one two"
