"""Limits and timeouts of routes are decided at the head, for every protocol."""

from __future__ import annotations

import json
import re
import time

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import chunked, request_bytes
from harness.server import TESTS

BODIES = """
limit_request_body = 1000

[[route]]
path = "/small"
limit_request_body = 10

[[route]]
path = "/large"
limit_request_body = 5000

[[route]]
path = "/large/streamed"
stream_request_body = true
"""
SMALL, USUAL, LARGE = 10, 1000, 5000


@pytest.fixture
def site(serve, tmp_path):
    """Starts a server of every protocol with this configuration."""

    def start(application: str, configuration: str, *options: str):
        (tmp_path / "portico.toml").write_text(configuration)
        binds = [f"{protocol}://unix:{tmp_path}/{protocol}.sock" for protocol in PROTOCOLS]
        server = serve(
            application, "--pythonpath", str(TESTS), *options, bind=["127.0.0.1:0", *binds], cwd=tmp_path
        )
        server.sockets = tmp_path
        return server

    return start


def test_each_route_takes_bodies_up_to_its_limit(site):
    server = site("apps.echo:application", BODIES)
    for path, limit in [("/small", SMALL), ("/other", USUAL), ("/large/x", LARGE)]:
        for length, status in [(limit, 200), (limit + 1, 413)]:
            body = b"x" * length
            with server.connect() as client:
                response = client.request("POST", path, body=body)
                assert (response.status, response.closes) == (status, status == 413), (path, length)
            with server.connect() as client:
                coding = [("Transfer-Encoding", "chunked")]
                client.send(request_bytes("POST", path, coding) + chunked([body[:7], body[7:]]))
                response = client.read_response()
                assert response.status == status, (path, length)
                assert status == 413 or len(json.loads(response.body)["body"]) == length
            with Http2Client(server.address) as client:
                for fields in [[], [("content-length", str(length))]]:
                    assert client.request(path, "POST", fields, body).status == status, (path, length)
                client.expect_alive()
            for protocol in PROTOCOLS:
                answer = ask(
                    str(server.sockets / f"{protocol}.sock"), protocol, variables(path, method="POST"), body
                )
                assert answer.status == status, (protocol, path, length)


def test_a_large_body_is_not_invited(site):
    server = site("apps.echo:application", BODIES)
    with server.connect() as client:
        fields = [("Expect", "100-continue"), ("Content-Length", str(SMALL + 1))]
        client.send(request_bytes("POST", "/small", fields))
        response = client.read_response()
    assert (response.status, response.interim) == (413, [])


def test_a_streamed_body_ends_at_the_limit_too(site):
    server = site("apps.echo:application", BODIES, "--stream-request-body=always")
    with server.connect() as client:
        client.send(
            request_bytes("POST", "/small", [("Transfer-Encoding", "chunked")]) + chunked([b"x" * 11])
        )
        # The application runs already: it learns of the end as it reads, and sends what it likes.
        response = client.read_response()
    assert (response.status, response.closes) == (500, True)


TIMES = """
timeout = "20s"
timeout_grace = "300ms"

[[route]]
path = "/sleep"
timeout = "500ms"

[[route]]
path = "/sleep"
methods = ["PUT"]
timeout = 0

[timeout_path]
"/sleep" = "10s"
"""


def test_each_route_has_its_own_timeout(site):
    server = site("apps.stuck:application", TIMES, "--threads", "8")
    server.expected.append(re.compile("timeout: (GET|POST) /sleep|did not end when|written off|thread"))
    began = time.monotonic()
    assert server.request("GET", "/sleep?seconds=3").status == 504
    assert 0.5 <= time.monotonic() - began < 2.5
    with Http2Client(server.address) as client:
        assert client.request("/sleep?seconds=3").status == 504
    told = variables("/sleep?seconds=3")
    assert ask(str(server.sockets / "fastcgi.sock"), "fastcgi", told).status == 504
    # A route for a method, without end.
    assert server.request("PUT", "/sleep?seconds=1.5").status == 200
    assert server.request("GET", "/sleep?seconds=0.1").status == 200


def test_the_application_is_told_its_time(site):
    configuration = "timeout = 20\n[[route]]\npath = '/deadline'\ntimeout = 5\n"
    server = site("apps.gone:application", configuration)
    first = json.loads(server.request("GET", "/deadline").body)[0]
    assert 4 < first <= 5
