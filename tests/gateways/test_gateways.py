"""uwsgi, SCGI and FastCGI, as a web server speaks them."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time

import pytest

from harness import gateway_client as wire
from harness.gateway_client import PROTOCOLS, Gateway, ask, variables
from harness.rendezvous import wait_until

APP = "apps.behind:application"
# The lowest numbers of a free port, printed at the start.
FREE = "127.0.0.1:0"


@pytest.fixture(scope="module")
def addresses(serve_module, tmp_path_factory):
    """A server that speaks all three over UNIX sockets, and where."""
    folder = tmp_path_factory.mktemp("sockets")
    binds = {protocol: f"{protocol}://unix:{folder}/{protocol}.sock" for protocol in PROTOCOLS}
    serve_module(APP, "--keep-alive", "30", bind=list(binds.values()))
    return {protocol: f"{folder}/{protocol}.sock" for protocol in PROTOCOLS}


def echoed(address, protocol: str, values, body: bytes = b"") -> dict:
    answer = ask(address, protocol, values, body)
    assert answer.status == 200, answer
    return json.loads(answer.body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEach:
    def test_environ_is_what_the_gateway_tells(self, addresses, protocol):
        values = variables(
            "/a%20b/%C3%A4?c=%20d",
            PATH_INFO="/a b/\xc3\xa4",
            HTTP_ACCEPT="*/*",
            HTTP_X_TWICE="1",
            HTTP_COOKIE="a=b",
            HTTPS="on",
            REMOTE_USER="alice",
            SSL_CLIENT_CERT="-----BEGIN\nlines\n",
        )
        told = echoed(addresses[protocol], protocol, values)
        environ = told["environ"]
        for name, value in {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/a b/\xc3\xa4",
            "QUERY_STRING": "c=%20d",
            "REQUEST_URI": "/a%20b/%C3%A4?c=%20d",
            "RAW_URI": "/a%20b/%C3%A4?c=%20d",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "gateway.example",
            "SERVER_PORT": "8080",
            "REMOTE_ADDR": "192.0.2.7",
            "REMOTE_PORT": "40000",
            "REMOTE_USER": "alice",
            "HTTP_HOST": "site.example",
            "HTTP_ACCEPT": "*/*",
            "HTTP_X_TWICE": "1",
            "HTTP_COOKIE": "a=b",
            "HTTPS": "on",
            "SSL_CLIENT_CERT": "-----BEGIN\nlines\n",
            "DOCUMENT_ROOT": "/usr/share/nginx/html",
        }.items():
            assert environ[name] == value, name
        assert "CONTENT_TYPE" not in environ
        assert all(kind == "str" for name, kind in told["types"].items() if name.isupper())
        # REQUEST_SCHEME says http: the more particular word counts.
        assert environ["wsgi.url_scheme"] == "http"
        del values["REQUEST_SCHEME"]
        https = echoed(addresses[protocol], protocol, values)
        assert https["environ"]["wsgi.url_scheme"] == "https"
        again = echoed(addresses[protocol], protocol, variables(UWSGI_SCHEME="https"))
        assert again["environ"]["wsgi.url_scheme"] == "https"

    def test_bodies_and_responses_of_any_form_pass(self, addresses, protocol):
        body = bytes(range(256)) * 40_000
        values = variables("/mirror", "POST", CONTENT_TYPE="application/x-thing")
        answer = ask(addresses[protocol], protocol, values, body)
        assert answer.status == 200 and answer.body == body
        assert answer.field("Content-Length") == str(len(body))
        told = echoed(addresses[protocol], protocol, variables("/", "POST", CONTENT_TYPE="text/x"), b"abc")
        assert told["body"] == "abc"
        assert told["environ"]["CONTENT_LENGTH"] == "3" and told["environ"]["CONTENT_TYPE"] == "text/x"
        blocks = ask(addresses[protocol], protocol, variables("/unknown-length"))
        assert len(blocks.body) == 700_000 and blocks.field("Content-Length") is None
        for answer in (blocks, ask(addresses[protocol], protocol, variables("/pid"))):
            names = {name.lower() for name, _ in answer.fields}
            assert not names & {"connection", "transfer-encoding", "date", "server", "status"}

    def test_answers_without_a_body(self, addresses, protocol):
        head = ask(addresses[protocol], protocol, variables("/mirror", "HEAD"), b"abc")
        assert (head.status, head.body, head.field("Content-Length")) == (200, b"", "3")
        cached = ask(addresses[protocol], protocol, variables("/cached", HTTP_IF_NONE_MATCH='"unchanged"'))
        assert (cached.status, cached.body) == (304, b"")

    def test_a_request_that_comes_byte_by_byte(self, addresses, protocol):
        with Gateway(addresses[protocol], protocol) as gateway:
            for byte in wire.packed(protocol, variables("/mirror", "POST"), b"slow"):
                gateway.send(bytes([byte]))
            assert gateway.read_answer().body == b"slow"

    def test_mounts(self, addresses, protocol):
        def place(**values: str) -> tuple[str, str]:
            environ = echoed(addresses[protocol], protocol, variables(**values))["environ"]
            return environ["SCRIPT_NAME"], environ["PATH_INFO"]

        assert place(target="/app/x", SCRIPT_NAME="/app", PATH_INFO="/x") == ("/app", "/x")
        assert place(target="/app/x", SCRIPT_NAME="/app", PATH_INFO="/app/x") == ("/app", "/x")
        assert place(target="/app//./x", SCRIPT_NAME="/app/", PATH_INFO="/app/x") == ("/app", "/x")
        assert place(target="/app/app/x", SCRIPT_NAME="/app", PATH_INFO="/app/x") == ("/app", "/app/x")
        # What nginx has merged must not be taken for a mount.
        assert place(target="/app//app/x", SCRIPT_NAME="/app", PATH_INFO="/app/x") == ("/app", "/app/x")
        assert place(target="/apple", SCRIPT_NAME="/app", PATH_INFO="/apple") == ("/app", "/apple")
        assert place(target="/app", SCRIPT_NAME="/app", PATH_INFO="") == ("/app", "")

    def test_paths_without_path_info(self, addresses, protocol):
        def place(target: str, **values: str) -> tuple[str, str]:
            told = variables(target, **values)
            del told["PATH_INFO"]
            environ = echoed(addresses[protocol], protocol, told)["environ"]
            return environ["SCRIPT_NAME"], environ["PATH_INFO"]

        assert place("/a%20b?c") == ("", "/a b")
        assert place("/app/a%20b", SCRIPT_NAME="/app") == ("/app", "/a b")
        assert place("/app", SCRIPT_NAME="/app") == ("/app", "")
        # nginx' fastcgi_params, and Apache's mod_proxy_fcgi.
        assert place("/a%20b", SCRIPT_NAME="/a b", DOCUMENT_URI="/a b") == ("", "/a b")
        assert place("/a", SCRIPT_NAME="/a", SCRIPT_FILENAME="proxy:fcgi://127.0.0.1:9/a") == ("", "/a")

    def test_a_gateway_that_tells_no_request_uri(self, addresses, protocol):
        values = variables(SCRIPT_NAME="/app", PATH_INFO="/a b", QUERY_STRING="c")
        del values["REQUEST_URI"]
        environ = echoed(addresses[protocol], protocol, values)["environ"]
        assert environ["REQUEST_URI"] == "/app/a%20b?c"
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/a b")

    def test_no_variable_clobbers_what_is_the_servers(self, addresses, protocol):
        values = variables(
            "/",
            **{
                "wsgi.url_scheme": "gopher",
                "portico.peer": "nobody",
                "HTTP_TRANSFER_ENCODING": "chunked",
                "HTTP_CONNECTION": "keep-alive",
                "HTTP_CONTENT_LENGTH": "7",
            },
        )
        environ = echoed(addresses[protocol], protocol, values, b"body")["environ"]
        assert environ["wsgi.url_scheme"] == "http" and environ["portico.peer"] == "unix"
        assert not {"HTTP_TRANSFER_ENCODING", "HTTP_CONNECTION", "HTTP_CONTENT_LENGTH"} & environ.keys()
        assert environ["CONTENT_LENGTH"] == "4"

    def test_forwarded_fields_count_behind_a_trusted_proxy(self, addresses, protocol):
        spoofed = variables(HTTP_X_FORWARDED_FOR="198.51.100.1", HTTP_X_FORWARDED_PROTO="https")
        environ = echoed(addresses[protocol], protocol, spoofed)["environ"]
        assert environ["REMOTE_ADDR"] == "192.0.2.7" and environ["wsgi.url_scheme"] == "http"
        # The gateway may have set them itself: they are the application's to judge.
        assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
        proxied = spoofed | {"REMOTE_ADDR": "127.0.0.1"}
        environ = echoed(addresses[protocol], protocol, proxied)["environ"]
        assert environ["REMOTE_ADDR"] == "198.51.100.1" and environ["wsgi.url_scheme"] == "https"
        assert environ["portico.peer"] == "unix" and "REMOTE_PORT" not in environ

    def test_what_a_client_has_done_wrong_is_answered(self, addresses, protocol):
        for values, status in [
            (variables(HTTP_HOST="a b"), 400),
            (variables(HTTP_X="a\nb"), 400),
            (variables(REQUEST_URI="/a b"), 400),
            (variables("/", "CONNECT"), 501),
            (variables("/" + "a" * 8200), 414),
            (variables(HTTP_X="a" * 8200), 431),
            (variables(**{f"HTTP_X{number}": "" for number in range(101)}), 431),
            (variables(**{f"X{number}": "" for number in range(257)}), 431),
        ]:
            assert ask(addresses[protocol], protocol, values).status == status


def test_uwsgi_of_another_modifier_is_closed_and_logged(serve, tmp_path):
    server = serve(APP, bind=f"uwsgi://unix:{tmp_path}/sock")
    for data in (wire.uwsgi(variables(), modifier1=5), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01"):
        with Gateway(server.address, "uwsgi") as gateway:
            gateway.send(data)
            assert gateway.read_to_end() == b""
    server.expect_log(r"closed a uwsgi connection of a UNIX socket: .* modifier 0\. \(1 so far\)")
    server.expect_log(r"\(2 so far\)")
    assert not server.find_records(r"\(3 so far\)")


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        ("uwsgi", b"\0\x05\0\0\x04\0abc"),
        ("scgi", b"GET / HTTP/1.1\r\n"),
        ("scgi", b"5:abcde;"),
        ("scgi", wire.scgi(variables()).replace(b"SCGI\0001\0", b"SCGI\0002\0")),
        ("fastcgi", b"GET / HTTP/1.1\r\n"),
        ("fastcgi", wire.begin() + wire.record(wire.STDIN)),
        ("fastcgi", wire.begin() + wire.record(wire.PARAMS, b"\x05\x05abc") + wire.record(wire.PARAMS)),
    ],
)
def test_what_is_malformed_is_closed_with_one_line(addresses, protocol, data):
    with Gateway(addresses[protocol], protocol) as gateway:
        gateway.send(data)
        assert gateway.read_to_end() == b""


def test_scgi_refuses_a_variable_that_comes_twice(addresses):
    data = wire.scgi(variables() | {"PATH_INFX": "/other"}).replace(b"PATH_INFX", b"PATH_INFO")
    with Gateway(addresses["scgi"], "scgi") as gateway:
        gateway.send(data)
        assert gateway.read_answer().status == 400


def test_uwsgi_takes_the_last_of_repeated_variables(addresses):
    data = wire.uwsgi(variables() | {"PATH_INFX": "/other"}).replace(b"PATH_INFX", b"PATH_INFO")
    with Gateway(addresses["uwsgi"], "uwsgi") as gateway:
        gateway.send(data)
        assert json.loads(gateway.read_answer().body)["environ"]["PATH_INFO"] == "/other"


def test_uwsgi_chunked_body_without_length_gets_411(addresses):
    values = variables("/mirror", "POST", HTTP_TRANSFER_ENCODING="chunked")
    assert ask(addresses["uwsgi"], "uwsgi", values).status == 411


def test_body_limit(serve, tmp_path):
    binds = [f"{protocol}://unix:{tmp_path}/{protocol}" for protocol in PROTOCOLS]
    serve(APP, "--limit-request-body", "4", bind=binds)
    for protocol in PROTOCOLS:
        address = f"{tmp_path}/{protocol}"
        assert ask(address, protocol, variables("/mirror", "POST"), b"abcd").body == b"abcd"
        assert ask(address, protocol, variables("/mirror", "POST"), b"abcde").status == 413
    with Gateway(f"{tmp_path}/fastcgi", "fastcgi") as gateway:
        gateway.send(wire.fastcgi(variables("/mirror", "POST"))[:-8])
        gateway.send(wire.record(wire.STDIN, b"abcde"))
        assert gateway.read_answer().status == 413


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_deadlines(serve, tmp_path, protocol):
    server = serve(APP, "--head-timeout", "1", "--body-timeout", "1", bind=f"{protocol}://unix:{tmp_path}/s")
    data = wire.packed(protocol, variables("/mirror", "POST"), b"abcdefgh" * 8)
    for cut, status in [(len(data) - 90, None), (len(data) - 20, 408)]:
        with Gateway(server.address, protocol) as gateway:
            gateway.send(data[:cut])
            started = time.monotonic()
            answer = gateway.read_to_end()
            assert time.monotonic() - started > 0.5
            assert status is None or b"408" in answer


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_gateways_that_are_named_over_tcp(serve, protocol):
    server = serve(APP, "--uwsgi-allow-from", "192.0.2.1", bind=f"{protocol}://{FREE}")
    with Gateway(server.address, protocol) as gateway:
        try:
            gateway.send(wire.packed(protocol, variables("/pid")))
            assert gateway.read_to_end() == b""
        except ConnectionError:
            pass
    server.expect_log(rf"closed a {protocol} connection of 127.0.0.1, which is not among --uwsgi-allow-from")
    allowed = serve(APP, "--protocol", protocol)
    assert ask(allowed.address, protocol, variables("/pid")).status == 200


@pytest.mark.parametrize("client", ["203.0.113.9", "127.0.0.1"])
def test_proxy_fields_of_gateway_clients_are_removed(serve, tmp_path, client):
    path = tmp_path / "uwsgi.sock"
    serve(APP, "--forwarder-headers", "REMOTE_USER", bind=f"uwsgi://unix:{path}")
    values = variables(
        "/", REMOTE_ADDR=client, REMOTE_USER="alice", HTTP_REMOTE_USER="admin", HTTP_X_OTHER="1"
    )
    environ = echoed(str(path), "uwsgi", values)["environ"]
    assert (environ["REMOTE_USER"], environ["HTTP_X_OTHER"]) == ("alice", "1")
    assert "HTTP_REMOTE_USER" not in environ


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_access_log_tells_of_the_gateways_client(serve, tmp_path, protocol):
    log = tmp_path / "access.log"
    server = serve(APP, "--access-logfile", str(log), bind=f"{protocol}://unix:{tmp_path}/s")
    ask(server.address, protocol, variables("/pid?a", SERVER_PROTOCOL="HTTP/2.0", PATH_INFO="/pid"))
    wait_until(lambda: log.exists() and log.read_text(), "the line")
    line = log.read_text()
    assert line.startswith("192.0.2.7 ") and '"GET /pid?a HTTP/2.0" 200' in line


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_gateway_that_leaves_is_noticed(serve, tmp_path, protocol):
    server = serve(APP, bind=f"{protocol}://unix:{tmp_path}/s")
    gateway = Gateway(server.address, protocol)
    gateway.send(wire.packed(protocol, variables("/silent?patience=20", PATH_INFO="/silent")))
    server.rendezvous.wait_for("silent begins")
    gateway.close()
    server.rendezvous.wait_for("silent: gone")


def test_fastcgi_keeps_a_connection(addresses):
    with Gateway(addresses["fastcgi"], "fastcgi") as gateway:
        for number in range(3):
            gateway.send(
                wire.fastcgi(variables("/mirror", "POST"), b"%d" % number, keep=True, identity=number + 1)
            )
            assert wire.parsed(gateway.read_response(number + 1)).body == b"%d" % number
        gateway.send(wire.fastcgi(variables("/pid")))
        assert gateway.read_answer().status == 200
        assert gateway.read_to_end() == b""


def test_fastcgi_tells_what_it_is_asked(addresses):
    with Gateway(addresses["fastcgi"], "fastcgi") as gateway:
        asked = {"FCGI_MPXS_CONNS": "", "FCGI_MAX_REQS": "", "OTHER": ""}
        gateway.send(wire.record(wire.GET_VALUES, wire.pairs(asked), identity=0, padding=3))
        kind, identity, content = gateway.read_record()
        assert (kind, identity) == (wire.GET_VALUES_RESULT, 0)
        assert content == wire.pairs({"FCGI_MPXS_CONNS": "1", "FCGI_MAX_REQS": "1024"})
        gateway.send(wire.record(77, b"what", identity=0))
        assert gateway.read_record() == (wire.UNKNOWN_TYPE, 0, bytes([77]) + bytes(7))
        gateway.send(wire.begin(role=2, keep=True))
        assert gateway.read_record() == (wire.END, 1, bytes([0, 0, 0, 0, 3, 0, 0, 0]))
        # Of the request that was not taken, the rest is passed over.
        gateway.send(wire.record(wire.PARAMS, b"ab") + wire.record(wire.PARAMS) + wire.record(wire.STDIN))
        gateway.send(wire.begin(keep=True, identity=4) + wire.record(wire.DATA, b"x", 4))
        gateway.send(wire.fastcgi(variables("/pid"), keep=True, identity=4)[16:])
        assert wire.parsed(gateway.read_response(4)).status == 200


def test_fastcgi_body_without_an_announced_length(addresses):
    with Gateway(addresses["fastcgi"], "fastcgi") as gateway:
        gateway.send(wire.fastcgi(variables("/", "POST"))[:-8])
        gateway.send(wire.record(wire.STDIN, b"abc") + wire.record(wire.STDIN, b"de", padding=6))
        gateway.send(wire.record(wire.STDIN))
        told = json.loads(gateway.read_answer().body)
        assert told["body"] == "abcde" and told["environ"]["CONTENT_LENGTH"] == "5"


@pytest.mark.parametrize("protocol", ["uwsgi", "fastcgi"])
def test_reload_under_load_loses_no_request(serve, tmp_path, protocol):
    server = serve("apps.processes:application", "--workers", "2", bind=f"{protocol}://unix:{tmp_path}/s")
    old = server.wait_workers(2)
    failures: list[str] = []
    pids: set[bytes] = set()
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            try:
                answer = ask(server.address, protocol, variables("/pid"))
                pids.add(answer.body)
                if answer.status != 200:
                    failures.append(str(answer))
            except (OSError, AssertionError) as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        server.signal(signal.SIGHUP)
        old = server.wait_replaced(old)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures and len(pids) >= 4


@pytest.mark.parametrize("protocol", ["uwsgi", "scgi"])
def test_broken_response_is_reset_where_the_socket_can(serve, tmp_path, protocol):
    """A UNIX socket cannot: there one whose length nobody has told ends like a whole one."""
    path = "/wrong-later"
    request = wire.packed(protocol, variables(f"{path}?value=text-block", PATH_INFO=path))
    server = serve(
        "apps.contract:application", bind=[f"{protocol}://{FREE}", f"{protocol}://unix:{tmp_path}/s"]
    )
    server.expect_log(r"(?s).*")
    for address, can_be in zip(server.addresses, (True, False), strict=True):
        with socket.socket(socket.AF_INET if can_be else socket.AF_UNIX) as gateway:
            gateway.settimeout(10)
            gateway.connect(address)
            gateway.sendall(request)
            received, was_reset = b"", False
            try:
                while piece := gateway.recv(65536):
                    received += piece
            except ConnectionResetError:
                was_reset = True
        assert was_reset == can_be
        assert can_be or received.endswith(b"\r\n\r\nfirst")


def test_requests_skip_a_slow_one_beside_free_workers(serve, tmp_path):
    server = serve(APP, "--workers", "2", "--threads", "1", bind=f"uwsgi://unix:{tmp_path}/s")
    server.wait_workers(2)
    held = Gateway(server.address, "uwsgi")
    held.send(wire.uwsgi(variables("/silent?patience=5", PATH_INFO="/silent")))
    server.rendezvous.wait_for("silent begins")
    body = b"x" * 1000
    for _ in range(40):
        started = time.monotonic()
        assert ask(server.address, "uwsgi", variables("/mirror", "POST"), body).body == body
        assert time.monotonic() - started < 2
    held.close()
