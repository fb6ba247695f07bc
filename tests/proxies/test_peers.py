"""Behind real proxies, with the configurations of deploy/: nothing is lost or changed on the way."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from harness.documentation import ROOT, read
from harness.http_client import chunked, request_bytes
from harness.peers import NAME, Apache, Haproxy, Lighttpd, Nginx, Peer, certificate
from harness.programs import installed
from harness.rendezvous import wait_until

APPLICATION = "apps.behind:application"
MOUNT = "/shop"
# An address of this machine that is nobody's whom Portico believes.
CLIENT = "127.0.0.2"


@dataclass(frozen=True)
class Way:
    """A peer, its file in deploy/, and what the server is told and cannot be told through it."""

    peer: type[Peer]
    file: str
    # What the server is told to speak, and whether over a UNIX socket.
    scheme: str = "http"
    unix: bool = False
    # Further options of the server; `{pem}` is a file with certificate and key.
    options: tuple[str, ...] = ()
    # What in the file is replaced by what.
    edit: tuple[str, str] = ("", "")
    # What clients do when they leave that it passes on before it has something to send to them.
    notices: tuple[str, ...] = ("close", "reset")
    # It refuses chunked requests.
    needs_length: bool = False
    # It keeps the length of an answer to HEAD to itself.
    hides_length: bool = False

    def __str__(self) -> str:
        return "-".join([self.peer.deploy, self.file, *(["unix"] if self.unix else []), *self.options[1:2]])


def proxy_protocol(version: str, edit: tuple[str, str] = ("", "")) -> Way:
    """Through HAProxy without its looking into it: TLS ends at the server."""
    options = ("--proxy-protocol", version, "--certfile", "{pem}", "--keyfile", "{pem}")
    return Way(Haproxy, "proxy", "https", options=options, edit=edit)


WAYS = [
    Way(Nginx, "http"),
    Way(Nginx, "http", unix=True),
    Way(Apache, "http", notices=()),
    Way(Apache, "http", unix=True, notices=()),
    Way(Lighttpd, "http", notices=()),
    Way(Lighttpd, "http", unix=True, notices=()),
    Way(Haproxy, "http"),
    Way(Haproxy, "http", unix=True),
    Way(Haproxy, "http2"),
    proxy_protocol("v2"),
    proxy_protocol("v2", ("send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id")),
    proxy_protocol("v1", ("send-proxy-v2", "send-proxy")),
    Way(Nginx, "uwsgi", "uwsgi"),
    Way(Nginx, "uwsgi", "uwsgi", unix=True),
    Way(Apache, "uwsgi", "uwsgi", notices=(), needs_length=True),
    Way(Apache, "uwsgi", "uwsgi", unix=True, notices=(), needs_length=True),
    Way(Nginx, "scgi", "scgi"),
    Way(Nginx, "scgi", "scgi", unix=True),
    Way(Apache, "scgi", "scgi", notices=(), needs_length=True, hides_length=True),
    Way(Apache, "scgi", "scgi", unix=True, notices=(), needs_length=True, hides_length=True),
    Way(Lighttpd, "scgi", "scgi", notices=()),
    Way(Lighttpd, "scgi", "scgi", unix=True, notices=()),
    Way(Nginx, "fastcgi", "fastcgi"),
    Way(Nginx, "fastcgi", "fastcgi", unix=True),
    Way(Apache, "fastcgi", "fastcgi", notices=(), hides_length=True),
    Way(Apache, "fastcgi", "fastcgi", unix=True, notices=(), hides_length=True),
    Way(Lighttpd, "fastcgi", "fastcgi", notices=()),
    Way(Lighttpd, "fastcgi", "fastcgi", unix=True, notices=()),
]


@dataclass
class Path:
    """A peer and the server behind it."""

    way: Way
    peer: Peer
    server: object

    def request(self, *arguments, **options):
        """One request over a connection of its own."""
        with self.peer.connect() as client:
            client.send(request_bytes(*arguments, host=NAME, **options))
            return client.read_response(arguments[0] if arguments else "GET")

    def environ(self, target: str = "/", fields=()) -> dict[str, str]:
        """What the application is told, of a client at CLIENT."""
        with self.peer.connect(source=CLIENT) as client:
            client.send(request_bytes("GET", target, fields, host=NAME))
            response = client.read_response()
        assert response.status == 200, response
        return json.loads(response.body)["environ"]


@contextmanager
def running(way: Way, serve, *options: str, edit: Callable[[str], str] = str) -> Iterator[Path]:
    """A peer, its file edited, in front of a server with these options."""
    installed(way.peer.program)
    # The peer is another user.
    folder = serve.folders.make()
    bind = f"{way.scheme}://" + (f"unix:{folder}/s" if way.unix else "127.0.0.1:0")
    pem = folder / "pem"
    pem.write_bytes(b"".join(certificate()))
    own = [option.format(pem=pem) for option in way.options]
    server = serve(APPLICATION, "--threads", "4", *own, *options, bind=bind)
    peer = way.peer(way.file, server.address, lambda text: edit(text.replace(*way.edit)))
    try:
        yield Path(way, peer, server)
    except BaseException:
        peer.kill()
        raise
    peer.stop()
    server.stop()


@pytest.fixture(scope="module", params=WAYS, ids=str)
def shared_path(request, serve_module):
    """All tests of one way run before those of the next."""
    with running(request.param, serve_module) as path:
        yield path


@pytest.fixture
def path(shared_path):
    """The way's peer and server; each test leaves both without a complaint."""
    server, peer = shared_path.server, shared_path.peer
    server.first_record, before = len(server.records), len(peer.complaints())
    yield shared_path
    assert not server.unexpected_records(server.first_record)
    assert not peer.complaints()[before:]


