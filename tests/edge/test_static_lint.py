"""Every kind of response that files and routes have, judged by httplint, by which REDbot judges responses."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.http_client import Client, request_bytes
from harness.server import TESTS
from harness.static_site import FILES, let_changes_settle, write_site

httplint = pytest.importorskip("httplint")

APPLICATION = "apps.accel:application"
# Of "secret", with so few rounds that it costs nothing.
BOB = "bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n"

ROUTES = """
[[route]]
path = "/s"
static = ["public", "more"]
immutable = ["/assets/**"]

[[route]]
path = "/list"
static = "public"
listing = true

[[route]]
path = "/spa"
static = "public"
fallback = "/index.html"

[[route]]
path = "/protected"
static = "public"
internal = true

[[route]]
path = "/admin"
static = "public"
auth = "users"

[[route]]
path = "/busy"
static = "public"
limit = "1/h"

[[route]]
path = "/moved"
redirect = "/s/a.txt"
status = 301

[[route]]
path = "/down"
respond = 503
page = "down.html"
headers = { Retry-After = "600" }

[[route]]
path = "/gone"
respond = 410

[[route]]
path = "/refused"
static = "public"
allow = ["192.0.2.0/24"]
"""


@dataclass(frozen=True)
class Asked:
    """A request and the status of its response. `{tag}` in a field is the tag of what is at `target`."""

    target: str
    status: int
    fields: tuple[tuple[str, str], ...] = ()
    method: str = "GET"


GZIP = ("Accept-Encoding", "gzip")
LATE = "Fri, 31 Dec 2100 00:00:00 GMT"
ASKED = {
    **{f"hit {name}": Asked(f"/s/{name}", 200) for name in FILES if name.isascii() and " " not in name},
    "immutable": Asked("/s/assets/app.1234.js", 200),
    "index": Asked("/s/docs/", 200),
    "listing": Asked("/list/", 200),
    "fallback": Asked("/spa/page", 200, (("Accept", "text/html"),)),
    "head": Asked("/s/app.css", 200, method="HEAD"),
    "head of a large file": Asked("/s/large.bin", 200, method="HEAD"),
    "options": Asked("/s/app.css", 204, method="OPTIONS"),
    "sidecar": Asked("/s/side.txt", 200, (GZIP,)),
    "not the sidecar": Asked("/s/side.txt", 200, (("Accept-Encoding", "gzip;q=0"),)),
    "compressed": Asked("/s/app.css", 200, (GZIP,)),
    "no coding": Asked("/s/a.txt", 406, (("Accept-Encoding", "identity;q=0"),)),
    "by its tag": Asked("/s/a.txt", 304, (("If-None-Match", "{tag}"),)),
    "by its tag, a sidecar": Asked("/s/side.txt", 304, (GZIP, ("If-None-Match", "{tag}"))),
    "by its tag, large": Asked("/s/large.bin", 304, (("If-None-Match", "{tag}"),)),
    "by its date": Asked("/s/a.txt", 304, (("If-Modified-Since", LATE),)),
    "by its tag, head": Asked("/s/a.txt", 304, (("If-None-Match", "{tag}"),), "HEAD"),
    "failed condition": Asked("/s/a.txt", 412, (("If-Match", '"other"'),)),
    "range": Asked("/s/a.txt", 206, (("Range", "bytes=2-4"),)),
    "range of a large file": Asked("/s/large.bin", 206, (("Range", "bytes=1000-2999"),)),
    "range of a sidecar": Asked("/s/side.txt", 206, (GZIP, ("Range", "bytes=0-9"))),
    "ranges": Asked("/s/a.txt", 206, (("Range", "bytes=0-1,4-5"),)),
    "ranges of a large file": Asked("/s/large.bin", 206, (("Range", "bytes=0-1,9-10"),)),
    "no such range": Asked("/s/a.txt", 416, (("Range", "bytes=10-"),)),
    "missing": Asked("/s/none", 404),
    "hidden": Asked("/s/.env", 404),
    "internal": Asked("/protected/a.txt", 404),
    "method": Asked("/s/a.txt", 405, method="PUT"),
    "folder": Asked("/s/docs", 302),
    "ambiguous": Asked("/s/%2e%2e/secret", 400),
    "moved": Asked("/moved", 301),
    "by the application": Asked("/status/200?X-Accel-Redirect:/protected/a.txt", 200),
    "by the application, a part": Asked(
        "/status/200?X-Accel-Redirect:/protected/a.txt", 206, (("Range", "bytes=2-4"),)
    ),
    "password": Asked("/admin/a.txt", 401),
    "wrong password": Asked("/admin/a.txt", 401, (("Authorization", "Basic Ym9iOng="),)),
    "right password": Asked("/admin/a.txt", 200, (("Authorization", "Basic Ym9iOnNlY3JldA=="),)),
    "first of an hour": Asked("/busy/a.txt", 200),
    "too many": Asked("/busy/a.txt", 429),
    "refused": Asked("/refused/a.txt", 403),
    "maintenance": Asked("/down", 503),
    "fixed": Asked("/gone", 410),
}

# Notes that stand: of which cases, and why.
REASONS: dict[str, tuple[set[str], str]] = {
    "STORE_PUBLIC_UNNECESSARY": (
        set(ASKED),
        "caches that share need no `public`, but some of those that are rented store nothing without it",
    ),
    "FRESHNESS_HEURISTIC": (
        {"by the application", "by the application, a part", "moved", "fixed"},
        "the application has said nothing of caches, or the route, which has `headers` for that",
    ),
    "PARTIAL_WITHOUT_RANGE": (
        {"ranges", "ranges of a large file"},
        "of several ranges each part has its own, and the head must not (RFC 9110, section 15.3.7.2)",
    ),
    "STATUS_BAD_REQUEST": ({"ambiguous"}, "a path that can be read in two ways is a bad request"),
}


@pytest.fixture(scope="module")
def server(serve_module, tmp_path_factory):
    """The site, with a page for maintenance and a user."""
    folder = write_site(tmp_path_factory.mktemp("site"))
    (folder / "users").write_text(BOB)
    (folder / "down.html").write_text("<!doctype html><title>Down</title><p>Back soon.")
    (folder / "portico.toml").write_text(ROUTES)
    let_changes_settle()
    return serve_module(APPLICATION, "--pythonpath", str(TESTS), cwd=folder)


def fetch(server, asked, fields):
    with Client(server.address) as client:
        client.send(request_bytes(asked.method, asked.target, fields))
        return client.read_response(asked.method)


def lint(asked, fields, response):
    """The notes on a response that are neither good nor mere information, by their names."""
    request = httplint.HttpRequestLinter()
    request.process_request_topline(asked.method.encode(), f"http://test{asked.target}".encode(), b"HTTP/1.1")
    request.process_headers([(b"Host", b"test"), *((n.encode(), v.encode()) for n, v in fields)])
    request.finish_content(True)
    linter = httplint.HttpResponseLinter()
    linter.request = request
    linter.is_head_response = asked.method == "HEAD"
    linter.base_uri = f"http://test{asked.target}"
    linter.process_response_topline(b"HTTP/1.1", str(response.status).encode(), response.reason.encode())
    linter.process_headers([(n.encode("latin-1"), v.encode("latin-1")) for n, v in response.fields])
    linter.feed_content(response.body)
    linter.finish_content(True)
    return {type(note).__name__: note for note in linter.notes if note.level.value in ("bad", "warning")}


@pytest.mark.parametrize("case", ASKED)
def test_no_bad_notes(server, case):
    asked = ASKED[case]
    fields = asked.fields
    if any("{tag}" in value for _, value in fields):
        plain = [(name, value) for name, value in fields if "{tag}" not in value]
        tag = fetch(server, asked, plain).get("ETag")
        fields = tuple((name, value.replace("{tag}", tag)) for name, value in fields)
    response = fetch(server, asked, fields)
    assert response.status == asked.status
    found = lint(asked, fields, response)
    notes = {name: note for name, note in found.items() if case not in REASONS.get(name, (set(), ""))[0]}
    told = [f"{name}: {note.summary} ({note.subject})" for name, note in notes.items()]
    assert told == [], response.fields


def test_no_reason_is_left_over():
    """Each is for cases that there are."""
    for cases, why in REASONS.values():
        assert cases <= set(ASKED) and why


@pytest.mark.parametrize("case", ["right password", "refused"])
def test_what_is_for_some_is_not_shared(server, case):
    """With `public` they would give it to whoever asks, without a password (RFC 9111, section 3.5)."""
    asked = ASKED[case]
    value = fetch(server, asked, asked.fields).get("Cache-Control")
    assert value == ("max-age=60, private" if asked.status == 200 else None)
