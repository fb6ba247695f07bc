"""Requests for a host on a TLS connection that is for another one (RFC 9110, section 7.4)."""

from __future__ import annotations

import contextlib
import socket

import pytest

CLIENT = "127.0.0.2"  # 127.0.0.1 is believed, as a proxy.
ECHO = "apps.echo:application"
SITES = """
[[route]]
host = ["a.example", "b.example", "other.example"]
app = true
"""


@pytest.fixture
def serve_sites(serve, authority, tmp_path):
    """A server whose certificate is for a.example and all hosts below b.example."""
    (tmp_path / "portico.toml").write_text(SITES)
    pair = authority.issue("a.example", "*.b.example", "b.example")
    return lambda *options: serve(ECHO, "-c", str(tmp_path / "portico.toml"), *pair.options, *options)


@contextlib.contextmanager
def connected(server, context, name):
    """A connection of a client that nobody believes what it says of others."""
    with (
        socket.create_connection(server.address, timeout=10, source_address=(CLIENT, 0)) as plain,
        context.wrap_socket(plain, server_hostname=name) as client,
    ):
        yield client


def status(client, host: str) -> int:
    client.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        more = client.recv(4096)
        assert more, received
        received += more
    return int(received[9:12])


@pytest.mark.parametrize(
    ("asked", "host", "expected"),
    [
        ("a.example", "a.example", 200),
        ("a.example", "A.EXAMPLE:443", 200),
        ("a.example", "b.example", 200),  # The certificate is for both, as with joined HTTP/2 connections.
        ("a.example", "other.example", 421),
        ("x.b.example", "other.example", 421),
        ("unknown.example", "other.example", 421),
        (None, "other.example", 200),
    ],
)
def test_hosts_are_those_of_the_certificate(serve_sites, authority, asked, host, expected):
    context = authority.context()
    context.check_hostname = False
    with connected(serve_sites(), context, asked) as client:
        assert status(client, host) == expected


def test_believed_proxies_speak_for_others(serve_sites, authority):
    server = serve_sites("--forwarded-allow-ips", CLIENT)
    with connected(server, authority.context(), "a.example") as client:
        assert status(client, "other.example") == 200


def test_without_hosts_in_routes_nothing_is_asked(serve, authority):
    server = serve(ECHO, *authority.issue("a.example").options)
    with connected(server, authority.context(), "a.example") as client:
        assert status(client, "other.example") == 200
