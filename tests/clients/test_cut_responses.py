"""A response that ends before its end: the client gets all that was given, and sees that it is not all."""

from __future__ import annotations

import contextlib
import os
import ssl
import struct

import pytest

from harness import gateway_client as wire
from harness.http2_client import INTERNAL_ERROR, Http2Client
from harness.http_client import connection, request_bytes
from harness.rendezvous import wait_until, wait_until_steady
from harness.sockets import wait_blocked

APP = "apps.cutting:application"
SERVER = (APP, "--threads", "2")
# As the application has it.
BLOCK = bytes(range(256)) * 64
GIVEN = b"".join(b"%06d" % number + BLOCK[6:] for number in range(40))
CASES = ["/raises", "/raises?length", "/written", "/written?length", "/short?length", "/short-list?length"]
CASES += ["/short-block?length"]
PATIENCE = 20.0
# So little that most of the response waits in the server while the client does not read.
RECEIVE_BUFFER = 8192


def expect_trouble(server, target: str) -> None:
    """The log says of this request what was wrong with it."""
    server.expect_log(rf"GET {target.partition('?')[0]}\b.*(planted error|less than its Content-Length)")


def drain(sock) -> tuple[bytes, str]:
    """All that comes, and how it ends: with FIN or a reset."""
    received = bytearray()
    while True:
        try:
            data = sock.recv(16384)
        except ConnectionResetError:
            return bytes(received), "reset"
        except ssl.SSLError as error:
            assert isinstance(error, ssl.SSLEOFError), error
            return bytes(received), "end without a word"
        if not data:
            return bytes(received), "end"
        received += data


@contextlib.contextmanager
def connected(server, tls: ssl.SSLContext | None = None):
    """A connection whose client has little room."""
    sock = connection(server.address, PATIENCE, RECEIVE_BUFFER)
    if tls:
        sock = tls.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
    with sock:
        yield sock


