"""A body whose length is not announced is buffered first: CONTENT_LENGTH is there, and nothing is lost."""

from __future__ import annotations

import json
import ssl

import pytest

from harness import gateway_client as wire
from harness.http2_client import Http2Client
from harness.http_client import chunked, request_bytes
from harness.packages import skip_without
from harness.rendezvous import wait_until

INPUTS = "apps.inputs:application"
DJANGO = "apps.djangosite.wsgi:application"
FLASK = "apps.flask_app:application"
BODY = b'{"a": 1}'
JSON = [("content-type", "application/json")]
OFF, ON, ALWAYS = (), ("--stream-request-body",), ("--stream-request-body=always",)


def send_in_chunks(server, target: str, fields=()) -> bytes:
    """What comes of a POST in chunks, which come one after the other."""
    with server.connect() as client:
        coded = [("Transfer-Encoding", "chunked"), *fields]
        client.send(request_bytes("POST", target, coded))
        client.send(chunked([BODY[:3], BODY[3:]]))
        response = client.read_response()
        assert response.status == 200, response
        client.send(request_bytes("GET", "/"))
        assert client.read_response().status in (200, 404), "in sync"
    return response.body


def send_by_http2(server, target: str, fields=()) -> bytes:
    """What comes of a POST over HTTP/2 without content-length."""
    with Http2Client(server.address) as client:
        answer = client.request(target, "POST", fields, BODY)
        assert answer.status == 200, answer
    return answer.body


WAYS = pytest.mark.parametrize("send", [send_in_chunks, send_by_http2], ids=["chunked", "http2"])


@WAYS
@pytest.mark.parametrize("options", [OFF, ON, ALWAYS], ids=["off", "on", "always"])
def test_environ(serve, send, options):
    """Never a transfer coding: the body is decoded. A length wherever the body is there."""
    server = serve(INPUTS, "--threads", "1", *options)
    told = json.loads(send(server, "/length"))
    length = None if options == ALWAYS else str(len(BODY))
    assert told == {"length": length, "coding": None, "terminated": True, "body": BODY.decode()}


@WAYS
@pytest.mark.parametrize("options", [OFF, ON], ids=["off", "on"])
def test_django_reads_it(serve, send, options):
    skip_without("django")
    server = serve(DJANGO, *options)
    assert send(server, "/raw") == str(len(BODY)).encode()


@WAYS
@pytest.mark.parametrize("options", [OFF, ON, ALWAYS], ids=["off", "on", "always"])
def test_flask_reads_it(serve, send, options):
    """Also where it is streamed: Werkzeug reads what is terminated to its end."""
    skip_without("flask")
    server = serve(FLASK, *options)
    assert json.loads(send(server, "/json", JSON))["received"] == {"a": 1}


@pytest.mark.parametrize("options", [OFF, ON, ALWAYS], ids=["off", "on", "always"])
def test_fastcgi_without_content_length(serve, tmp_path, options):
    """The end of the records is that of the body (nginx with `fastcgi_request_buffering off`)."""
    server = serve(INPUTS, "--threads", "1", *options, bind=f"fastcgi://unix:{tmp_path}/s")
    values = wire.variables("/length", "POST", HTTP_TRANSFER_ENCODING="chunked")
    with wire.Gateway(server.address, "fastcgi") as gateway:
        gateway.send(wire.begin() + wire.record(wire.PARAMS, wire.pairs(values)) + wire.record(wire.PARAMS))
        gateway.send(wire.record(wire.STDIN, BODY[:3]))
        gateway.send(wire.record(wire.STDIN, BODY[3:]) + wire.record(wire.STDIN))
        told = json.loads(gateway.read_answer().body)
    length = None if options == ALWAYS else str(len(BODY))
    assert told["length"] in (length, *([""] if options == ALWAYS else [])) and told["coding"] is None
    assert told["body"] == BODY.decode()


def test_body_with_a_length_is_still_streamed(serve):
    server = serve(INPUTS, "--threads", "1", *ON)
    with server.connect() as client:
        client.send(request_bytes("POST", "/early", [("Content-Length", "10")]) + b"first")
        server.rendezvous.wait_for("read first")
        client.send(b"later")
        assert client.read_response().body == b"done"


def test_unannounced_body_takes_no_thread_while_arriving(serve):
    server = serve(INPUTS, "--threads", "1", *ON)
    with server.connect() as client:
        client.send(request_bytes("POST", "/early", [("Transfer-Encoding", "chunked")]) + b"5\r\nfirst\r\n")
        assert server.request("GET", "/ping").status == 200
        assert "read first" not in server.rendezvous.events()
        client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"done"


