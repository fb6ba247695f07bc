"""Files of routes over every protocol: found, described, cached and sent in parts."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.gateway_client import PROTOCOLS
from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.static_site import (
    ALL_PROTOCOLS,
    FILES,
    LARGE,
    SECRET,
    SIDE,
    TEXT,
    StaticSite,
    let_changes_settle,
    write_site,
)

APPLICATION = "apps.accel:application"

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
path = "/app"
static = "public"
fallback = "app"

[[route]]
path = "/protected"
static = "public"
internal = true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the site, which has not changed for as long as changes might go unnoticed."""
    folder = write_site(tmp_path_factory.mktemp("site"))
    (folder / "portico.toml").write_text(ROUTES)
    let_changes_settle()
    return folder


@pytest.fixture(scope="module")
def site(serve_module, folder, authority, pair):
    """A server of that site, which speaks every protocol."""
    options = ["--pythonpath", str(TESTS), *pair.options]
    server = serve_module(APPLICATION, *options, bind=StaticSite.binds(folder), cwd=folder)
    return StaticSite(server, folder, authority.certificate)


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
def test_whole_files(site, protocol):
    for name, content in FILES.items():
        target = "/s/" + "".join(
            f"%{byte:02x}" if byte in b" %" or byte > 127 else chr(byte) for byte in name.encode()
        )
        for _ in range(2):
            got = site.fetch(target, protocol=protocol)
            assert (got.status, got.body) == (200, content), name
            assert got.get("Content-Length") == str(len(content)), name
            assert got.get("X-Content-Type-Options") == "nosniff"
            assert got.get("ETag") and got.get("Last-Modified"), name
        head = site.fetch(target, "HEAD", protocol=protocol)
        assert (head.status, head.body) == (200, b"")
        described = ("ETag", "Content-Length", "Content-Type", "Cache-Control", "Last-Modified", "Vary")
        assert [head.get(name) for name in described] == [got.get(name) for name in described]
    assert site.fetch("/s/second.txt", protocol=protocol).body == b"second"
    assert site.fetch("/s/in.txt", protocol=protocol).body == b"0123456789"


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
def test_parts_of_files(site, protocol):
    for target, content in [("/s/a.txt", FILES["a.txt"]), ("/s/large.bin", LARGE)]:
        one = site.fetch(target, fields=[("Range", "bytes=2-4")], protocol=protocol)
        assert (one.status, one.body) == (206, content[2:5])
        assert one.get("Content-Range") == f"bytes 2-4/{len(content)}"
        several = site.fetch(target, fields=[("Range", "bytes=-2,0-0")], protocol=protocol)
        assert several.status == 206
        boundary = (several.get("Content-Type") or "").partition("boundary=")[2].encode()
        parts = several.body.split(b"\r\n--" + boundary)
        assert parts[0] == b"" and parts[-1] == b"--\r\n" and len(parts) == 4
        assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:3]] == [content[:1], content[-2:]]
        assert several.get("Content-Length") == str(len(several.body))


# RFC 9110, section 14: what is asked of ten bytes, and what comes.
RANGES = [
    ("bytes=0-0", 206, b"0"),
    ("bytes=0-", 206, b"0123456789"),
    ("bytes=-3", 206, b"789"),
    ("bytes=-100", 206, b"0123456789"),
    ("bytes=9-100", 206, b"9"),
    ("bytes=9-18446744073709551616", 206, b"9"),
    ("bytes=0-1,1-2", 206, b"012"),
    ("bytes=10-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=18446744073709551616-", 416, None),
    ("bytes=3-1", 200, b"0123456789"),
    ("bytes=a-b", 200, b"0123456789"),
    ("bytes=", 200, b"0123456789"),
    ("bytes 0-1", 200, b"0123456789"),
    ("lines=0-1", 200, b"0123456789"),
    ("bytes=" + ",".join(["0-9"] * 10_000), 200, b"0123456789"),
    ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 10, 2)) * 1, 206, None),
]


@pytest.mark.parametrize(("value", "status", "body"), RANGES, ids=[value[:30] for value, *_ in RANGES])
def test_ranges(site, value, status, body):
    if len(value) > 8000:
        value = value[:8000].rpartition(",")[0]
    got = site.fetch("/s/a.txt", fields=[("Range", value)])
    assert got.status == status
    assert body is None or got.body == body
    if status == 416:
        assert got.get("Content-Range") == "bytes */10"
        assert got.get("X-Content-Type-Options") == "nosniff"


def test_ranges_of_an_empty_file(site):
    for value, status in [("bytes=0-", 416), ("bytes=-1", 200), ("bytes=0-0", 416)]:
        assert site.fetch("/s/empty.txt", fields=[("Range", value)]).status == status, value