def test_get(path):
    with path.peer.connect() as client:
        for number in range(20):
            client.send(request_bytes("GET", "/ping", [("X-Ping", str(number))], host=NAME))
            assert client.read_response().body == f"pong {number}".encode()


def test_the_other_port_sends_to_https(path):
    with path.peer.connect_plain() as client:
        client.send(request_bytes("GET", "/a/b?c=d", [("Connection", "close")], host=NAME))
        status, *fields = client.read_to_end().partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert status.split()[1] in ("301", "308")
    assert f"location: https://{NAME}/a/b?c=d" in [field.lower() for field in fields]


def test_post_of_ten_megabytes(path):
    body = random.Random(5).randbytes(10_000_000)
    response = path.request("POST", "/mirror", [("Content-Type", "application/octet-stream")], body)
    assert response.status == 200
    assert response.get("X-Digest") == hashlib.sha256(body).hexdigest()
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_chunked_request(path):
    blocks = [bytes([65 + number]) * (1 + number * 500) for number in range(20)]
    with path.peer.connect() as client:
        client.send(request_bytes("POST", "/mirror", [("Transfer-Encoding", "chunked")], host=NAME))
        client.send(chunked(blocks))
        response = client.read_response()
        if path.way.needs_length:
            assert response.status == 411
            return
        assert (response.status, response.body) == (200, b"".join(blocks))
        client.send(request_bytes("GET", "/ping", host=NAME))
        assert client.read_response().body == b"pong "


def test_expect_100_continue(path):
    with path.peer.connect() as client:
        fields = [("Expect", "100-continue"), ("Content-Length", "5")]
        client.send(request_bytes("POST", "/mirror", fields, host=NAME))
        assert client.read_head().status == 100
        client.send(b"hello")
        response = client.read_response()
        while response.status < 200:
            response = client.read_response()
        assert (response.status, response.body) == (200, b"hello")
        client.send(request_bytes("GET", "/ping", host=NAME))
        assert client.read_response().body == b"pong "


def test_body_that_the_server_refuses(path, serve):
    with running(path.way, serve, "--limit-request-body", "1m") as limited:
        for _ in range(3):
            with limited.peer.connect() as client:
                client.send_until_refused(request_bytes("POST", "/mirror", body=b"x" * 10_000_000, host=NAME))
                assert client.read_response().status == 413
        assert limited.request("POST", "/mirror", body=b"x" * 1_000_000).status == 200


def test_early_hints_harm_nobody(path):
    assert path.request("GET", "/hinted").body == b"hinted"


