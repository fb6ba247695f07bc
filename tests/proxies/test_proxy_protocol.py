"""The PROXY protocol: what a load balancer says of its client, before HTTP and before TLS."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import time

import pytest

from harness.http_client import connection
from harness.rendezvous import wait_until
from harness.sockets import listens

ECHO = "apps.echo:application"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, content: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(content)) + content


V2 = v2(
    0x21,
    0x21,
    socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(16) + struct.pack("!HH", 9, 10) + b"\x04\0\1x",
)
LOCAL = v2(0x20, 0, b"")
NOTHING = (None, None, None)
V1_TOLD = ("TCP4", "198.51.100.2", "443")
V2_TOLD = ("TCP6", "::", "10")


@contextlib.contextmanager
def connected(server, number: int = 0):
    with connection(server.addresses[number]) as client:
        yield client


def wait_engine(server) -> None:
    """Waits until the engine has seen what was sent so far: it looks at a header without taking it."""
    with connected(server) as other:
        other.sendall(LOCAL + GET)
        environ(other)


def environ(client) -> dict[str, str]:
    """The environ that the next answer tells."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(65536)
        assert piece, "closed"
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
    while len(body) < length:
        body += client.recv(65536)
    return json.loads(body)["environ"]


def proxy_entries(environ: dict[str, str]) -> tuple[str | None, ...]:
    """What environ has of the header under gunicorn's names."""
    return tuple(environ.get(f"PROXY_{name}") for name in ("PROTOCOL", "ADDR", "PORT"))


def is_closed(client) -> bool:
    with contextlib.suppress(ConnectionError):
        return client.recv(1) == b""
    return True


@pytest.mark.parametrize(
    ("header", "address", "port", "told"),
    [
        (V1, "192.0.2.1", "56324", V1_TOLD),
        (V2, "2001:db8::1", "9", V2_TOLD),
        (LOCAL, None, None, NOTHING),
        (b"PROXY UNKNOWN\r\n", None, None, NOTHING),
    ],
)
def test_the_client_is_whom_the_balancer_tells_of(serve, header, address, port, told):
    server = serve(ECHO, "--proxy-protocol", "auto")
    for pieces in ([header + GET], [header, GET], [bytes([byte]) for byte in header] + [GET]):
        with connected(server) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            expected = (address or "127.0.0.1", port or str(client.getsockname()[1]))
            for piece in pieces:
                client.sendall(piece)
                if len(pieces) > 2:
                    wait_engine(server)
            for _ in range(2):
                seen = environ(client)
                assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == expected
                assert proxy_entries(seen) == told
                client.sendall(GET)


def test_what_was_told_goes_along_to_another_worker(serve):
    server = serve(ECHO, "--workers", "2", "--proxy-protocol=auto")
    workers = server.wait_workers(2)
    with connected(server) as first, connected(server) as second:
        for client, header in ((first, V1), (second, V2)):
            client.sendall(header + GET)
            environ(client)
        server.signal(signal.SIGHUP)
        server.wait_replaced(workers)
        for client, address, told in ((first, "192.0.2.1", V1_TOLD), (second, "2001:db8::1", V2_TOLD)):
            client.sendall(GET)
            seen = environ(client)
            assert (seen["REMOTE_ADDR"], proxy_entries(seen)) == (address, told)


