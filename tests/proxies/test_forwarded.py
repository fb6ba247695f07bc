"""Proxies in front: whose word about the client reaches environ and the log, and what is refused."""

from __future__ import annotations

import json

import pytest

from harness.http_client import Client, request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

NAMED = ("--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8,2001:db8::/32")
NOBODY = ("--forwarded-allow-ips", "none")
# A server of its own, which has heard nothing yet.
APART = ("--keep-alive", "3")
ALL = ("--forwarded-headers", "for,proto,host,port,prefix,forwarded")
FOR, PROTO, HOST, PORT, PREFIX = (
    f"X-Forwarded-{name}" for name in ("For", "Proto", "Host", "Port", "Prefix")
)


@pytest.fixture(scope="module")
def told(serve_module, tmp_path_factory):
    """Asks the one server with these options; returns its environ, or the status of its refusal."""
    servers: dict[tuple[str, ...], object] = {}

    def ask(options: tuple[str, ...], fields, *, target: str = "/", host: str = "test", unix: bool = False):
        key = (*options, str(unix))
        if key not in servers:
            path = tmp_path_factory.mktemp("socket") / "s"
            bind = {"bind": f"unix:{path}"} if unix else {}
            servers[key] = serve_module("apps.echo:application", "--log-level", "debug", *options, **bind)
        server = servers[key]
        with server.connect() as client:
            client.send(request_bytes("GET", target, fields, host=host))
            response = client.read_response()
        if response.status != 200:
            return response.status
        environ = json.loads(response.body)["environ"]
        environ["server.port"] = str(server.address[1]) if not unix else ""
        return environ

    return ask