@pytest.mark.parametrize("peer", [Apache, Haproxy])
def test_early_hints_through_those_that_can(serve, peer):
    with running(Way(peer, "http"), serve, "--early-hints", "always") as hinting:
        response = hinting.request("GET", "/hinted")
    (interim,) = response.interim
    assert (interim.status, response.body) == (103, b"hinted")
    assert interim.get("Link")


def test_answer_of_unknown_length(path):
    response = path.request("GET", "/unknown-length")
    assert response.body == b"".join(b"%07d" % number * 1000 for number in range(100))


def test_first_block_arrives_before_the_last_is_made(path):
    gate = f"gate-{path.way}"
    with path.peer.connect() as client:
        client.send(request_bytes("GET", f"/events/held?gate={gate}", host=NAME))
        head = client.read_head()
        assert head.status == 200
        while b"first" not in client.buffer:
            assert client.receive(), client.buffer
        assert b"last" not in client.buffer
        path.server.rendezvous.open(gate)
        while b"last" not in client.buffer:
            assert client.receive(), client.buffer


def test_head(path):
    with path.peer.connect() as client:
        client.send(request_bytes("HEAD", "/cached", host=NAME))
        response = client.read_response("HEAD")
        assert response.status == 200
        assert response.get("Content-Length") == (None if path.way.hides_length else "6")
        client.send(request_bytes("HEAD", "/unknown-length", host=NAME))
        assert client.read_response("HEAD").status == 200
        client.send(request_bytes("GET", "/ping", host=NAME))
        assert client.read_response().body == b"pong "


def test_not_modified(path):
    with path.peer.connect() as client:
        for fields, status, body in ([], 200, b"cached"), ([("If-None-Match", '"unchanged"')], 304, b""):
            client.send(request_bytes("GET", "/cached", fields, host=NAME))
            response = client.read_response()
            assert (response.status, response.body, response.get("ETag")) == (status, body, '"unchanged"')
        client.send(request_bytes("GET", "/ping", host=NAME))
        assert client.read_response().body == b"pong "


def test_redirects_lead_to_where_the_client_came_from(path):
    assert path.request("GET", "/moved").get("Location") == f"https://{NAME}/ping?a=b"
    assert path.request("GET", "/moved-here").get("Location") in ("/ping", f"https://{NAME}/ping")


@pytest.mark.parametrize(
    ("target", "decoded"),
    [
        ("/caf%C3%A9/%E2%82%AC", "/café/€"),
        ("/100%25/a%20b+c", "/100%/a b+c"),
        ("/a;b=c,d/~e!$&'()*@:", "/a;b=c,d/~e!$&'()*@:"),
        ("/%3Fq%23f", "/?q#f"),
        ("/a%2Fb", "/a/b"),
        ("/a/b/", "/a/b/"),
    ],
)
def test_path_and_query(path, target, decoded):
    query = "q=caf%C3%A9&r=a%2Bb&s=%26"
    environ = path.environ(f"{target}?{query}")
    assert environ["PATH_INFO"].encode("latin-1").decode() == decoded
    assert (environ["SCRIPT_NAME"], environ["QUERY_STRING"]) == ("", query)


def test_mounted(path, serve):
    with running(path.way, serve, "--root-path", MOUNT) as mounted:
        for target, inside in (f"{MOUNT}/caf%C3%A9", "/café"), (f"{MOUNT}/", "/"):
            environ = mounted.environ(target)
            assert environ["SCRIPT_NAME"] == MOUNT
            assert environ["PATH_INFO"].encode("latin-1").decode() == inside
        url = f"https://{NAME}{MOUNT}/ping?a=b"
        assert mounted.request("GET", f"{MOUNT}/moved").get("Location") == url


def test_nginx_takes_the_path_off_and_says_so(serve):
    """The second way of the guide to mount an application."""
    blocks, _ = read(ROOT / "docs/guides/behind-nginx.md")
    (block,) = [block for block in blocks if any("X-Forwarded-Prefix" in line for line in block.lines)]

    def insert(text: str) -> str:
        return text.replace("    location / {", "\n".join(block.lines) + "\n    location / {")

    options = ("--forwarded-headers", "for,proto,prefix")
    with running(Way(Nginx, "http"), serve, *options, edit=insert) as mounted:
        environ = mounted.environ(f"{MOUNT}/caf%C3%A9")
    assert environ["SCRIPT_NAME"] == MOUNT
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café"
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (CLIENT, "https")