def test_many_ranges_amplify_nothing(site):
    value = "bytes=" + ",".join(f"{n}-{n + 999_999}" for n in range(500))
    got = site.fetch("/s/large.bin", fields=[("Range", value)])
    assert (got.status, len(got.body)) == (200, len(LARGE))


@pytest.mark.parametrize("name", ["a.txt", "large.bin"])
def test_conditions(site, name):
    plain = site.fetch(f"/s/{name}")
    tag, date = plain.get("ETag"), plain.get("Last-Modified")
    early, late = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 00:00:00 GMT"
    for fields, status in [
        ([("If-None-Match", tag)], 304),
        ([("If-None-Match", f"W/{tag}")], 304),
        ([("If-None-Match", f'"other", {tag}')], 304),
        ([("If-None-Match", '"other"'), ("If-None-Match", tag)], 304),
        ([("If-None-Match", "*")], 304),
        ([("If-None-Match", '"other"')], 200),
        ([("If-None-Match", '"other"'), ("If-Modified-Since", late)], 200),
        ([("If-Modified-Since", date)], 304),
        ([("If-Modified-Since", early)], 200),
        ([("If-Modified-Since", "yesterday")], 200),
        ([("If-Match", tag)], 200),
        ([("If-Match", '"other"'), ("If-Match", tag)], 200),
        ([("If-Match", "*")], 200),
        ([("If-Match", f"W/{tag}")], 412),
        ([("If-Match", '"other"')], 412),
        ([("If-Match", '"other"'), ("If-None-Match", tag)], 412),
        ([("If-Unmodified-Since", early)], 412),
        ([("If-Unmodified-Since", early), ("If-Match", tag)], 200),
        ([("If-Range", tag), ("Range", "bytes=0-0")], 206),
        ([("If-Range", f"W/{tag}"), ("Range", "bytes=0-0")], 200),
        ([("If-Range", '"other"'), ("Range", "bytes=0-0")], 200),
        ([("If-Range", date), ("Range", "bytes=0-0")], 206),
        ([("If-Range", early), ("Range", "bytes=0-0")], 200),
        ([("If-None-Match", tag), ("Range", "bytes=0-0")], 304),
    ]:
        got = site.fetch(f"/s/{name}", fields=fields)
        assert got.status == status, fields
        if status == 304:
            assert got.body == b"" and got.get("Content-Type") is None
            for kept in ("ETag", "Cache-Control", "Last-Modified", "Vary"):
                assert got.get(kept) == plain.get(kept), kept
    unmodified = site.fetch(f"/s/{name}", "HEAD", [("If-None-Match", tag)])
    assert unmodified.status == 304


def test_caching(site):
    def value(target):
        return site.fetch(target).get("Cache-Control")

    assert value("/s/a.txt") == "max-age=60, public"
    assert value("/s/assets/app.1234.js") == "max-age=31536000, public, immutable"
    assert value("/s/index.html") == "no-cache"
    assert value("/s/none.js") == "no-store"


