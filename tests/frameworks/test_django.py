"""Django: ORM on SQLite, sessions, file upload, streaming, the admin, and persistent database connections."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest
from test_frameworks import FORM, MULTIPART, cookies, multipart

from harness.http_client import chunked, request_bytes
from harness.packages import skip_without
from harness.server import TESTS

skip_without("django")
SERVER = ("apps.djangosite.wsgi:application", "--threads", "3")


def test_session(server):
    first = server.request("GET", "/visits")
    assert first.body == b"visit 1"
    assert server.request("GET", "/visits", cookies(first)).body == b"visit 2"
    assert server.request("GET", "/visits").body == b"visit 1"


def test_orm_and_streaming(server):
    texts = [f"note {number} \xe9\u20ac" for number in range(20)]
    for text in texts:
        assert server.request("POST", "/notes", FORM, urlencode({"text": text}).encode()).status == 201
    assert json.loads(server.request("GET", "/notes").body)["notes"][-20:] == texts
    with server.connect() as client:
        response = client.request("GET", "/stream")
        assert response.chunks is not None
        assert response.body.decode().splitlines()[-20:] == texts
        assert client.request("GET", "/visits").status == 200


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_upload(server, size):
    """Django keeps small files in memory and spools large ones."""
    response = server.request("POST", "/upload", MULTIPART, multipart({"one": b"x" * size, "two": b"yy"}))
    assert json.loads(response.body) == {"one": size, "two": 2}


def test_chunked_body_is_read(server):
    """Django reads CONTENT_LENGTH bytes and no more: without it a chunked body looks empty."""
    with server.connect() as client:
        client.send(
            request_bytes("POST", "/raw", [("Transfer-Encoding", "chunked")]) + chunked([b"abc", b"de"])
        )
        assert client.read_response().body == b"5"


def test_download(server):
    with server.connect() as client:
        assert client.request("GET", "/download").body == Path(TESTS / "apps/djangosite/urls.py").read_bytes()
        assert client.request("GET", "/visits").status == 200


def test_admin_login(server):
    response = server.request("GET", "/admin/")
    assert response.status == 302
    page = server.request("GET", response.get("Location"))
    assert b"Django administration" in page.body
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)[1].decode()
    form = {
        "csrfmiddlewaretoken": token,
        "username": "admin",
        "password": "a password for tests",
        "next": "/admin/",
    }
    fields = [*FORM, *cookies(page), ("Origin", "http://test")]
    wrong = server.request("POST", "/admin/login/", fields, urlencode(form | {"password": "wrong"}).encode())
    assert b"Please enter the correct username and password" in wrong.body
    entered = server.request("POST", "/admin/login/", fields, urlencode(form).encode())
    assert entered.status == 302
    assert b"Site administration" in server.request("GET", "/admin/", cookies(entered)).body
    assert b"Select note to change" in server.request("GET", "/admin/djangosite/note/", cookies(entered)).body


def test_errors_are_djangos_own(server):
    response = server.request("GET", "/broken")
    assert response.status == 500
    assert b"Server Error" in response.body
    assert server.request("GET", "/visits").status == 200


def test_database_connections_last_as_long_as_the_threads(server):
    """CONN_MAX_AGE keeps a connection for each thread: threads that come and go would leak them."""

    def run() -> None:
        with server.connect(30) as client:
            for _ in range(20):
                assert client.request("GET", "/connections").status == 200

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    told = json.loads(server.request("GET", "/connections").body)
    assert told["made"] <= 3 + 1, "one a thread, and the one of the import"
    assert told["threads"] <= 3 + 1


def test_root_path_reaches_the_urls(serve):
    server = serve("apps.djangosite.wsgi:application", "--root-path", "/shop")
    assert server.request("GET", "/shop/visits").body == b"visit 1"
    assert server.request("GET", "/shop/admin/").get("Location").startswith("/shop/admin/login/")