@pytest.mark.parametrize("protocol", ["uwsgi", "scgi", "fastcgi"])
def test_nginx_names_the_mount(serve, protocol):
    """The guide's way to mount an application by other protocols than HTTP."""
    blocks, _ = read(ROOT / "docs/guides/behind-nginx.md")
    (block,) = [block for block in blocks if any("SCRIPT_NAME /shop" in line for line in block.lines)]
    location = "\n".join(block.lines).replace("uwsgi", protocol)

    def insert(text: str) -> str:
        return text.replace("    location / {", f"{location}\n    location / {{")

    with running(Way(Nginx, protocol, protocol), serve, edit=insert) as mounted:
        environ = mounted.environ(f"{MOUNT}/caf%C3%A9/")
    assert environ["SCRIPT_NAME"] == MOUNT
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café/"


def test_who_asks_and_how(path):
    said = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", "for=6.6.6.6;proto=http"),
    ]
    environ = path.environ("/who", said)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (CLIENT, "https")
    assert environ["HTTP_HOST"] == NAME


def test_fields_arrive(path):
    fields = [
        ("Cookie", "a=b; c=d"),
        ("Accept", "*/*"),
        ("X-Long", "x" * 4000),
        ("Authorization", "Basic eDp5"),
    ]
    environ = path.environ("/", fields)
    for name, value in fields:
        assert environ[f"HTTP_{name.upper().replace('-', '_')}"] == value


def test_client_leaves_during_a_stream(path):
    closed = path.server.rendezvous.count("closed /events/endless")
    with path.peer.connect() as client:
        client.send(request_bytes("GET", "/events/endless", host=NAME))
        assert client.read_head().status == 200
        assert client.receive()
    path.server.rendezvous.wait_for("closed /events/endless", closed + 1, patience=5)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_leaves_while_nothing_is_said(path, how):
    if how not in path.way.notices:
        pytest.skip("this peer tells it when there is something to send")
    meeting = path.server.rendezvous
    begun, gone = meeting.count("silent begins"), meeting.count("silent: gone")
    with path.peer.connect() as client:
        client.send(request_bytes("GET", "/silent?patience=10", host=NAME))
        meeting.wait_for("silent begins", begun + 1)
        getattr(client, how)()
        meeting.wait_for("silent: gone", gone + 1, patience=5)


@dataclass
class Clients:
    """Clients that ask one after the other, GET and POST in turn, until they are told to stop."""

    peer: Peer
    count: int = 4
    answered: list[bytes] = field(default_factory=list)
    failed: list[object] = field(default_factory=list)

    def __enter__(self) -> Clients:
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(15)
            assert not thread.is_alive()

    def run(self) -> None:
        """One connection after the other."""
        while not self.stopping.is_set():
            try:
                with self.peer.connect() as client:
                    self.ask(client)
            except Exception as error:
                self.failed.append(error)

    def ask(self, client) -> None:
        """Requests over one connection, until the peer or `stopping` ends it."""
        for number in range(50):
            method, body = ("POST", b"x" * 100) if number % 2 else ("GET", None)
            client.send(request_bytes(method, "/pid", body=body, host=NAME))
            response = client.read_response()
            (self.answered if response.status == 200 else self.failed).append(response.body)
            if response.closes or self.stopping.wait(0.002):
                return

    def go_on(self) -> None:
        """Waits for further answers."""
        enough = len(self.answered) + 100
        wait_until(lambda: self.failed or len(self.answered) > enough, "answers")


def test_reload_under_load_fails_no_request(path):
    old = path.server.wait_workers(1)
    with Clients(path.peer) as clients:
        for _ in range(2):
            clients.go_on()
            path.server.signal(signal.SIGHUP)
            old = path.server.wait_replaced(old)
        clients.go_on()
    assert not clients.failed, (len(clients.answered), clients.failed)
    assert len(set(clients.answered)) == 3
