"""`intercept`: the application's own errors get the pages of the route."""

from __future__ import annotations

import pytest

from harness.compressing import target, text
from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.server import TESTS

ROUTES = """
error_pages = "errors"

[[route]]
path = "/"
intercept = true
compress = true

[[route]]
path = "/list"
intercept = false
"""
PAGE = b"<p>not here</p>\n"


@pytest.fixture(scope="module")
def shared_server(serve_module, tmp_path_factory):
    """A server of every protocol whose site has pages for 404 and for what is 5xx."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "portico.toml").write_text(ROUTES)
    (folder / "errors").mkdir()
    (folder / "errors" / "404.html").write_bytes(PAGE)
    (folder / "errors" / "5xx.html").write_text("<p>busy</p>" * 5000)
    binds = [f"{protocol}://unix:{folder}/{protocol}.sock" for protocol in PROTOCOLS]
    server = serve_module(
        *["apps.compressing:application", "--pythonpath", str(TESTS)],
        bind=["127.0.0.1:0", *binds],
        cwd=folder,
    )
    server.sockets = folder
    return server


def missing(path, **more):
    """A target whose response is 404, with fields about its content and others."""
    return target(
        path,
        length=9000,
        status="404 Nowhere",
        h_ETag='"a"',
        h_Content_Language="en",
        h_Cache_Control="max-age=60",
        h_Set_Cookie="a=b",
        h_WWW_Authenticate="Basic",
        h_Allow="GET",
        h_Retry_After="7",
        **more,
    )


def check_page(get, body) -> None:
    """The response is the page, with what the application says beside its content."""
    assert body == PAGE
    assert get("content-type") == "text/html; charset=utf-8"
    assert get("cache-control") == "no-store"
    assert (get("etag"), get("content-language"), get("content-encoding")) == (None, None, None)
    assert get("set-cookie") == "a=b" and get("www-authenticate") == "Basic"
    assert get("allow") == "GET" and get("retry-after") == "7"


@pytest.mark.parametrize("path", ["/text", "/generator", "/write", "/memory-file"])
def test_errors_get_the_page_and_keep_fields(server, path):
    with server.connect() as client:
        for _ in range(2):
            response = client.request("GET", missing(path), [("Accept-Encoding", "gzip")])
            assert (response.status, response.reason, response.closes) == (404, "Nowhere", False)
            assert response.get("Content-Length") == str(len(PAGE))
            check_page(response.get, response.body)
            client.send(request_bytes("HEAD", missing(path)))
            head = client.read_response("HEAD")
            assert head.get("Content-Length") == str(len(PAGE)) and head.get("ETag") is None
            client.expect_in_sync()
    with Http2Client(server.address) as client:
        answer = client.request(missing(path))
        assert answer.status == 404
        check_page(answer.get, answer.body)
    for protocol in PROTOCOLS:
        answer = ask(str(server.sockets / f"{protocol}.sock"), protocol, variables(missing(path)))
        assert answer.status == 404
        check_page(answer.field, answer.body)


def test_only_errors_that_have_a_page_get_one(server):
    for status in ["200 OK", "410 Gone", "302 Found", "599 Own"]:
        response = server.request("GET", target("/text", status=status, length=100))
        expected = b"<p>busy</p>" * 5000 if status.startswith("5") else text(100)
        assert (f"{response.status} {response.reason}", response.body) == (status, expected)


def test_a_body_goes_on_after_its_page(server):
    with server.connect() as client:
        response = client.request("GET", target("/generator", status="503 Busy", length=300_000))
        assert (response.status, response.body) == (503, b"<p>busy</p>" * 5000)
        client.expect_in_sync()


def test_a_body_that_fails_late_is_logged(server):
    with server.connect() as client:
        response = client.request("GET", target("/generator", status="500 Oh", length=3000, error="1"))
        assert (response.status, response.body) == (500, b"<p>busy</p>" * 5000)
        client.expect_in_sync()
    server.expect_log("the application failed")


def test_a_route_below_may_keep_its_errors(server):
    response = server.request("GET", missing("/list"))
    assert response.body == text(9000) and response.get("ETag") == '"a"'
