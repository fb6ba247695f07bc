"""`--allowed-hosts`: requests for other hosts are answered 421 before anything is done for them."""

from __future__ import annotations

import json
import socket
import ssl

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.server import run_to_end

ECHO = "apps.echo:application"
HOSTS = ("--allowed-hosts", "example.com,.example.net,*.example.org,10.0.0.0/8,[::1]")
ALLOWED = [
    "example.com",
    "EXAMPLE.com.",
    "example.com:8000",
    "example.net",
    "a.b.example.net",
    "a.example.org:1",
    "10.1.2.3",
    "10.1.2.3:8000",
    "[::1]:8000",
    "[0:0:0::1]",
]
OTHERS = ["evil.test", "a.example.com", "example.org", "example.com.evil.test", "11.0.0.1", "[::2]", "com"]
PROXY = ("--forwarded-allow-ips", "127.0.0.1", "--forwarded-headers", "for,proto,host,port,forwarded")


@pytest.fixture(scope="module")
def server(serve_module):
    """One that believes proxies on the loopback interface what hosts they say."""
    server = serve_module(ECHO, *HOSTS, *PROXY)
    yield server
    assert server.find_records("among --allowed-hosts"), "the log says so"


def status(server, data: bytes) -> int:
    """The status of the answer to these bytes; a 421 ends the connection."""
    with server.connect() as client:
        client.send(data)
        response = client.read_response()
        if response.status == 421:
            assert response.closes and response.reason == "Misdirected Request", response
            client.expect_end()
        return response.status


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("host", [*ALLOWED, *OTHERS])
def test_the_field_host(server, host, version):
    assert status(server, request_bytes(host=host, version=version)) == (200 if host in ALLOWED else 421)


def test_request_without_a_host_names_the_server(server):
    with server.connect() as client:
        client.send(request_bytes(host=None, version="HTTP/1.0"))
        environ = json.loads(client.read_response().body)["environ"]
    assert environ["SERVER_NAME"] == "127.0.0.1" and "HTTP_HOST" not in environ


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://example.com/", "evil.test", 200),
        ("http://EXAMPLE.com.:8000/a?b", "evil.test", 200),
        ("http://evil.test/", "example.com", 421),
        ("https://evil.test", "example.com", 421),
    ],
)
def test_host_of_the_target_replaces_the_field(server, target, host, expected):
    """As it does in environ (RFC 9112, section 3.2.2)."""
    assert status(server, request_bytes(target=target, host=host)) == expected


def test_http2_answers_the_stream_and_goes_on(serve_module, server):
    with Http2Client(server.address) as client:
        for authority in [*ALLOWED, *OTHERS]:
            stream = client.next_stream
            client.next_stream += 2
            head = client.head("POST", "/", authority=authority)
            client.send_frame(client.headers_frame(stream, head))
            if authority in ALLOWED:
                client.data(stream, b"body", end=True)
            answer = client.answer(stream)
            assert answer.status == (200 if authority in ALLOWED else 421), authority