def ask_slowly(
    server, target: str, version: str, tls: ssl.SSLContext | None = None
) -> tuple[bytes, bytes, str]:
    """Head, body and end of a response whose client begins to read only when the application has failed."""
    with connected(server, tls) as sock:
        sock.sendall(request_bytes(target=target, version=version))
        expect_trouble(server, target)
        received, end = drain(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    return head, body, end


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """What chunks have come, and whether the last one has."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, True
        body, data = body + rest[:length], rest[length + 2 :]
    return body, False


@pytest.fixture(scope="module")
def secure(serve_module, pair):
    """A server that speaks TLS."""
    return serve_module(*SERVER, *pair.options)


@pytest.fixture
def tls(authority) -> ssl.SSLContext:
    """A client's context."""
    return ssl.create_default_context(cafile=str(authority.certificate))


@pytest.mark.parametrize("target", CASES)
def test_http11(server, target):
    head, body, end = ask_slowly(server, target, "HTTP/1.1")
    if "length" in target:
        assert (body, end) == (GIVEN, "end") and f"Content-Length: {len(GIVEN) + 1}".encode() in head
    else:
        assert (dechunked(body), end) == ((GIVEN, False), "end")
    expect_trouble(server, target)


@pytest.mark.parametrize("target", CASES)
def test_http10(server, target):
    """Where the end of the response is that of the connection, only a reset tells that it is not its end."""
    _, body, end = ask_slowly(server, target, "HTTP/1.0")
    assert (len(body), end) == (len(GIVEN), "end" if "length" in target else "reset")
    assert body == GIVEN
    expect_trouble(server, target)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("target", CASES)
def test_tls(secure, tls, target, version):
    secure.first_record = len(secure.records)
    _, body, end = ask_slowly(secure, target, version, tls)
    if "length" in target:
        assert (body, end) == (GIVEN, "end")
    elif version == "HTTP/1.0":
        assert body == GIVEN and end != "end"
    else:
        assert (dechunked(body), end) == ((GIVEN, False), "end")
    expect_trouble(secure, target)


@pytest.mark.parametrize("secured", [False, True], ids=["cleartext", "tls"])
@pytest.mark.parametrize("target", CASES)
def test_http2(server, secure, tls, target, secured):
    """RST_STREAM comes behind the data, and costs no other stream."""
    server = secure if secured else server
    server.first_record = len(server.records)
    if secured:
        tls.set_alpn_protocols(["h2"])
    with Http2Client(server.address, PATIENCE, tls=tls if secured else None) as client:
        stream = client.open(target)
        expect_trouble(server, target)

        def take_in() -> bool:
            if client.window < 32768:
                client.update_window(0, 65535)
                client.update_window(stream, 65535)
                client.window += 65535
            answer = client.answers.get(stream)
            return answer is not None and (answer.ended or answer.reset is not None)

        client.wait(take_in, "the end of the stream")
        answer = client.answers[stream]
        assert (answer.ended, answer.reset, len(answer.body)) == (False, INTERNAL_ERROR, len(GIVEN))
        assert answer.body == GIVEN
        client.expect_alive()
    expect_trouble(server, target)


@pytest.mark.parametrize("protocol", wire.PROTOCOLS)
@pytest.mark.parametrize("target", CASES)
def test_gateways(serve, protocol, target):
    server = serve(*SERVER, bind=f"{protocol}://127.0.0.1:0")
    with connected(server) as sock:
        sock.sendall(wire.packed(protocol, wire.variables(target)))
        expect_trouble(server, target)
        received, end = drain(sock)
    if protocol == "fastcgi":
        received, has_end = records(received)
        assert (has_end, end) == (False, "end")
    else:
        assert end == ("end" if "length" in target else "reset")
    assert received.partition(b"\r\n\r\n")[2] == GIVEN
    expect_trouble(server, target)


def records(data: bytes) -> tuple[bytes, bool]:
    """What records of FastCGI have as standard output, and whether END_REQUEST has come."""
    output, ended = b"", False
    while data:
        _, kind, _, size, padding = struct.unpack(">BBHHB", data[:7])
        content, data = data[8 : 8 + size], data[8 + size + padding :]
        assert len(content) == size, "the connection ends within a record"
        output, ended = output + (content if kind == wire.STDOUT else b""), ended or kind == wire.END
    return output, ended


def test_fastcgi_with_several_requests(serve, tmp_path):
    """One of them is cut: all that was given of it comes, and the others are answered."""
    server = serve(*SERVER, bind=f"fastcgi://unix:{tmp_path}/s")
    with connected(server) as sock:
        both = wire.fastcgi(wire.variables("/raises"), keep=True, identity=1)
        sock.sendall(both + wire.fastcgi(wire.variables("/whole"), keep=True, identity=2))
        expect_trouble(server, "/raises")
        received, _ = drain(sock)
    outputs: dict[int, bytes] = {}
    ended = set()
    while received:
        _, kind, identity, size, padding = struct.unpack(">BBHHB", received[:7])
        content, received = received[8 : 8 + size], received[8 + size + padding :]
        if kind == wire.STDOUT:
            outputs[identity] = outputs.get(identity, b"") + content
        elif kind == wire.END:
            ended.add(identity)
    assert outputs[1].partition(b"\r\n\r\n")[2] == GIVEN
    assert outputs[2].endswith(b"\r\n\r\nwhole") and ended == {2}
    expect_trouble(server, "/raises")


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("target", ["/raises?blocks=400", "/short?length&blocks=400"])
def test_what_waits_in_a_file_goes_out_too(serve, target, version):
    """A slow client's response is in its spool when the application fails."""
    server = serve(APP, "--threads", "1", "--response-buffer", "64k")
    with connected(server) as sock:
        sock.sendall(request_bytes(target=target, version=version))
        server.rendezvous.wait_for("begins")
        # It waits for the only thread, whose response therefore goes to a file.
        assert server.request("GET", "/whole").body == b"whole"
        server.rendezvous.wait_for("raises" if "raises" in target else "ends")
        received, end = drain(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    if version == "HTTP/1.1" and "length" not in target:
        body, has_end = dechunked(body)
        assert not has_end
    assert end == ("reset" if version == "HTTP/1.0" and "length" not in target else "end")
    assert len(body) == 400 * len(BLOCK)
    assert head.startswith(b"HTTP/1.1 200")
    expect_trouble(server, target)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("target", ["/raises", "/short?length"])
def test_client_that_reads_nothing_is_not_waited_for(serve, target, version):
    """The limits on slow clients hold while the rest of what the application has given is written."""
    server = serve(*SERVER, "--write-timeout", "1", "--response-buffer", "16m")
    server.wait_engine()
    wait_until_steady(server.descriptors)
    idle = server.descriptors()
    with connected(server) as sock:
        sock.sendall(
            request_bytes(target=target + ("&" if "?" in target else "?") + "blocks=400", version=version)
        )
        server.rendezvous.wait_for("raises" if "raises" in target else "ends")
        wait_until(lambda: server.descriptors() <= idle, "the end of the connection", 8)
        received, end = drain(sock)
    assert end == "reset" and len(received) < 400 * len(BLOCK)
    expect_trouble(server, target)


@pytest.mark.parametrize("target", ["/hangs", "/hangs?length"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_after_a_timeout(serve, target, version):
    server = serve(*SERVER, "--timeout", "1")
    with connected(server) as sock:
        sock.sendall(request_bytes(target=target, version=version))
        server.expect_log(r"GET /hangs\b")
        received, end = drain(sock)
    body = received.partition(b"\r\n\r\n")[2]
    body = dechunked(body)[0] if version == "HTTP/1.1" and "length" not in target else body
    assert body == GIVEN
    assert end == ("reset" if version == "HTTP/1.0" and "length" not in target else "end")


def test_after_a_call_has_been_given_up(serve):
    server = serve(*SERVER, "--timeout", "1", "--timeout-grace", "1")
    with connected(server) as sock:
        sock.sendall(request_bytes(target="/hangs-for-good"))
        server.expect_log("did not end when")
        received, end = drain(sock)
    assert (dechunked(received.partition(b"\r\n\r\n")[2]), end) == ((GIVEN, False), "end")
    server.expect_log(r"GET /hangs-for-good\b")


@pytest.mark.parametrize("kind", ["http", "tls", "http2"])
def test_a_file_that_becomes_shorter(server, secure, tls, tmp_path, kind):
    """What is left of it is sent, and then the response ends before its Content-Length."""
    server = secure if kind == "tls" else server
    path, content = tmp_path / "file", GIVEN * 8
    path.write_bytes(content)
    fields = [("x-file", str(path))]
    kept = len(content) - 100_000
    if kind == "http2":
        with Http2Client(server.address, PATIENCE) as client:
            stream = client.open("/file", fields=fields)
            client.wait(lambda: client.window < 1, "a full window")
            os.truncate(path, kept)
            client.update_window(0, len(content))
            client.update_window(stream, len(content))
            answer = client.answer(stream)
            assert (answer.body, answer.ended, answer.reset) == (content[:kept], False, INTERNAL_ERROR)
        return
    with connected(server, tls if kind == "tls" else None) as sock:
        sock.sendall(request_bytes(target="/file", fields=fields))
        assert sock.recv(100)
        wait_blocked(sock)
        os.truncate(path, kept)
        received, end = drain(sock)
    assert (received.endswith(content[kept - 1000 : kept]), end) == (True, "end")


def test_the_access_log_tells(serve):
    log = ("--access-logfile", "-", "--access-logformat", "%(U)s %(s)s %(B)s %({portico.reason}e)s")
    server = serve(*SERVER, *log)
    for version in ("HTTP/1.0", "HTTP/1.1"):
        ask_slowly(server, "/raises", version)
    line = f"/raises 200 {len(GIVEN)} aborted"
    wait_until(lambda: server.stdout.lines.count(line) == 2, f"two lines {line!r}")
    expect_trouble(server, "/raises")