# (options, fields, what environ says; None: the key is not there; or the status)
PEER = {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "portico.peer": "127.0.0.1"}
MATRIX = {
    "nothing said": ((), [], PEER),
    "one address": (
        (),
        [(FOR, "203.0.113.7")],
        PEER | {"REMOTE_ADDR": "203.0.113.7", "REMOTE_PORT": None},
    ),
    "spoofed left-most": (NAMED, [(FOR, "6.6.6.6, 203.0.113.7")], {"REMOTE_ADDR": "203.0.113.7"}),
    "through named proxies": (
        NAMED,
        [(FOR, "6.6.6.6, 203.0.113.7, 10.0.0.3, 10.0.0.2")],
        {"REMOTE_ADDR": "203.0.113.7"},
    ),
    "all of them named": (NAMED, [(FOR, "10.0.0.3, 10.0.0.2")], {"REMOTE_ADDR": "10.0.0.3"}),
    "in two lines": (NAMED, [(FOR, "6.6.6.6"), (FOR, "203.0.113.7")], {"REMOTE_ADDR": "203.0.113.7"}),
    "with a port": ((), [(FOR, "203.0.113.7:4711")], {"REMOTE_ADDR": "203.0.113.7", "REMOTE_PORT": "4711"}),
    "IPv6": ((), [(FOR, "2001:db8::7")], {"REMOTE_ADDR": "2001:db8::7"}),
    "IPv6 in brackets with a port": (
        (),
        [(FOR, "[2001:DB8:0::7]:4711")],
        {"REMOTE_ADDR": "2001:db8::7", "REMOTE_PORT": "4711"},
    ),
    "IPv6 in a named network": (NAMED, [(FOR, "203.0.113.7, 2001:db8::9")], {"REMOTE_ADDR": "203.0.113.7"}),
    "mapped IPv4": (NAMED, [(FOR, "203.0.113.7, ::ffff:10.0.0.1")], {"REMOTE_ADDR": "203.0.113.7"}),
    "garbage": ((), [(FOR, "<script>")], PEER),
    "garbage behind a named proxy": (NAMED, [(FOR, "203.0.113.7, x, 10.0.0.2")], {"REMOTE_ADDR": "10.0.0.2"}),
    "everybody believed, of one step": (
        ("--forwarded-allow-ips", "*"),
        [(FOR, "6.6.6.6, 203.0.113.7")],
        {"REMOTE_ADDR": "203.0.113.7"},
    ),
    "private": (
        ("--forwarded-allow-ips", "private"),
        [(FOR, "6.6.6.6,203.0.113.7,192.168.0.9")],
        {"REMOTE_ADDR": "203.0.113.7"},
    ),
    "nobody believed": (
        NOBODY,
        [(FOR, "203.0.113.7"), (PROTO, "https")],
        PEER | {"HTTP_X_FORWARDED_FOR": None, "HTTP_X_FORWARDED_PROTO": None},
    ),
    "nobody's other fields": (
        NOBODY,
        [("Forwarded", "for=1.1.1.1"), ("X-Real-IP", "1.1.1.1"), (HOST, "evil"), ("X-Request-Id", "r")],
        PEER
        | {
            "HTTP_FORWARDED": None,
            "HTTP_X_REAL_IP": None,
            "HTTP_X_FORWARDED_HOST": None,
            "HTTP_X_REQUEST_ID": "r",
        },
    ),
    "another network": (("--forwarded-allow-ips", "10.0.0.0/8"), [(FOR, "203.0.113.7")], PEER),
    "https": ((), [(PROTO, "https")], PEER | {"wsgi.url_scheme": "https", "HTTP_X_FORWARDED_PROTO": "https"}),
    "http": ((), [(PROTO, "http")], PEER),
    "X-Forwarded-Ssl": ((), [("X-Forwarded-Ssl", "on")], {"wsgi.url_scheme": "https"}),
    "schemes in conflict": ((), [(PROTO, "https"), ("X-Forwarded-Ssl", "off")], 400),
    "two lines in conflict": ((), [(PROTO, "https"), (PROTO, "http")], 400),
    "a scheme for each step": (
        NAMED,
        [(FOR, "203.0.113.7, 10.0.0.2"), (PROTO, "https, http")],
        {"wsgi.url_scheme": "https"},
    ),
    "own scheme header": (
        ("--secure-scheme-headers", "X-Scheme=tls"),
        [("X-Scheme", "tls"), (PROTO, "http")],
        {"wsgi.url_scheme": "https"},
    ),
    "RFC 7239": (
        (),
        [("Forwarded", 'for="[2001:db8::7]:4711";proto=https')],
        {"REMOTE_ADDR": "2001:db8::7", "REMOTE_PORT": "4711", "wsgi.url_scheme": "https"},
    ),
    "RFC 7239, spoofed": (
        NAMED,
        [("Forwarded", "for=6.6.6.6;proto=https, for=203.0.113.7;proto=http, for=10.0.0.1")],
        {"REMOTE_ADDR": "203.0.113.7", "wsgi.url_scheme": "http"},
    ),
    "RFC 7239, obfuscated": (
        (),
        [("Forwarded", "for=_hidden;proto=https")],
        {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "https"},
    ),
    "RFC 7239, malformed": ((), [("Forwarded", "for=2001:db8::7")], 400),
    "RFC 7239, off": (
        ("--forwarded-headers", "for,proto"),
        [("Forwarded", "for=1.1.1.1")],
        PEER | {"HTTP_FORWARDED": "for=1.1.1.1"},
    ),
    "both agree": (
        (),
        [("Forwarded", "for=203.0.113.7;proto=https"), (FOR, "203.0.113.7"), (PROTO, "https")],
        {"REMOTE_ADDR": "203.0.113.7"},
    ),
    "a client's Forwarded beside the proxy's fields": (
        APART,
        [("Forwarded", "for=203.0.113.7;proto=https"), (FOR, "203.0.113.8"), (PROTO, "http")],
        {"REMOTE_ADDR": "203.0.113.8", "wsgi.url_scheme": "http", "HTTP_FORWARDED": None},
    ),
    "a client's Forwarded, malformed": (
        APART,
        [("Forwarded", "for=2001:db8::7"), (FOR, "203.0.113.8")],
        {"REMOTE_ADDR": "203.0.113.8", "HTTP_FORWARDED": None},
    ),
    "a client's host": (
        (*ALL, *APART),
        [("Forwarded", "host=a.example"), (HOST, "b.example")],
        {"HTTP_HOST": "b.example", "HTTP_FORWARDED": None},
    ),
    "host not asked for": (
        (),
        [(HOST, "evil.example")],
        {"HTTP_HOST": "test", "HTTP_X_FORWARDED_HOST": "evil.example"},
    ),
    "host": (
        ALL,
        [(HOST, "shop.example"), (PROTO, "https")],
        {"HTTP_HOST": "shop.example", "SERVER_NAME": "shop.example", "SERVER_PORT": "443"},
    ),
    "host with a port": (
        ALL,
        [(HOST, "[2001:db8::1]:8443")],
        {"HTTP_HOST": "[2001:db8::1]:8443", "SERVER_NAME": "[2001:db8::1]", "SERVER_PORT": "8443"},
    ),
    "host and port": (
        ALL,
        [(HOST, "shop.example"), (PORT, "8443"), (PROTO, "https")],
        {"HTTP_HOST": "shop.example:8443", "SERVER_PORT": "8443"},
    ),
    "the usual port": (
        ALL,
        [(HOST, "shop.example"), (PORT, "443"), (PROTO, "https")],
        {"HTTP_HOST": "shop.example", "SERVER_PORT": "443"},
    ),
    "port": (ALL, [(PORT, "8443")], {"HTTP_HOST": "test", "SERVER_PORT": "8443"}),
    "host that is none": (ALL, [(HOST, "a b")], 400),
    "prefix": (ALL, [(PREFIX, "/shop/")], {"SCRIPT_NAME": "/shop", "PATH_INFO": "/"}),
    "prefix before the root path": (
        (*ALL, "--root-path", "/app"),
        [(PREFIX, "/shop")],
        {"SCRIPT_NAME": "/shop/app", "PATH_INFO": "/"},
    ),
    "prefix and root path alike": (
        (*ALL, "--root-path", "/app"),
        [(PREFIX, "/app")],
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/"},
    ),
    "prefix that leads away": (ALL, [(PREFIX, "//evil.example")], 400),
    "SCRIPT_NAME": ((), [("SCRIPT_NAME", "/shop")], {"SCRIPT_NAME": "/shop", "HTTP_SCRIPT_NAME": "/shop"}),
    "nobody's SCRIPT_NAME": (
        NOBODY,
        [("SCRIPT_NAME", "/shop")],
        {"SCRIPT_NAME": "", "HTTP_SCRIPT_NAME": None},
    ),
    "Google's own address": (
        ("--behind", "gclb"),
        [(FOR, "6.6.6.6, 203.0.113.7, 198.51.100.1"), (PROTO, "https")],
        {"REMOTE_ADDR": "203.0.113.7", "wsgi.url_scheme": "https"},
    ),
    "Heroku": (
        ("--behind", "heroku"),
        [(FOR, "6.6.6.6, 203.0.113.7"), (PROTO, "https"), (PORT, "443")],
        {"REMOTE_ADDR": "203.0.113.7", "SERVER_PORT": "443"},
    ),
    "Cloudflare": (
        ("--behind", "cloudflare", *NAMED),
        [(FOR, "6.6.6.6"), ("CF-Connecting-IP", "203.0.113.7")],
        {"REMOTE_ADDR": "203.0.113.7"},
    ),
}


