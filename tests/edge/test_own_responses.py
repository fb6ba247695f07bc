"""Routes that the server responds to itself: redirects, fixed responses, addresses, `if_file`."""

from __future__ import annotations

import json
import time

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

ECHO = "apps.echo:application"

ROUTES = """
[[route]]
exact = "/blog/{year}/{slug}.html"
redirect = "/posts/{slug}"
status = 301

[[route]]
host = "www.example.com"
redirect = "https://example.com{path}"
status = 308

[[route]]
path = "/"
methods = ["GET", "HEAD"]
redirects = "redirects.txt"

[[route]]
path = "/gone"
respond = 410
page = "gone.html"

[[route]]
path = "/admin"
deny = ["0.0.0.0/0", "::/0"]

[[route]]
path = "/away"
redirect = "/in{path}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a site, with what its routes name."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "portico.toml").write_text(ROUTES)
    (folder / "redirects.txt").write_text(
        "# FROM TO [STATUS]\n/old /new\n/older https://example.com/x?a=b 307\n"
    )
    (folder / "gone.html").write_text("<p>gone</p>\n")
    return folder


@pytest.fixture(scope="module")
def site(serve_module, folder):
    """A server of that site, which speaks every protocol."""
    binds = [f"{protocol}://unix:{folder}/{protocol}.sock" for protocol in PROTOCOLS]
    options = ["--access-logfile", "-", "--request-id", "--pythonpath", str(TESTS)]
    return serve_module(ECHO, *options, bind=["127.0.0.1:0", *binds], cwd=folder)


def one(site, target, method="GET", host="test", fields=()):
    """The response to one request on a connection of its own."""
    with site.connect() as client:
        client.send(request_bytes(method, target, fields, host=host))
        return client.read_response(method)


def test_routes_and_application_respond_on_one_connection(site):
    with site.connect() as client:
        for target, status in [
            ("/old", 302),
            ("/gone/x", 410),
            ("/ping", 200),
            ("/admin", 403),
            ("/ping", 200),
        ]:
            response = client.request("GET", target)
            assert (response.status, response.closes) == (status, False), target
            assert len(response.all("Date")) == 1 and len(response.all("X-Request-Id")) == 1
    with site.connect() as client:
        client.send(b"".join(request_bytes("GET", target) for target in ["/old"] * 40 + ["/ping"]))
        statuses = [client.read_response().status for _ in range(41)]
    assert statuses == [302] * 40 + [200]


@pytest.mark.parametrize(
    ("host", "target", "status", "location"),
    [
        ("test", "/blog/2019/a%20b.html?c=d", 301, "/posts/a%20b?c=d"),
        ("www.example.com", "/x?y=z", 308, "https://example.com/x?y=z"),
        ("WWW.example.com.:80", "/", 308, "https://example.com/"),
        ("test", "/old", 302, "/new"),
        ("test", "/older?c", 307, "https://example.com/x?a=b&c"),
    ],
)
def test_redirects(site, host, target, status, location):
    response = one(site, target, host=host)
    assert (response.status, response.get("Location")) == (status, location)


def test_a_fixed_response_has_its_page(site):
    response, head = one(site, "/gone"), one(site, "/gone", method="HEAD")
    assert (response.status, response.body) == (410, b"<p>gone</p>\n")
    assert response.get("Content-Type") == "text/html; charset=utf-8"
    assert (head.status, head.get("Content-Length")) == (410, str(len(response.body)))


@pytest.mark.parametrize(
    "target",
    [
        "/away//evil.example",
        "/away/../..//evil.example",
        "//evil.example/away",
        "/away/%5cevil",
        "/away/%0d%0aX-A:b",
    ],
)
def test_a_redirect_stays_on_the_site(site, target):
    response = one(site, target)
    location = response.get("Location")
    assert response.status in (400, 404) or location is None or location.startswith("/in/"), location
    assert response.get("X-A") is None


@pytest.mark.parametrize(
    "target",
    [
        "/admin",
        "/admin/x",
        "//admin",
        "/%61dmin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/./admin",
        "/%2fadmin",
        "/admin%2fx",
        "/admin/..;/x",
        "/x;/../admin",
        "/admin%00",
        "/admin/%2e%2e/admin",
        "http://test/admin",
    ],
)
def test_no_spelling_leads_around_a_guard(site, target):
    assert one(site, target).status in (400, 403)


def test_a_body_is_not_awaited(site):
    with site.connect() as client:
        client.send(
            request_bytes("POST", "/gone", [("Content-Length", "1000000"), ("Expect", "100-continue")])
        )
        response = client.read_response()
        assert (response.status, response.closes, response.interim) == (410, True, [])
    with site.connect() as client:
        client.send(request_bytes("POST", "/gone", body=b"x" * 100_000))
        assert client.read_response().status == 410


def test_http2_streams_are_routed_one_by_one(site):
    with Http2Client(site.addresses[0]) as client:
        assert client.request("/gone").body == b"<p>gone</p>\n"
        assert client.request("/ping").status == 200
        redirected = client.request("/old")
        assert (redirected.status, redirected.get("location")) == (302, "/new")
        assert client.request("/admin").status == 403
        stream = client.open("/gone", "POST")
        client.data(stream, b"x" * 1000)
        assert client.answer(stream).status == 410
        assert client.request("/ping").status == 200


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways(site, folder, protocol):
    def asked(target, method="GET", **more):
        return ask(f"{folder}/{protocol}.sock", protocol, variables(target, method, **more))

    assert asked("/gone").body == b"<p>gone</p>\n"
    assert asked("/gone", "HEAD").body == b""
    assert asked("/old").field("Location") == "/new"
    assert asked("/admin").status == 403
    assert asked("/ping").status == 200
    # What counts is what the gateway's application would be called with.
    assert asked("/ping", PATH_INFO="/admin").status == 403
    assert asked("/admin", PATH_INFO="/ping").status == 200


def test_the_access_log_has_a_line_for_each(site):
    one(site, "/gone?logged")
    wait_until(
        lambda: any('"GET /gone?logged HTTP/1.1" 410 12' in line for line in site.stdout.lines), "the line"
    )


def test_a_file_turns_a_route_on_and_off(serve, tmp_path):
    (tmp_path / "portico.toml").write_text(
        "[[route]]\nif_file = 'MAINTENANCE'\nrespond = 503\npage = 'down.html'\n"
    )
    (tmp_path / "down.html").write_text("back soon")
    server = serve(ECHO, "--pythonpath", str(TESTS), cwd=tmp_path)
    assert one(server, "/ping").status == 200
    (tmp_path / "MAINTENANCE").touch()
    wait_until(lambda: one(server, "/ping").status == 503, "maintenance")
    assert one(server, "/x").body == b"back soon"
    (tmp_path / "MAINTENANCE").unlink()
    wait_until(lambda: one(server, "/ping").status == 200, "its end")


def test_a_reload_with_a_mistake_keeps_routes(serve, tmp_path):
    configuration = tmp_path / "portico.toml"
    configuration.write_text("[[route]]\npath = '/a'\nrespond = 410\n")
    server = serve(ECHO, "--workers", "2", "--pythonpath", str(TESTS), cwd=tmp_path)
    server.wait_workers(2)

    def reload():
        return run_to_end("reload", str(server.pid), cwd=tmp_path).returncode

    for mistake, told in [
        (
            "[[route]]\npath = '/a'\nrespond = 404\n[[route]]\npath = '/a'\nrespond = 405\n",
            "equally specific",
        ),
        ("[[route]]\npath = '/a'\nredirects = 'none.txt'\n", "none.txt cannot be read"),
        ("[[route]]\npath = '/a'\nauth = 'users'\n", "users cannot be read"),
    ]:
        configuration.write_text(mistake)
        assert reload() == 1
        server.expect_log(told, count=1)
        server.expect_log("keeps serving|keeps its settings|old", count=1)
        assert one(server, "/a").status == 410
    configuration.write_text("[[route]]\npath = '/b'\nrespond = 410\n")
    assert reload() == 0
    assert (one(server, "/a").status, one(server, "/b").status) == (200, 410)


def test_a_route_with_a_mistake_ends_the_start(tmp_path):
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/a'\nrespond = 503\npage = 'none.html'\n")
    ended = run_to_end(ECHO, "--pythonpath", str(TESTS), cwd=tmp_path)
    assert ended.returncode != 0
    assert "portico.toml:1: none.html cannot be read: No such file" in ended.stderr


def test_headers_are_on_every_response(serve, tmp_path):
    (tmp_path / "portico.toml").write_text(
        "[[route]]\nheaders = { X-A = 'all', 'X-Frame-Options?' = 'DENY', Server = false, "
        "Strict-Transport-Security = 'max-age=9' }\n"
        "[[route]]\npath = '/gone'\nrespond = 410\nheaders = { X-A = 'own' }\n"
    )
    binds = ["http://127.0.0.1:0", f"scgi://unix:{tmp_path}/scgi.sock"]
    server = serve(ECHO, "--pythonpath", str(TESTS), bind=binds, cwd=tmp_path)
    with server.connect() as client:
        for target, status, value in [("/ping", 200, "all"), ("/gone", 410, "own"), ("/%2f", 200, "all")]:
            response = client.request("GET", target)
            assert (response.status, response.get("X-A")) == (status, value)
            assert response.get("X-Frame-Options") == "DENY"
            assert response.get("Server") is response.get("Strict-Transport-Security") is None
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        refused = client.read_response()
        assert (refused.status, refused.get("X-A"), refused.get("Server")) == (400, "all", None)
    with Http2Client(server.addresses[0]) as client:
        assert (client.request("/ping").get("x-a"), client.request("/gone").get("x-a")) == ("all", "own")
        assert client.request("/ping").get("server") is None
    for scheme, expected in [("https", "max-age=9"), ("http", None)]:
        asked = variables("/ping", REQUEST_SCHEME=scheme)
        response = ask(f"{tmp_path}/scgi.sock", "scgi", asked)
        assert response.field("X-A") == "all"
        assert response.field("Strict-Transport-Security") == expected


PAGES = {"404.html": "<p>lost", "4xx.html": "<p>wrong", "5xx.html": "<p>broken"}


def pages_in(folder, **pages):
    """Makes a folder of pages for errors."""
    folder.mkdir()
    for name, text in (pages or PAGES).items():
        (folder / name).write_text(text)


def test_the_servers_own_errors_have_pages(serve, tmp_path):
    pages_in(tmp_path / "errors")
    pages_in(tmp_path / "shop", **{"4xx.html": "<p>shop"})
    (tmp_path / "portico.toml").write_text(
        "error_pages = 'errors'\n"
        "[[route]]\npath = '/shop'\nerror_pages = 'shop'\ndeny = ['0.0.0.0/0']\n"
        "[[route]]\npath = '/lost'\nrespond = 404\n"
        "[[route]]\npath = '/fine'\nrespond = 200\n"
    )
    server = serve("apps.contract:application", "--pythonpath", str(TESTS), cwd=tmp_path)
    for target, status, page in [
        ("/lost", 404, b"<p>lost"),
        ("/shop/x", 403, b"<p>shop"),
        ("/x/../shop", 400, b"<p>wrong"),
        ("/fine", 200, b"200\n"),
    ]:
        response = one(server, target)
        assert (response.body, response.status) == (page, status), target
        if status >= 400:
            assert response.get("Content-Type") == "text/html; charset=utf-8"
            assert response.get("Cache-Control") == "no-store"
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.read_response().body == b"<p>wrong"
    with Http2Client(server.address) as client:
        assert client.request("/lost").body == b"<p>lost"


def test_error_pages_need_no_route(serve, tmp_path):
    pages_in(tmp_path / "errors")
    (tmp_path / "failing.py").write_text(
        "def application(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/fail':\n"
        "        raise RuntimeError('planted')\n"
        "    start_response('404 Not Found', [])\n"
        "    return [b'the application']\n"
    )
    server = serve("failing", "--error-pages", "errors", cwd=tmp_path)
    failed = one(server, "/fail")
    assert (failed.status, failed.body) == (500, b"<p>broken")
    server.expect_log("planted", count=1)
    assert one(server, "/").body == b"the application", "its own errors are its own"
    assert one(server, "/%2f/..//").status == 404


def test_a_folder_without_pages_ends_the_start(tmp_path):
    (tmp_path / "errors").mkdir()
    ended = run_to_end(ECHO, "--pythonpath", str(TESTS), "--error-pages", "errors", cwd=tmp_path)
    assert ended.returncode != 0
    assert "--error-pages: errors has no page such as 404.html or 5xx.html; add one" in ended.stderr


def test_the_application_gets_what_routes_make(serve, tmp_path):
    (tmp_path / "portico.toml").write_text(
        "[[route]]\nrequest_headers = { X-User = false, X-A = 'ours', 'X-B?' = 'ours' }\n"
        "[[route]]\nexact = '/old/{rest...}'\nrewrite = '/new/{rest}'\n"
    )
    binds = [
        "http://127.0.0.1:0",
        *(f"{protocol}://unix:{tmp_path}/{protocol}.sock" for protocol in PROTOCOLS),
    ]
    server = serve(ECHO, "--pythonpath", str(TESTS), "--workers", "2", bind=binds, cwd=tmp_path)
    target = "/old/a%20b/%C3%A4?c=%20d"
    sent = {"X-User": "me", "X-A": "mine", "X-B": "mine"}
    environs = [json.loads(one(server, target, fields=list(sent.items())).body)["environ"]]
    with Http2Client(server.addresses[0]) as client:
        fields = [(name.lower(), value) for name, value in sent.items()]
        environs.append(json.loads(client.request(target, fields=fields).body)["environ"])
    for protocol in PROTOCOLS:
        told = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.items()}
        for path in (
            {"PATH_INFO": "/old/a b/\xc3\xa4"},
            {"PATH_INFO": "/a b/\xc3\xa4", "SCRIPT_NAME": "/old"},
        ):
            asked = variables(target, **path, **told)
            response = ask(f"{tmp_path}/{protocol}.sock", protocol, asked)
            environs.append(json.loads(response.body)["environ"])
    for environ in environs:
        assert (environ["PATH_INFO"], environ["SCRIPT_NAME"]) == ("/new/a b/\xc3\xa4", "")
        assert (environ["RAW_URI"], environ["QUERY_STRING"]) == (target, "c=%20d")
        assert (environ["HTTP_X_A"], environ["HTTP_X_B"]) == ("ours", "mine")
        assert "HTTP_X_USER" not in environ
    plain = json.loads(one(server, "/old").body)["environ"]
    assert (plain["PATH_INFO"], plain["HTTP_X_B"]) == ("/old", "ours")


@pytest.mark.serial
def test_a_client_that_asks_without_end_delays_nobody(site):
    with site.connect() as greedy:
        greedy.socket.settimeout(0.1)
        for _ in range(20):
            greedy.send(b"".join(request_bytes("HEAD", "/gone") for _ in range(200)))
            began = time.monotonic()
            assert one(site, "/ping").status == 200
            assert time.monotonic() - began < 2
            for _ in range(200):
                greedy.read_response("HEAD")


def test_the_log_tells_that_a_route_refuses(serve, folder):
    server = serve(
        *[ECHO, "--access-logfile", "-", "--access-logformat", "json", "--pythonpath", str(TESTS)],
        cwd=folder,
    )
    for target, status in [("/admin", 403), ("/gone", 410)]:
        for body in [None, b"body"]:
            with server.connect() as client:
                assert client.request("POST", target, body=body).status == status
    wait_until(lambda: len(server.stdout.lines) >= 4, "the access log")
    records = [json.loads(line) for line in server.stdout.lines]
    told = [(record["http.response.status_code"], record.get("portico.reason")) for record in records]
    assert told == [(403, "refused")] * 2 + [(410, None)] * 2
