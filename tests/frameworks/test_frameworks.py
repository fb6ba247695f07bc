"""Flask, Pyramid, Bottle, CherryPy and Falcon serve real pages through a real socket."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.http_client import chunked, request_bytes
from harness.packages import skip_without
from harness.server import TESTS

FRAMEWORKS = ["flask", "pyramid", "bottle", "cherrypy", "falcon"]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
JSON = [("Content-Type", "application/json")]
BOUNDARY = "a-boundary-of-the-tests"
MULTIPART = [("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def shared_server(request, serve_module):
    """One server for each framework."""
    skip_without(request.param)
    server = serve_module(f"apps.{request.param}_app:application", "--threads", "2")
    server.framework = request.param
    return server


def multipart(files: dict[str, bytes]) -> bytes:
    """A multipart/form-data body."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def cookies(response) -> list[tuple[str, str]]:
    """The Cookie field that a browser would send back."""
    return [("Cookie", "; ".join(cookie.partition(";")[0] for cookie in response.all("Set-Cookie")))]


def test_page(server):
    response = server.request("GET", "/?name=a%20visitor")
    assert response.status == 200
    assert response.get("Content-Type").startswith("text/html")
    assert response.body == b"<h1>Hello a visitor</h1>"


def test_head_of_a_page(server):
    with server.connect() as client:
        response = client.request("HEAD", "/")
        assert response.status == (405 if server.framework == "falcon" else 200)
        assert client.request("GET", "/").status == 200


def test_missing_page(server):
    assert server.request("GET", "/no/such/page").status == 404


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_json(server, framing):
    document = {"text": "\xe9\u20ac", "numbers": list(range(1000))}
    body = json.dumps(document).encode()
    with server.connect() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/json", JSON, body))
        else:
            client.send(
                request_bytes("POST", "/json", [*JSON, ("Transfer-Encoding", "chunked")])
                + chunked(body[at : at + 100] for at in range(0, len(body), 100))
            )
        response = client.read_response()
        assert json.loads(response.body) == {"received": document, "method": "POST"}
        assert client.request("GET", "/").status == 200


def test_form_and_cookies(server):
    response = server.request("POST", "/form", FORM, b"user=somebody")
    assert response.status in (200, 302, 303)
    if server.framework in ("bottle", "falcon"):
        assert len(response.all("Set-Cookie")) == 2
    assert server.request("GET", "/profile", cookies(response)).body == b"Profile of somebody"


@pytest.mark.parametrize("size", [10, 500_000])
def test_upload(server, size):
    if server.framework == "falcon" and size > 100_000:
        size = 100_000
    body = multipart({"first": b"a" * size, "second": bytes(range(256))})
    response = server.request("POST", "/upload", MULTIPART, body)
    assert json.loads(response.body) == {"first": size, "second": 256}


def test_stream(server):
    with server.connect() as client:
        response = client.request("GET", "/stream")
        assert response.body == b"".join(b"line %d\n" % number for number in range(100))
        assert client.request("GET", "/").status == 200


def test_download(server):
    with server.connect() as client:
        response = client.request("GET", "/download")
        assert response.get("Content-Type").startswith("text/x-python")
        assert response.body == Path(TESTS / "apps" / f"{server.framework}_app.py").read_bytes()
        assert client.request("GET", "/").status == 200


def test_error_page(server):
    """Some frameworks log the exception, some pass it on: 500 to the client in any case."""
    assert server.request("GET", "/broken").status == 500
    server.expected.append(re.compile("planted error"))
    assert server.request("GET", "/").status == 200