def test_sidecars(site):
    def asked(name, value):
        got = site.fetch(f"/s/{name}", fields=[("Accept-Encoding", value)])
        return got.get("Content-Encoding"), got

    for value, coding in [
        ("gzip", "gzip"),
        ("br, gzip", "gzip"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("identity;q=0, gzip", "gzip"),
        ("deflate", None),
    ]:
        told, got = asked("side.txt", value)
        assert (got.status, told, got.get("Vary")) == (200, coding, "Accept-Encoding"), value
        assert (gzip.decompress(got.body) if coding else got.body) == SIDE
    assert asked("side.txt", "identity;q=0")[1].status == 406
    # One that is older than its file has another content; one that leads outside is not there.
    assert asked("old.txt", "gzip")[1].body != b"an older content"
    assert SECRET not in asked("side-out.txt", "br")[1].body
    plain, coded = asked("side.txt", "identity")[1], asked("side.txt", "gzip")[1]
    assert plain.get("ETag") != coded.get("ETag")
    part = site.fetch("/s/side.txt", fields=[("Accept-Encoding", "gzip"), ("Range", "bytes=0-1")])
    assert (part.status, part.body, part.get("Content-Encoding")) == (206, coded.body[:2], "gzip")


def test_text_is_compressed_once(site):
    def coded(coding):
        return site.fetch("/s/app.css", fields=[("Accept-Encoding", coding)])

    assert coded("identity").get("Vary") == "Accept-Encoding", "before there is another one, too"
    wait_until(lambda: coded("br").get("Content-Encoding") == "br", "brotli")
    packed = coded("gzip")
    assert (packed.get("Content-Encoding"), gzip.decompress(packed.body)) == ("gzip", TEXT)
    assert len({coded(coding).get("ETag") for coding in ("identity", "gzip", "br")}) == 3
    # The proxies that the server trusts, this machine by default, and gateways compress themselves.
    for proxy in ("Via", "1.1 proxy"), ("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"):
        got = site.fetch("/s/app.css", fields=[("Accept-Encoding", "gzip"), proxy])
        assert (got.get("Content-Encoding"), got.body) == (None, TEXT), proxy
    for protocol in PROTOCOLS:
        got = site.fetch("/s/app.css", fields=[("Accept-Encoding", "gzip")], protocol=protocol)
        assert (got.get("Content-Encoding"), got.body) == (None, TEXT), protocol
    ranged = site.fetch("/s/app.css", fields=[("Accept-Encoding", "gzip"), ("Range", "bytes=0-1")])
    assert (ranged.status, ranged.body) == (200, packed.body), "it is made anew at any time"
    assert packed.get("Accept-Ranges") is None
    tag = packed.get("ETag")
    assert (
        site.fetch("/s/app.css", fields=[("Accept-Encoding", "gzip"), ("If-None-Match", tag)]).status == 304
    )
    assert site.fetch("/s/app.css", fields=[("Accept-Encoding", "br"), ("If-None-Match", tag)]).status == 200


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
def test_methods_and_folders(site, protocol):
    def got(target, method="GET"):
        return site.fetch(target, method, protocol=protocol)

    assert got("/s/docs/").body == b"<p>docs"
    for target, location in [("/s/docs", "./docs/"), ("/s/docs?a=b", "./docs/?a=b"), ("/s", "./s/")]:
        moved = got(target)
        assert (moved.status, moved.get("Location")) == (302, location)
    assert got("/s/empty/").status == 404
    options = got("/s/a.txt", "OPTIONS")
    assert (options.status, options.get("Allow")) == (204, "GET, HEAD, OPTIONS")
    refused = got("/s/a.txt", "PUT")
    assert (refused.status, refused.get("Allow")) == (405, "GET, HEAD, OPTIONS")


def test_a_listing(site):
    page = site.fetch("/list/docs/../deep/")
    assert page.status == 200 and b'href="./er/"' in page.body
    root = site.fetch("/list/assets/").body.decode()
    assert 'href="./app.1234.js"' in root
    assert site.fetch("/list/").body == b"<p>index", "an index goes before"
    assert site.fetch("/list/deep/").get("X-Content-Type-Options") == "nosniff"


def test_fallbacks(site):
    browser = [("Accept", "text/html,*/*;q=0.8")]
    for target, fields, status in [
        ("/spa/users/17", browser, 200),
        ("/spa/users/17", [("Accept", "*/*")], 404),
        ("/spa/app.js", browser, 404),
        ("/spa/a.txt", browser, 200),
    ]:
        assert site.fetch(target, fields=fields).status == status, target
    page = site.fetch("/spa/users/17", fields=browser)
    assert (page.body, page.get("Cache-Control")) == (b"<p>index", "no-cache")
    assert site.fetch("/spa/users", "POST", browser).status == 405
    for target, method in [("/app/none", "GET"), ("/app/a.txt", "POST"), ("/app/docs/none", "HEAD")]:
        assert site.fetch(target, method).get("X-App") == "called", target
    assert site.fetch("/app/a.txt").body == FILES["a.txt"]


def test_one_connection_has_files_and_the_application(site):
    with site.connect() as client:
        for target, status, length in [
            ("/s/a.txt", 200, 10),
            ("/s/large.bin", 200, len(LARGE)),
            ("/ping", 200, None),
            ("/s/none", 404, None),
            ("/app/none", 200, None),
            ("/s/a.txt", 200, 10),
        ]:
            response = client.request("GET", target)
            assert (response.status, response.closes) == (status, False), target
            assert length is None or len(response.body) == length
    targets = ["/s/a.txt", "/s/large.bin", "/s/none", "/ping"] * 10
    with site.connect() as client:
        client.send(b"".join(request_bytes("GET", target) for target in targets))
        statuses = [client.read_response().status for _ in targets]
    assert statuses == [200, 200, 404, 200] * 10


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
def test_files_that_the_application_names(site, protocol):
    def got(order, status=200, **more):
        return site.fetch(f"/status/{status}?{order}", protocol=protocol, **more)

    for order in ("X-Accel-Redirect:/protected/a.txt", f"X-Sendfile:{site.folder}/public/a.txt"):
        response = got(order)
        assert (response.status, response.body) == (200, b"0123456789")
        assert response.get("Content-Type") == "application/x-own"
        assert response.get("Set-Cookie") == "a=b" and response.get("X-Own") is None
        assert response.get("Cache-Control") is None, "by default no cache keeps what is guarded"
        assert response.get("ETag") != '"own"' and not response.all(order.partition(":")[0])
        assert got(order, fields=[("Range", "bytes=1-2")]).body == b"12"
        assert got(order, fields=[("If-None-Match", response.get("ETag"))]).status == 304
        assert got(order, method="HEAD").get("Content-Length") == "10"
    assert got("X-Accel-Redirect:/protected/large.bin").body == LARGE
    spaced = "X-Accel-Redirect:/protected/a%2520b%25C3%25A9.txt"
    assert got(spaced).body == FILES["a b\u00e9.txt"]
    raw = "X-Accel-Redirect:/protected/a%20b%C3%A9.txt"
    assert got(raw).body == FILES["a b\u00e9.txt"]
    assert got("X-Accel-Redirect:/protected/a.txt", status=403).status == 403
    assert site.fetch("/protected/a.txt", protocol=protocol).status == 404


def test_orders_that_lead_nowhere(site):
    for order in [
        "X-Accel-Redirect:/s/a.txt",
        "X-Accel-Redirect:/protected/none",
        "X-Accel-Redirect:/protected/../../secret",
        "X-Accel-Redirect:/protected/%252e%252e/secret",
        "X-Accel-Redirect:/protected/out",
        "X-Accel-Redirect:/status/200",
        f"X-Sendfile:{site.folder}/secret",
        f"X-Sendfile:{site.folder}/public/../secret",
        f"X-Sendfile:{site.folder}/publicity/secret",
        "X-Sendfile:/etc/passwd",
    ]:
        got = site.fetch(f"/status/200?{order}")
        assert got.status == 404 and b"outside" not in got.body, order
        assert got.get("Set-Cookie") is None
    site.server.expect_log("answered 404 in place of the application", count=4)
    assert site.fetch("/ping").status == 200


def test_without_internal_routes_orders_pass(serve, tmp_path):
    server = serve(APPLICATION, "--static", f"/s={tmp_path}", "--pythonpath", str(TESTS))
    got = StaticSite(server, tmp_path).fetch("/status/200?X-Accel-Redirect:/protected/x")
    assert (got.get("X-Accel-Redirect"), got.body) == ("/protected/x", b"to be dropped")


@pytest.mark.parametrize("found", ["manage.py", ".git", "own.py"])
def test_the_folder_of_an_application_is_not_served(tmp_path, found):
    (tmp_path / "own.py").write_text("from apps.accel import application\n")
    public = tmp_path / "public"
    public.mkdir()
    (public / found).write_text("")
    options = ["--static", "/s=public", "--pythonpath", str(TESTS)]
    told = f"--static /s=public: static: public has {found}"
    ended = run_to_end("own:application", *options, cwd=tmp_path)
    assert ended.returncode != 0
    assert told in ended.stderr, ended.stderr
    checked = run_to_end("check", "own:application", *options, cwd=tmp_path)
    assert (checked.returncode, checked.stderr.count("it is the folder of an application")) == (1, 1)
    assert told in checked.stderr, checked.stderr


def test_response_without_acceptable_coding_keeps_its_connection(site):
    """The request has been read to its end, so another one may follow (RFC 9112, section 9.3)."""
    with site.connect() as client:
        for fields, status in [([("Accept-Encoding", "identity;q=0")], 406), ([], 200)] * 2:
            response = client.request("GET", "/s/a.txt", fields)
            assert (response.status, response.closes) == (status, False)


def test_the_flag_repeated(serve, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    options = ["--static", "/a=a", "--static", "/deep/b=b"]
    server = serve(APPLICATION, *options, "--pythonpath", str(TESTS), cwd=tmp_path)
    site = StaticSite(server, tmp_path)
    assert [site.fetch(target).body for target in ("/a/x", "/deep/b/x")] == [b"a", b"b"]
    assert site.fetch("/ab/x").get("X-App") == "called", "not at the boundary of a segment"


def test_no_file_no_thread_for_it(serve, tmp_path):
    (tmp_path / "x").write_text("x")
    server = serve(APPLICATION, "--static", f"/s={tmp_path}", "--pythonpath", str(TESTS))
    site = StaticSite(server, tmp_path)

    def has_thread():
        tasks = Path(f"/proc/{server.worker.pid}/task").iterdir()
        names = [(task / "comm").read_text().strip() for task in tasks]
        return "portico-blockin" in names

    assert site.fetch("/ping").status == 200
    assert not has_thread()
    assert site.fetch("/s/x").status == 200
    assert has_thread()
