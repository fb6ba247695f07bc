"""Other spellings of a path or a host never lead around the route that is meant.

Each kind of route is asked with every spelling, over HTTP/1, HTTP/2 and the gateways' protocols. The response
is that of the route, or 400; it is never the application's.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.server import TESTS, Server

ECHO = "apps.echo:application"
SECRET = b"this file is not for clients"
OPEN = b"this file is"

# A name below /admin that is a file where files are served, written in other ways. Some program or other
# takes each of them for /admin or for what is below it.
SAME = [
    "/admin/x",
    "//admin/x",
    "/admin//x",
    "///admin///x",
    "/%61dmin/x",
    "/%61%64%6d%69%6E/x",
    "/adm%69n/%78",
    "/y/../admin/x",
    "/y/%2e%2e/admin/x",
    "/y/.%2e/admin/x",
    "/y/%2E./admin/x",
    "/y/z/../../admin/x",
    "/../admin/x",
    "/%2e%2e/admin/x",
    "/./admin/x",
    "/%2e/admin/x",
    "/admin/./x",
    "/admin/y/../x",
    "/admin/../admin/x",
    "/admin/%2e%2e/admin/x",
    "/%2fadmin/x",
    "/%2Fadmin%2Fx",
    "/admin%2fx",
    "/y%2f..%2fadmin/x",
    "/y/..%2fadmin/x",
    "/y;/../admin/x",
    "/y;a=b/..;/admin/x",
    "/..;/admin/x",
    "/admin/..;/admin/x",
    "/admin/x%00",
    "/admin%00/x",
    "/admin/%00x",
    "/%00/admin/x",
    "/admin%5cx",
    "/admin%5Cx",
    "/%5cadmin/x",
    "/%5c%5cadmin%5cx",
    "/y/..%5cadmin/x",
    "/y%5c..%5cadmin%5cx",
    "/..%5cadmin/x",
    "/admin/x?y=/",
    "http://test/admin/x",
    "http://test//admin/x",
    "http://test/y/../admin/x",
    "http://test/%61dmin/x",
]
# Other paths, which a route that is too eager would take: they are the application's, as they are. A
# backslash is no slash for any framework of WSGI, but for some applications: only where both readings are the
# application's does the path reach it. Where files are looked for, it is refused (OUTSIDE).
OTHERS = [
    "/administrator",
    "/Admin/x",
    "/admin.html",
    "/y/admin/x",
    "/admi",
    "/%2561dmin/x",
    "/admin%20/x",
    "/y%5cadmin/x",
    "/administrator%5cx",
    "/y/admin%5c..%5cx",
]
# Ways out of a folder that is served, or to what is in it and never served.
OUTSIDE = [
    "/admin/../secret",
    "/admin/%2e%2e/secret",
    "/admin/%252e%252e/secret",
    "/admin/..%2fsecret",
    "/admin/..%5csecret",
    "/admin/..\\secret",
    "/admin/%c0%ae%c0%ae/secret",
    "/admin/%e0%80%ae%e0%80%ae/secret",
    "/admin/..%00/secret",
    "/admin/....//secret",
    "/admin/.%00./secret",
    "/admin../secret",
    "/admin../files/x",
    "/admin%2f..%2fsecret",
    "/admin//{folder}/secret",
    "/admin/%2f{folder}/secret",
    "//{folder}/secret",
    "http://test/admin/../secret",
    "/admin/out",
    "/admin/out/secret",
    "/admin/.env",
    "/admin/%2eenv",
    "/admin/.hidden/config",
    "/admin/x/../.env",
    "/admin/./.env",
]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of route: what it says of /admin, and with which statuses it responds."""

    keys: str
    statuses: frozenset[int]
    # A part of the bodies with which it responds 200.
    body: bytes = b""


def kind(keys: str, *statuses: int, body: bytes = b"") -> Kind:
    return Kind(keys, frozenset(statuses), body)


# A guard that is new belongs here.
KINDS = {
    "redirect": kind("redirect = '/elsewhere'", 302),
    "respond": kind("respond = 410", 410),
    "deny": kind("deny = ['0.0.0.0/0', '::/0']", 403),
    "allow": kind("allow = []", 403),
    "auth": kind("auth = 'users'", 401),
    "limit": kind("limit = '1/d burst 1'", 429),
    "static": kind("static = 'files'", 200, 404, body=OPEN),
    "internal": kind("static = 'files'\ninternal = true", 404),
    "mount": kind("app = 'guarded:app'", 200, body=b"guarded"),
}
USERS = "bob:$2b$10$Zo0Nn9yTsTQ5K3NUYMwqUeRWCdTDKzP/lURwVx4CdA6SS1rn49i.S\n"


def site(folder: Path, routes: str) -> None:
    """A folder with everything that the routes name, and a secret beside it."""
    (folder / "files/.hidden").mkdir(parents=True)
    for name in ("secret", "files/.env", "files/.hidden/config"):
        (folder / name).write_bytes(SECRET)
    (folder / "files/x").write_bytes(OPEN)
    (folder / "files/out").symlink_to(folder)
    (folder / "users").write_text(USERS)
    (folder / "guarded.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [b'guarded']\n"
    )
    (folder / "portico.toml").write_text(routes)


def started(serve, folder: Path, *arguments: str | None, **settings) -> Server:
    """A server of this folder."""
    return serve.start(*arguments, "--pythonpath", str(TESTS), cwd=folder, **settings).wait_ready()