@pytest.mark.parametrize("case", MATRIX)
def test_what_environ_says(told, case):
    options, fields, expected = MATRIX[case]
    target = "/app/" if "--root-path" in options else "/"
    for _ in range(3):  # The third time from what is kept of repeated field lines.
        environ = told(options, fields, target=target)
        if isinstance(expected, int):
            assert environ == expected
        else:
            assert {key: environ.get(key) for key in expected} == expected


def test_same_lines_trusted_and_untrusted_are_distinguished(serve, tmp_path):
    """What is kept of field lines that repeat must not pass from the one to the other."""
    server = serve(
        "apps.echo:application",
        "--forwarded-allow-ips=unix",
        "--forwarder-headers=OIDC_*",
        bind=["127.0.0.1:0", f"unix:{tmp_path}/s"],
    )
    request = request_bytes(
        "GET", "/", [(FOR, "203.0.113.7"), ("X-Forwarded-Server", "s"), ("OIDC_sub", "a")]
    )
    seen = set()
    for _ in range(6):
        for address in server.addresses:
            with Client(address) as client:
                client.send(request)
                environ = json.loads(client.read_response().body)["environ"]
            believed = isinstance(address, str)
            seen.add(
                (
                    believed,
                    environ["REMOTE_ADDR"],
                    environ.get("HTTP_X_FORWARDED_SERVER"),
                    environ.get("HTTP_OIDC_SUB"),
                )
            )
    assert seen == {(True, "203.0.113.7", "s", "a"), (False, "127.0.0.1", None, None)}