@pytest.mark.parametrize(
    ("header", "address"),
    [(b"PROXY UNKNOWN\r\n", "127.0.0.1"), (v2(0x21, 0, b""), "127.0.0.1"), (LOCAL, "1.1.1.1")],
)
def test_balancer_is_believed_only_where_it_speaks(serve, header, address):
    server = serve(ECHO, "--proxy-protocol", "auto")
    with connected(server) as client:
        client.sendall(header + GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"))
        assert environ(client)["REMOTE_ADDR"] == address


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_header_at_a_workers_end_counts(serve, name):
    server = serve(ECHO, "--workers", "1", "--proxy-protocol", "auto")
    fields = b"\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    with connected(server) as client:
        workers = server.wait_workers(1)
        # What came before it is accepted.
        with connected(server) as other:
            other.sendall(V1 + GET)
            environ(other)
        server.signal(getattr(signal, name))
        wait_until(lambda: not listens(workers[0]), "the worker to listen no more")
        client.sendall(V1 + GET.replace(b"\r\n\r\n", fields))
        seen = environ(client)
    if name == "SIGHUP":
        server.wait_replaced(workers)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.1", "http")


def test_it_comes_before_tls(serve, authority, pair):
    server = serve(ECHO, *pair.options, "--proxy-protocol", "v1")
    with connected(server) as plain:
        plain.sendall(V1)
        with authority.context().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(GET)
            seen = environ(client)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.1", "https")


def test_a_bind_says_for_itself_what_it_takes(serve, tmp_path):
    tcp, unix = "127.0.0.1:0", f"unix:{tmp_path / 'socket'}"
    server = serve(ECHO, "--proxy-protocol=v1", bind=[f"{tcp}?proxy=off", tcp, f"{unix}?proxy=v2"])
    for number, (taken, told) in enumerate([(b"", NOTHING), (V1, V1_TOLD), (V2, V2_TOLD)]):
        for header in (b"", V1, V2):
            with connected(server, number) as client:
                client.sendall(header + GET)
                if header == taken:
                    assert proxy_entries(environ(client)) == told
                elif number == 0:
                    assert client.recv(20).startswith(b"HTTP/1.1 400 ")
                else:
                    assert is_closed(client)


def test_bind_enables_it_where_the_setting_is_off(serve, authority, pair):
    binds = ["https://127.0.0.1:0?proxy=auto", "http://127.0.0.1:0"]
    server = serve(ECHO, *pair.options, bind=binds)
    with connected(server, 0) as plain:
        plain.sendall(V2)
        with authority.context().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(GET)
            seen = environ(client)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("2001:db8::1", "https")
    assert proxy_entries(seen) == V2_TOLD
    with connected(server, 1) as client:
        client.sendall(GET)
        seen = environ(client)
        assert (seen["REMOTE_ADDR"], proxy_entries(seen)) == ("127.0.0.1", NOTHING)


def test_a_gateway_may_begin_with_it_too(serve, tmp_path):
    server = serve(ECHO, bind=f"scgi://unix:{tmp_path / 'socket'}?proxy=v1")
    pairs = ("CONTENT_LENGTH 0", "SCGI 1", "REQUEST_METHOD GET", "REQUEST_URI /", "REMOTE_ADDR 203.0.113.7")
    variables = b"".join(word.encode() + b"\0" for pair in pairs for word in pair.split())
    with connected(server) as client:
        client.sendall(V1 + b"%d:%b," % (len(variables), variables))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    seen = json.loads(answer.partition(b"\r\n\r\n")[2])["environ"]
    assert (seen["REMOTE_ADDR"], proxy_entries(seen)) == ("203.0.113.7", V1_TOLD)


def test_a_trusted_peer_has_to_send_it(serve):
    server = serve(ECHO, "--proxy-protocol=v2")
    changed = v2(0x21, 0x11, bytes(12) + b"\3\0\4" + b"\0\1\2\3")
    for start in (GET, V1 + GET, v2(0x21, 0x11, b"short") + GET, SIGNATURE[:5] + b"x", changed + GET):
        with connected(server) as client:
            client.sendall(start)
            assert is_closed(client)
    server.expect_log("which does not begin with the PROXY protocol")
    server.expect_log("its PROXY header is malformed")
    server.expect_log("the checksum of its PROXY header is wrong")
    assert len(server.find_records("does not begin with the PROXY protocol")) == 1


@pytest.mark.parametrize(("allowed", "is_unix"), [("10.0.0.1", False), ("none", True)])
def test_others_are_read_as_ever(serve, tmp_path, allowed, is_unix):
    bind = f"unix:{tmp_path / 'socket'}" if is_unix else "127.0.0.1:0"
    server = serve(ECHO, "--proxy-protocol", "auto", "--proxy-allow-from", allowed, bind=bind)
    with connected(server) as client:
        client.sendall(GET)
        assert environ(client)["REMOTE_ADDR"] != "192.0.2.1"
    with connected(server) as client:
        client.sendall(V1 + GET)
        assert client.recv(20).startswith(b"HTTP/1.1 400 ")


def test_trusted_unix_peer_may_name_its_client(serve, tmp_path):
    server = serve(ECHO, "--proxy-protocol", "auto", bind=f"unix:{tmp_path / 'socket'}")
    with connected(server) as client:
        client.sendall(V1 + GET)
        seen = environ(client)
        assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("192.0.2.1", "56324")


def test_fields_count_if_the_named_client_is_trusted(serve):
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
    for allowed, address in (("127.0.0.1", "192.0.2.1"), ("192.0.2.1", "203.0.113.7")):
        server = serve(ECHO, "--proxy-protocol", "--forwarded-allow-ips", allowed)
        with connected(server) as client:
            client.sendall(V1 + request)
            assert environ(client)["REMOTE_ADDR"] == address


def test_it_has_as_long_as_a_head(serve):
    server = serve(ECHO, "--proxy-protocol", "--head-timeout", "1")
    with connected(server) as silent, connected(server) as slow:
        slow.sendall(V1[:10])
        started = time.monotonic()
        assert is_closed(silent) and is_closed(slow)
        assert time.monotonic() - started > 0.5


def test_without_it_the_header_is_no_request(serve):
    server = serve(ECHO)
    with connected(server) as client:
        client.sendall(V1 + GET)
        assert client.recv(20).startswith(b"HTTP/1.1 400 ")