@pytest.fixture(scope="module", params=KINDS)
def guarded(request, serve_module, tmp_path_factory) -> tuple[Server, Kind, str, Path]:
    """A server with a route of one kind, which speaks every protocol."""
    folder = tmp_path_factory.mktemp("site")
    site(folder, f"[[route]]\npath = '/admin'\n{KINDS[request.param].keys}\n")
    binds = ["127.0.0.1:0", *(f"{protocol}://unix:{folder}/{protocol}.sock" for protocol in PROTOCOLS)]
    server = started(serve_module, folder, ECHO, bind=binds)
    found = KINDS[request.param]
    if request.param == "limit":
        one(server, "/admin/x")  # From here on it is used up for this client.
    return server, found, request.param, folder


def one(server: Server, target: str, host: str = "test") -> tuple[int, bytes]:
    """Status and body of the response to one request on a connection of its own."""
    with server.connect() as client:
        client.send(request_bytes("GET", target, host=host))
        response = client.read_response()
        return response.status, response.body


def check(kind: Kind, target: str, status: int, body: bytes) -> None:
    """Asserts that the response is the route's, or a refusal."""
    assert status == 400 or status in kind.statuses, (target, status, body[:200])
    assert status != 200 or kind.body in body, (target, body[:200])
    assert SECRET not in body, target


def test_http1(guarded):
    server, kind, _, _ = guarded
    for target in SAME:
        check(kind, target, *one(server, target))


def test_http2(guarded):
    server, kind, _, _ = guarded
    with Http2Client(server.addresses[0]) as client:
        for target in SAME:
            if target.startswith("/"):
                answer = client.request(target)
                check(kind, target, answer.status, answer.body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways(guarded, protocol):
    """What counts is the path with which the gateway's application is called."""
    _, kind, name, folder = guarded
    if name == "limit":
        ask(
            f"{folder}/{protocol}.sock", protocol, variables("/admin/x")
        )  # The client that the gateway names.
    for target in SAME:
        path = unquote_to_bytes(target.removeprefix("http://test").partition("?")[0]).decode("latin-1")
        if "\0" in path:
            continue
        asked = variables("/", PATH_INFO=path)
        answer = ask(f"{folder}/{protocol}.sock", protocol, asked)
        check(kind, path, answer.status, answer.body)


def test_other_paths_are_the_applications(guarded):
    server, kind, _, _ = guarded
    for target in OTHERS:
        status, body = one(server, target)
        assert status == 200 and b'"environ"' in body, (target, status, kind)


@pytest.mark.parametrize("guarded", ["static", "internal"], indirect=True)
def test_nothing_outside_of_a_folder_is_served(guarded):
    server, _, _, folder = guarded
    for target in OUTSIDE:
        status, body = one(server, target.format(folder=str(folder).strip("/")))
        assert SECRET not in body, target
        assert status in (400, 404) or b'"environ"' in body, (target, status, body)


HOSTS = [
    ("example.com", 210),
    ("EXAMPLE.Com", 210),
    ("example.com:80", 210),
    ("example.com:8080", 210),
    ("example.com.", 210),
    ("example.com.:80", 210),
    ("www.example.com", 211),
    ("a.b.EXAMPLE.com", 211),
    ("www.example.com.", 211),
    ("127.0.0.1", 212),
    ("127.0.0.1:80", 212),
    ("[::1]", 213),
    ("[::1]:80", 213),
    ("[0:0::1]", 213),
    ("other.example", 421),
    ("badexample.com", 421),
    ("example.com.evil.example", 421),
    ("evil.example:80", 421),
    ("example.org", 421),
    ("[::2]", 421),
    ("example.com..", 400),
    (".example.com", 400),
    ("evil:80@example.com", 400),
    ("example.com@evil.example", 400),
    ("example.com/evil", 400),
    ("example.com:80:80", 400),
    ("example.com:x", 400),
    ("example.com evil", 400),
    ("example.com,evil.example", 400),
    ("exam%70le.com", 400),
    ("[::1", 400),
    ("::1", 400),
    ("", 421),
]
HOST_ROUTES = """
[[route]]
host = "example.com"
respond = 210
[[route]]
host = "*.example.com"
respond = 211
[[route]]
host = "127.0.0.1"
respond = 212
[[route]]
host = "[::1]"
respond = 213
"""
# Everybody else: none of the routes.
UNKNOWN = "[[route]]\nrespond = 421\n"


@pytest.fixture(scope="module", params=["named", "only"])
def hosts(request, serve_module, tmp_path_factory) -> Server:
    """A server of several hosts: with a route for others, and with neither that nor a main application."""
    folder = tmp_path_factory.mktemp("hosts")
    if request.param == "named":
        site(folder, HOST_ROUTES + UNKNOWN)
        return started(serve_module, folder, ECHO)
    site(folder, HOST_ROUTES + '[[route]]\nhost = "shop.example"\napp = "guarded:app"\n')
    return started(serve_module, folder, None)


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_hosts(hosts, host, status):
    found, body = one(hosts, "/", host)
    assert found == status, (host, body)
    assert b'"environ"' not in body


def test_hosts_of_http2(hosts):
    for host, status in HOSTS:
        if not host or " " in host:
            continue  # A mistake of the stream, which is reset without a status.
        with Http2Client(hosts.addresses[0]) as client:
            answer = client.request("/", authority=host)
            assert answer.status == status, (host, answer)


def test_the_host_of_an_absolute_target_counts(hosts):
    for target, host, status in [
        ("http://example.com/", "other.example", 210),
        ("http://other.example/", "example.com", 421),
        ("http://example.com@other.example/", "example.com", 400),
        ("http://EXAMPLE.com.:80/", "test", 210),
    ]:
        assert one(hosts, target, host)[0] in (status, 400), (target, host)


def test_two_hosts_or_none_are_refused(hosts):
    for head in [
        b"GET / HTTP/1.1\r\nHost: example.com\r\nHost: other.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: example.com\r\nHost: example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ]:
        with hosts.connect() as client:
            client.send(head)
            assert client.read_response().status == 400, head