def test_tls(serve, pair, authority):
    server = serve(ECHO, *pair.options, "--allowed-hosts", "localhost:443")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    for host, expected in [("localhost", b"200"), ("localhost:8443", b"421"), ("evil.test", b"421")]:
        with socket.create_connection(server.address, timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(request_bytes(host=host, fields=[("Connection", "close")]))
                assert client.recv(12).endswith(expected), host


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways(serve, tmp_path, protocol):
    path = f"{tmp_path}/{protocol}.sock"
    serve(ECHO, *HOSTS, bind=f"{protocol}://unix:{path}")
    for host in ALLOWED:
        assert ask(path, protocol, variables(HTTP_HOST=host)).status == 200, host
    for host in OTHERS:
        answer = ask(path, protocol, variables(HTTP_HOST=host))
        assert answer.status == 421, host
    assert (
        ask(path, protocol, variables(HTTP_HOST="example.com", HTTP_X_FORWARDED_HOST="evil.test")).status
        == 421
    )
    named = variables()
    del named["HTTP_HOST"]
    assert ask(path, protocol, named).status == 421, (
        "the application would take SERVER_NAME, which is another"
    )
    assert ask(path, protocol, named | {"SERVER_NAME": "example.com"}).status == 200
    assert ask(path, protocol, named | {"SERVER_NAME": ""}).status == 200


@pytest.mark.parametrize(
    ("fields", "host", "expected"),
    [
        ([("X-Forwarded-Host", "example.com")], "upstream", 200),
        ([("X-Forwarded-Host", "evil.test")], "example.com", 421),
        ([("X-Forwarded-Host", "evil.test, example.com")], "upstream", 421),
        ([("X-Forwarded-Host", "example.net, example.com")], "upstream", 200),
        ([("Forwarded", "host=example.com")], "upstream", 200),
        ([("Forwarded", "host=evil.test")], "example.com", 421),
        ([], "upstream", 421),
    ],
)
def test_the_host_that_a_believed_proxy_tells(server, fields, host, expected):
    """Whatever the proxy calls this server; and all that is passed on to the application is looked at."""
    assert status(server, request_bytes(fields=fields, host=host)) == expected


@pytest.mark.parametrize(
    ("options", "forwarded", "expected"),
    [
        # It is used for nothing, but an application may read it.
        (("--forwarded-allow-ips", "127.0.0.1"), "evil.test", 421),
        (("--forwarded-allow-ips", "127.0.0.1"), "example.com", 200),
        # It does not reach the application.
        (("--forwarded-allow-ips", "none"), "evil.test", 200),
    ],
)
def test_a_forwarded_host_that_is_not_used(serve, options, forwarded, expected):
    server = serve(ECHO, *HOSTS, *options)
    data = request_bytes(fields=[("X-Forwarded-Host", forwarded)], host="example.com")
    assert status(server, data) == expected


def test_the_port_that_is_meant_without_one(serve):
    server = serve(ECHO, "--allowed-hosts", "example.com:443,example.net:8443", *PROXY)
    for host, fields, expected in [
        ("example.com", [("X-Forwarded-Proto", "https")], 200),
        ("example.com", [], 421),
        ("example.com:443", [], 200),
        ("example.net", [("X-Forwarded-Host", "example.net"), ("X-Forwarded-Port", "8443")], 200),
    ]:
        assert status(server, request_bytes(fields=fields, host=host)) == expected, (host, fields)


def test_nothing_is_done_for_another_host(serve):
    """No body is asked for or read, and no thread is taken: here there is one, and it is busy."""
    server = serve("apps.stuck:application", *HOSTS, "--threads", "1")
    with server.connect() as busy, server.connect() as client:
        busy.send(request_bytes(target="/stream?blocks=4&pause=0.5", host="example.com"))
        busy.read_head()
        fields = [("Expect", "100-continue"), ("Content-Length", "1000000")]
        client.send(request_bytes("POST", fields=fields, host="evil.test"))
        response = client.read_response()
        assert (response.status, response.interim) == (421, [])
        assert b"".join(busy.read_chunks()) == b"block." * 4


def test_refused_hosts_are_logged_by_powers_of_two(serve):
    server = serve(ECHO, *HOSTS)
    for number in range(9):
        assert status(server, request_bytes(host=f"evil{number}.test")) == 421
    server.expect_log("answered 421 to a request from 127.0.0.1: the host evil", 4)
    told = server.find_records("answered 421 to a request from 127.0.0.1: the host evil")
    ends = ["", " (2 so far)", " (4 so far)", " (8 so far)"]
    assert [record.partition("--allowed-hosts")[2].rstrip() for record in told] == ends


@pytest.mark.parametrize("options", [(), HOSTS])
def test_redirect_names_no_invalid_or_disallowed_host(serve, pair, options):
    server = serve(ECHO, *pair.options, *options, bind=["redirect://127.0.0.1:0", "https://127.0.0.1:0"])
    port = server.addresses[1][1]
    malformed = [
        'a"b',
        "a<b>",
        "a b",
        "user@example.com",
        "[::1",
        "example.com:99999",
        "example.com/x",
        "a\\b",
        "é",
    ]
    expected = [(host, 400) for host in malformed]
    expected += [(host, 308) for host in ALLOWED]
    expected += [(host, 421 if options else 308) for host in OTHERS]
    for host, status_expected in expected:
        for data in (request_bytes(host=host), request_bytes(host=host, version="HTTP/1.0")):
            with socket.create_connection(server.addresses[0], timeout=10) as client:
                client.sendall(data)
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
            assert int(answer.split()[1]) == status_expected, (host, answer)
            if status_expected != 308:
                assert b"ocation" not in answer and host.encode("latin-1") not in answer, answer
                continue
            name = host[: host.index("]") + 1] if host[0] == "[" else host.split(":")[0]
            assert f"\r\nLocation: https://{name}:{port}/\r\n".encode() in answer


def test_redirect_behind_a_proxy_names_the_clients_host(serve, pair):
    server = serve(
        ECHO, *pair.options, *HOSTS, *PROXY, bind=["redirect://127.0.0.1:0", "https://127.0.0.1:0"]
    )
    for forwarded, expected in [("example.com", 308), ("evil.test", 421)]:
        with socket.create_connection(server.addresses[0], timeout=10) as client:
            client.sendall(request_bytes(fields=[("X-Forwarded-Host", forwarded)], host="upstream"))
            answer = client.recv(65536)
        assert int(answer.split()[1]) == expected
        assert (b"Location: https://example.com:" in answer) == (expected == 308), answer


def test_warm_up_asks_for_an_allowed_host(serve):
    server = serve(ECHO, "--warmup", "/", "--allowed-hosts", "*.example.org")
    assert server.request("GET", "/ping", [("Host", "a.example.org")]).status in (200, 400)


SAID = {
    "portico.toml": 'allowed_hosts = ["example.com", ".example.net"]\n',
    "gunicorn.conf.py": 'allowed_hosts = ["example.com", ".example.net"]\n',
}


@pytest.mark.parametrize("place", [*SAID, "environment"])
def test_it_is_said_as_any_setting(tmp_path, place):
    environment = {}
    if place == "environment":
        environment = {"PORTICO_ALLOWED_HOSTS": "example.com,.example.net"}
    else:
        (tmp_path / place).write_text(SAID[place])
    shown = json.loads(run_to_end("config", "--json", cwd=tmp_path, environment=environment).stdout)
    assert shown["allowed_hosts"]["value"] == ["example.com", ".example.net"]
    wrong = run_to_end("check", ECHO, "--allowed-hosts", "http://example.com", cwd=tmp_path)
    assert wrong.returncode == 1 and '--allowed-hosts: "http://example.com" is no host' in wrong.stderr