@pytest.mark.parametrize("options", [OFF, ON], ids=["off", "on"])
def test_the_limit_on_bodies_holds(serve, options):
    server = serve(INPUTS, "--threads", "1", "--limit-request-body", "4", *options)
    with server.connect() as client:
        client.send(request_bytes("POST", "/length", [("Transfer-Encoding", "chunked")]) + b"5\r\n")
        assert client.read_response().status == 413


# 100 Continue


@pytest.mark.parametrize("options", [OFF, ON], ids=["buffered", "streamed"])
@pytest.mark.parametrize("sent", [0, 3, len(BODY)])
def test_expecting_client_gets_100_although_the_body_came(serve, options, sent):
    """As nginx, Apache and gunicorn have it: clients wait for it though they have sent something already."""
    server = serve(INPUTS, "--threads", "1", *options)
    with server.connect() as client:
        fields = [("Expect", "100-continue"), ("Content-Length", str(len(BODY)))]
        client.send(request_bytes("POST", "/length", fields) + BODY[:sent])
        assert client.read_head().status == 100
        client.send(BODY[sent:])
        response = client.read_response()
        assert (response.status, response.interim) == (200, [])
        assert json.loads(response.body)["body"] == BODY.decode()
        client.expect_in_sync()


@pytest.mark.parametrize("sent", [3, len(BODY)])
def test_in_chunks_as_well(serve, sent):
    server = serve(INPUTS, "--threads", "1")
    data = chunked([BODY[:3], BODY[3:]])
    with server.connect() as client:
        fields = [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]
        client.send(request_bytes("POST", "/length", fields) + data[:sent])
        assert client.read_head().status == 100
        client.send(data[sent:])
        assert json.loads(client.read_response().body)["body"] == BODY.decode()
        client.expect_in_sync()


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_nobody_else_gets_it(serve, version):
    """Not a client of HTTP/1.0, and not for a request without a body."""
    server = serve(INPUTS, "--threads", "1")
    with server.connect() as client:
        body = BODY if version == "HTTP/1.0" else b""
        client.send(request_bytes("POST", "/length", [("Expect", "100-continue")], body, version))
        response = client.read_response()
        assert (response.status, response.interim) == (200, [])


# A refusal and those that go on sending


LARGE = 100 * 1024 * 1024


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("secured", [False, True], ids=["cleartext", "tls"])
def test_413_reaches_a_client_that_sends_everything(serve, pair, authority, framing, secured):
    """It reads only when it has sent everything, as many do: a reset meanwhile would take the answer away."""
    server = serve(INPUTS, "--limit-request-body", "1m", *(pair.options if secured else ()))
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    with server.connect(timeout=60) as client:
        if secured:
            client.socket = tls.wrap_socket(client.socket, server_hostname="localhost")
        field = ("Content-Length", str(LARGE)) if framing == "length" else ("Transfer-Encoding", "chunked")
        client.send(request_bytes("POST", "/length", [field]))
        block = b"x" * (1 << 20)
        if framing == "chunked":
            block = b"%x\r\n%s\r\n" % (len(block), block)
        for _ in range(LARGE >> 20):
            client.send(block)
        response = client.read_response()
        assert (response.status, response.closes) == (413, True)
        client.expect_end()


def test_http2_413_reaches_a_client_still_sending(serve):
    server = serve(INPUTS, "--limit-request-body", "1000")
    with Http2Client(server.address) as client:
        stream = client.open("/length", "POST", end=False)
        for _ in range(3):
            client.data(stream, b"x" * 10_000)
        client.wait(lambda: client.answers.get(stream) and client.answers[stream].status, "the head")
        assert client.answers[stream].status == 413
        client.expect_alive()


@pytest.mark.parametrize("protocol", wire.PROTOCOLS)
def test_413_of_gateways(serve, tmp_path, protocol):
    server = serve(INPUTS, "--limit-request-body", "1m", bind=f"{protocol}://unix:{tmp_path}/s")
    values = wire.variables("/length", "POST")
    with wire.Gateway(server.address, protocol, timeout=60) as gateway:
        gateway.send(wire.packed(protocol, values, b"x" * (40 << 20)))
        assert gateway.read_answer().status == 413


def test_client_pausing_after_a_refusal_is_not_awaited(serve):
    server = serve(INPUTS, "--limit-request-body", "1m")
    with server.connect(timeout=20) as client:
        client.send(request_bytes("POST", "/length", [("Content-Length", str(LARGE))]) + b"x" * 100_000)
        assert client.read_response().status == 413
        before = server.descriptors()
        wait_until(lambda: server.descriptors() < before, "the end of the connection", 6)