@pytest.mark.parametrize(
    ("host", "fields", "expected"),
    [
        ("shop.example", [(PROTO, "https")], ("https", "shop.example", "443")),
        ("shop.example:8000", [(PROTO, "https")], ("https", "shop.example", "8000")),
        ("shop.example", [], ("http", "shop.example", "80")),
    ],
)
def test_peers_on_unix_sockets_are_believed(told, host, fields, expected):
    fields = [*fields, (FOR, "203.0.113.7")]
    environ = told((), fields, host=host, unix=True)
    assert (environ["wsgi.url_scheme"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == expected
    assert (environ["REMOTE_ADDR"], environ["portico.peer"]) == ("203.0.113.7", "unix")
    assert "REMOTE_PORT" not in environ


def test_peers_on_unix_sockets_can_be_disbelieved(told):
    environ = told(NOBODY, [(FOR, "203.0.113.7"), (PROTO, "https")], unix=True)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("", "http")
    assert "HTTP_X_FORWARDED_FOR" not in environ


def test_next_request_of_a_connection_does_not_inherit(serve):
    server = serve("apps.echo:application")
    with server.connect() as client:
        first = json.loads(client.request("GET", "/", [(FOR, "203.0.113.7"), (PROTO, "https")]).body)[
            "environ"
        ]
        second = json.loads(client.request("GET", "/").body)["environ"]
    assert (first["REMOTE_ADDR"], first["wsgi.url_scheme"]) == ("203.0.113.7", "https")
    assert (second["REMOTE_ADDR"], second["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_ignored_scheme_is_logged_once_with_the_remedy(serve):
    server = serve("apps.echo:application", *NOBODY)
    for _ in range(3):
        server.request("GET", "/", [(PROTO, "https")])
    server.expect_log("thinks it is http; if that is your proxy, add --forwarded-allow-ips 127.0.0.1")
    assert len(server.find_records("thinks it is http")) == 1
    quiet = serve("apps.echo:application", *NOBODY)
    quiet.request("GET", "/", [(PROTO, "http"), (FOR, "1.1.1.1")])
    assert not quiet.find_records("thinks it is")


def test_refusal_is_explained_to_proxy_and_log(serve):
    server = serve("apps.echo:application")
    with server.connect() as client:
        client.send(request_bytes("GET", "/", [(PROTO, "https"), (PROTO, "http")]))
        response = client.read_response()
    assert response.status == 400 and b"different schemes" in response.body
    server.expect_log(
        "answered 400 to a request from 127.0.0.1: The fields of the proxy name different schemes"
    )


def test_forged_forwarded_is_logged_once_proxys_must_agree(serve):
    server = serve("apps.echo:application")
    beside = [(FOR, "203.0.113.8"), ("Forwarded", "for=203.0.113.7")]
    for _ in range(3):
        assert server.request("GET", "/", beside).status == 200
    assert len(server.find_records("ignored the Forwarded of a request from 127.0.0.1")) == 1
    assert server.request("GET", "/", beside[1:]).status == 200
    assert server.request("GET", "/", beside).status == 400, "the proxy speaks Forwarded"


# Names with underscores


@pytest.mark.parametrize("peer", ["believed", "not"])
def test_header_map(told, peer):
    trust = NOBODY if peer == "not" else ()
    fields = [("X_Y", "1"), ("X-Y", "2"), ("X_Forwarded_For", "6.6.6.6"), ("Content_Length", "9")]
    environ = told((*trust, "--header-map", "drop"), fields)
    assert environ["HTTP_X_Y"] == "2"
    assert told((*trust, "--header-map", "refuse"), fields) == 400
    environ = told((*trust, "--header-map", "dangerous"), fields)
    assert environ["HTTP_X_Y"] == "2,1"
    assert "HTTP_X_FORWARDED_FOR" not in environ and "HTTP_CONTENT_LENGTH" not in environ


OIDC = ("--forwarder-headers", "OIDC_CLAIM_*,REMOTE_USER")


def test_agreed_names_come_from_believed_proxies(told):
    """NetBox and mod_auth_openidc: one option, and nothing for anybody to spoof."""
    fields = [
        ("OIDC_CLAIM_sub", "alice"),
        ("REMOTE_USER", "alice"),
        ("OIDC-CLAIM-sub", "root"),
        ("Remote-User", "root"),
    ]
    environ = told(OIDC, fields)
    assert (environ["HTTP_OIDC_CLAIM_SUB"], environ["HTTP_REMOTE_USER"]) == ("alice", "alice")
    environ = told((*OIDC, *NOBODY), fields)
    assert "HTTP_OIDC_CLAIM_SUB" not in environ and "HTTP_REMOTE_USER" not in environ
    assert told(OIDC, [("OIDC_CLAIM_a-b", "1"), ("OIDC_CLAIM_a_b", "2")]) == 400


def test_a_dropped_name_is_logged_with_the_remedy(serve):
    server = serve("apps.echo:application")
    server.request("GET", "/", [("OIDC_CLAIM_sub", "alice")])
    server.expect_log("add --forwarder-headers OIDC_CLAIM_sub")


# Elsewhere


def test_log_and_status_tell_the_client(serve):
    server = serve("apps.stuck:application", "--access-logfile", "-")
    with server.connect() as client:
        client.send(request_bytes("GET", "/sleep?seconds=2", [(FOR, "6.6.6.6, 203.0.113.7")]))
        server.rendezvous.wait_for("sleeps")
        for command in ("status", "stacks"):
            ended = run_to_end(command, str(server.pid), cwd=server.rendezvous.folder)
            assert "203.0.113.7" in ended.stdout and "127.0.0.1" not in ended.stdout, ended
        assert client.read_response().status == 200
        client.send(request_bytes("GET", "/ping"))
        client.read_response()
        client.send(request_bytes("GET", "/ping", [(FOR, "203.0.113.8"), (PROTO, "https"), (PROTO, "http")]))
        assert client.read_response().status == 400
    wait_until(lambda: len(server.stdout.lines) >= 3, "three lines of the access log")
    assert [line.split()[0] for line in server.stdout.lines] == ["203.0.113.7", "127.0.0.1", "127.0.0.1"]
    assert '"GET /ping HTTP/1.1" 400' in server.stdout.lines[2]


def test_a_preset_is_told_in_one_line(serve):
    server = serve("apps.echo:application", "--behind", "alb")
    settings = "--forwarded-allow-ips private --forwarded-headers for,proto,port --keep-alive 75"
    server.expect_log(rf"\[INFO\] --behind alb: {settings}")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--behind", "cloudflare"), "--behind: Cloudflare's addresses change"),
        (("--forwarded-allow-ips", "10.0.0.0/33"), '--forwarded-allow-ips: "10.0.0.0/33" is no address'),
        (("--forwarder-headers", "Content_Length"), "--forwarder-headers: "),
        (("--permit-obsolete-folding",), "--permit-obsolete-folding"),
        (("--strip-header-spaces",), "--strip-header-spaces"),
        (("--permit-unconventional-http-version",), "--permit-unconventional-http-version"),
        (("--casefold-http-method",), "--casefold-http-method"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(options, problem):
    ended = run_to_end(*options, "apps.echo:application", cwd=TESTS)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert problem in ended.stderr


@pytest.mark.parametrize(
    ("options", "through_proxy", "directly"),
    [((), 0, 1), (("--early-hints", "always"), 1, 1), (("--early-hints", "never"), 0, 0)],
)
def test_early_hints_go_only_to_capable_proxies(serve, options, through_proxy, directly):
    server = serve("apps.behind:application", *options)
    with server.connect() as client:
        for fields, count in ([(FOR, "203.0.113.7")], through_proxy), ([], directly):
            response = client.request("GET", "/hinted", fields)
            assert (len(response.interim), response.body) == (count, b"hinted")
