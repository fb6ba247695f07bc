"""`compress`: which of the application's responses are compressed, and that each block leaves at once."""

from __future__ import annotations

import statistics
import struct
import time
import zlib

import brotli
import pytest
import zstandard

from harness.compressing import target, text
from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import FramingError, request_bytes
from harness.server import TESTS

CODINGS = ["gzip", "br", "zstd"]
SKIPPABLE_FRAME = 0x184D2A50
# From a yield to the client, in the middle; the longest is a matter of the machine's load.
BLOCK_SECONDS_MAX = 0.005
LAST_BLOCK_SECONDS_MAX = 0.5


class Decoder:
    """Decodes a content as it comes, and knows whether it has ended."""

    def __init__(self, coding: str) -> None:
        self.coding = coding
        self.engine = {
            "gzip": lambda: zlib.decompressobj(31),
            "br": brotli.Decompressor,
            "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
        }[coding]()
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """What these bytes add."""
        if self.coding == "br":
            return self.engine.process(data)
        if self.engine.eof:
            self.rest += data
            return b""
        content = self.engine.decompress(data)
        self.rest = self.engine.unused_data
        return content

    def expect_end(self) -> None:
        """The content is whole, and nothing is behind it but padding."""
        if self.coding == "br":
            assert self.engine.is_finished()
            return
        assert self.engine.eof
        if self.coding == "zstd":
            magic, length = struct.unpack_from("<II", self.rest)
            assert magic == SKIPPABLE_FRAME and len(self.rest) == 8 + length and length <= 64
        else:
            assert self.rest == b""


def decoded(coding: str, data: bytes) -> bytes:
    """The whole content."""
    decoder = Decoder(coding)
    content = decoder.feed(data)
    decoder.expect_end()
    return content


@pytest.fixture(scope="module")
def shared_server(serve_module, pair, tmp_path_factory):
    """A server that speaks every protocol and compresses."""
    folder = tmp_path_factory.mktemp("sockets")
    binds = [f"{protocol}://unix:{folder}/{protocol}.sock" for protocol in PROTOCOLS]
    server = serve_module(
        "apps.compressing:application",
        *["--compress", "--pythonpath", str(TESTS), "--access-logfile", "-", "--threads", "4"],
        *["--certfile", str(pair.certificate), "--keyfile", str(pair.key)],
        bind=["http://127.0.0.1:0", "https://127.0.0.1:0", *binds],
    )
    server.sockets = folder
    return server


def get(server, path, accepted="gzip, br, zstd", method="GET", fields=(), **asked):
    """The response to one request."""
    with server.connect() as client:
        fields = [("Accept-Encoding", accepted), *fields] if accepted is not None else fields
        client.send(request_bytes(method, target(path, **asked), fields))
        return client.read_response(method)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("path", ["/text", "/list", "/generator", "/write", "/memory-file"])
@pytest.mark.parametrize("length", [1024, 5000, 70_000, 1_000_000])
def test_what_is_compressed_is_the_same_content(server, path, coding, length):
    if length == 1_000_000 and path in {"/generator", "/write"}:
        length = 200_000
    response = get(server, path, coding, length=length)
    assert response.get("Content-Encoding") == coding
    assert response.get("Vary") == "Accept-Encoding"
    assert response.get("Content-Length") is None and response.chunks is not None
    assert decoded(coding, response.body) == text(length)
    if path in {"/text", "/list"}:
        assert len(response.body) < length / 2


@pytest.mark.parametrize("coding", CODINGS)
def test_every_version_and_tls_are_alike(server, authority, coding):
    plain = server.addresses[0]
    secure = server.addresses[1]
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    for address, tls in [(plain, None), (secure, context)]:
        with Http2Client(address, tls=tls) as client:
            for path in ["/text", "/generator", "/list"]:
                answer = client.request(target(path, length=30_000), fields=[("accept-encoding", coding)])
                assert (answer.status, answer.get("content-encoding")) == (200, coding)
                assert answer.get("content-length") is None
                assert decoded(coding, answer.body) == text(30_000)


def test_a_connection_is_kept_and_in_sync(server):
    with server.connect() as client:
        for coding in CODINGS * 3:
            response = client.request("GET", target("/generator", length=9000), [("Accept-Encoding", coding)])
            assert decoded(coding, response.body) == text(9000)
            client.expect_in_sync()


def test_old_clients_see_the_end_by_closing(server):
    with server.connect() as client:
        client.send(request_bytes("GET", target("/text"), [("Accept-Encoding", "gzip")], version="HTTP/1.0"))
        response = client.read_response()
    assert response.close_delimited
    assert decoded("gzip", response.body) == text(5000)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("br;q=0.9, gzip", "gzip"),
        ("zstd;q=0, br;q=0, gzip", "gzip"),
        ("*", "zstd"),
        ("gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("identity", None),
        ("", None),
        (None, None),
    ],
)
def test_the_client_chooses_and_vary_says_so(server, accepted, coding):
    response = get(server, "/text", accepted, h_ETag='"v1"')
    assert response.get("Content-Encoding") == coding
    assert response.get("Vary") == "Accept-Encoding"
    assert response.get("ETag") == ('W/"v1"' if coding else '"v1"')
    assert (response.get("Content-Length") is None) == (coding is not None)
    assert response.get("X-Accept") == (accepted or ""), "the application sees what was sent"


def test_without_identity_little_is_compressed_too(server):
    response = get(server, "/text", "gzip, identity;q=0", length=10)
    assert decoded("gzip", response.body) == text(10)
    response = get(server, "/text", "identity;q=0", length=2000)
    assert (response.get("Content-Encoding"), response.body) == (None, text(2000))


@pytest.mark.parametrize(
    "asked",
    [
        {"length": 1023},
        {"type": "image/png"},
        {"type": "text/event-stream"},
        {"type": "text/event-stream; charset=utf-8"},
        {"h_Content_Encoding": "x-own"},
        {"h_Cache_Control": "public, no-transform"},
        {"status": "206 Partial Content", "h_Content_Range": "bytes 0-4999/9999"},
        {"h_Content_Range": "bytes 0-4999/9999"},
        {"h_Content_Digest": "sha-256=:AAAA:"},
    ],
)
def test_what_is_not_compressed_is_unchanged(server, asked):
    response = get(server, "/text", h_ETag='"v1"', **asked)
    coding = asked.get("h_Content_Encoding")
    assert (response.get("Content-Encoding"), response.get("Vary")) == (coding, None)
    assert response.get("ETag") == '"v1"'
    assert response.get("Content-Length") == str(len(response.body))


def test_vary_and_ranges_are_merged(server):
    response = get(server, "/text", h_Vary="Cookie", h_Accept_Ranges="bytes", h_ETag='W/"x"')
    assert response.get("Vary") == "Cookie, Accept-Encoding"
    assert (response.get("Accept-Ranges"), response.get("ETag")) == (None, 'W/"x"')
    assert get(server, "/text", h_Vary="*").get("Vary") == "*"
    for status in ["404 Not Found", "500 Oh"]:
        assert get(server, "/text", status=status).get("Content-Encoding") == "zstd"


def head_of(response) -> list[tuple[str, str]]:
    """The fields that describe the response: not its date, nor its framing, which HEAD does without."""
    return [(name, value) for name, value in response.fields if name not in {"Date", "Transfer-Encoding"}]


@pytest.mark.parametrize("accepted", [*CODINGS, "identity"])
@pytest.mark.parametrize("path", ["/text", "/generator", "/list"])
@pytest.mark.parametrize("length", [100, 5000])
def test_head_has_the_head_of_get(server, path, accepted, length):
    if (path, length) == ("/generator", 100):
        length = 1500  # Its length is not known, so that it is compressed however short it is.
    asked = {"length": length, "h_ETag": '"v1"'}
    whole, head = (get(server, path, accepted, method, **asked) for method in ["GET", "HEAD"])
    assert head_of(head) == head_of(whole)
    with Http2Client(server.addresses[0]) as client:
        whole, head = (
            client.request(target(path, **asked), method, [("accept-encoding", accepted)])
            for method in ["GET", "HEAD"]
        )
        assert [f for f in head.fields if f[0] != "date"] == [f for f in whole.fields if f[0] != "date"]
        assert head.body == b""


@pytest.mark.parametrize("coding", CODINGS)
def test_each_block_can_be_decoded_at_once(server, coding):
    decoder, content = Decoder(coding), b""
    gate = f"gate-{coding}"
    with server.connect() as client:
        client.send(request_bytes("GET", target("/held", gate=gate), [("Accept-Encoding", coding)]))
        assert client.read_head().get("Content-Encoding") == coding
        for number in range(5):
            expected = b"".join(b"block %d\n" % n for n in range(number + 1))
            while len(content) < len(expected):
                content += decoder.feed(client.read_chunk())
            assert content == expected
            server.rendezvous.wait_for(f"holding {gate}-{number}")
            server.rendezvous.open(f"{gate}-{number}")
        for chunk in client.read_chunks():
            decoder.feed(chunk)
        decoder.expect_end()


@pytest.mark.serial
@pytest.mark.parametrize("coding", [*CODINGS, "text/event-stream"])
def test_no_block_is_kept_back(server, coding):
    asked = {"type": coding} if "/" in coding else {}
    decoder = None if asked else Decoder(coding)
    delays, lines = [], b""
    with server.connect() as client:
        client.send(
            request_bytes(
                "GET", target("/stamps", **asked), [("Accept-Encoding", coding if decoder else "zstd")]
            )
        )
        assert client.read_head().get("Content-Encoding") == (coding if decoder else None)
        for chunk in client.read_chunks():
            now = time.monotonic_ns()
            lines += decoder.feed(chunk) if decoder else chunk
            while b"\n" in lines:
                line, lines = lines.split(b"\n", 1)
                delays.append((now - int(line)) / 1e9)
    assert len(delays) == 50
    assert statistics.median(delays) < BLOCK_SECONDS_MAX, delays
    assert delays[0] < LAST_BLOCK_SECONDS_MAX and max(delays) < LAST_BLOCK_SECONDS_MAX, delays


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("path", ["/generator", "/text"])
def test_a_response_that_fails_midway_has_no_end(server, coding, path):
    if path == "/text":
        # Less than was promised.
        asked = {"length": 5000, "h_Content_Length": "6000"}
        pattern = r"1000 bytes less than its Content-Length"
    else:
        asked = {"length": 5000, "error": "1"}
        pattern = r"the application failed"
    decoder, content = Decoder(coding), b""
    with server.connect() as client:
        client.send(request_bytes("GET", target(path, **asked), [("Accept-Encoding", coding)]))
        assert client.read_head().get("Content-Encoding") == coding
        with pytest.raises((FramingError, ConnectionResetError)):
            for chunk in client.read_chunks():
                content += decoder.feed(chunk)
    assert text(5000).startswith(content)
    with pytest.raises(AssertionError):
        decoder.expect_end()
    server.expect_log(pattern)
    with Http2Client(server.addresses[0]) as client:
        stream = client.open(target(path, **asked), fields=[("accept-encoding", coding)])
        client.wait_for_reset_or_end(stream)
        assert client.answers[stream].reset is not None
    server.expect_log(pattern)


@pytest.mark.parametrize("coding", CODINGS)
def test_files_are_compressed_as_they_are_read(server, tmp_path, coding):
    path = tmp_path / "export.csv"
    content = text(3_000_000)
    path.write_bytes(content)
    response = get(server, "/file", coding, name=path, type="text/csv")
    assert response.get("Content-Encoding") == coding
    assert decoded(coding, response.body) == content
    plain = get(server, "/file", coding, name=path, type="application/octet-stream")
    assert (plain.get("Content-Length"), plain.body) == ("3000000", content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways_compress_for_themselves(server, protocol):
    told = variables(target("/text"), HTTP_ACCEPT_ENCODING="gzip, br, zstd")
    answer = ask(str(server.sockets / f"{protocol}.sock"), protocol, told)
    assert (answer.field("Content-Encoding"), answer.field("Vary")) == (None, None)
    assert answer.body == text(5000)


@pytest.mark.parametrize(
    "field", [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https"), ("Via", "1.1 proxy")]
)
def test_so_do_proxies_that_are_believed(server, field):
    response = get(server, "/text", fields=[field])
    assert (response.get("Content-Encoding"), response.get("Vary")) == (None, None)


def test_who_is_not_believed_is_no_proxy(serve):
    server = serve(
        *["apps.compressing:application", "--compress", "--forwarded-allow-ips", "192.0.2.1"],
        *["--pythonpath", str(TESTS)],
    )
    response = get(server, "/text", fields=[("X-Forwarded-For", "192.0.2.9"), ("Via", "1.1 x")])
    assert response.get("Content-Encoding") == "zstd"


@pytest.mark.parametrize("coding", CODINGS)
def test_lengths_tell_little(server, coding):
    lengths = {len(get(server, "/text", coding).body) for _ in range(60)}
    assert len(lengths) > 15, lengths
    assert max(lengths) - min(lengths) <= 64 + 3, "brotli says how long its padding is"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_slow_reader_gets_all(server, coding):
    decoder, length = Decoder(coding), 0
    asked = request_bytes("GET", target("/large", mib=40), [("Accept-Encoding", coding)])
    with server.connect(receive_buffer=4096, timeout=60) as client:
        client.send(asked)
        assert client.read_head().get("Content-Encoding") == coding
        for number, chunk in enumerate(client.read_chunks()):
            content = decoder.feed(chunk)
            length += len(content)
            if number < 20:
                time.sleep(0.01)  # The client is slow.
        decoder.expect_end()
    assert length == 40 << 20


@pytest.mark.serial
@pytest.mark.parametrize("mib", [128, pytest.param(1024, marks=pytest.mark.slow)])
@pytest.mark.parametrize("coding", CODINGS)
def test_memory_does_not_grow_with_a_response(server, coding, mib):
    get(server, "/large", coding, mib=4)
    before, length, decoder = server.memory(), 0, Decoder(coding)
    server.reset_peak_memory()
    with server.connect(timeout=120) as client:
        client.send(request_bytes("GET", target("/large", mib=mib), [("Accept-Encoding", coding)]))
        client.read_head()
        for chunk in client.read_chunks():
            length += len(decoder.feed(chunk))
    decoder.expect_end()
    assert length == mib << 20
    assert server.peak_memory() - before < 24 << 20


CONDITIONAL = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware"],
)
django.setup()
urlpatterns = [path("page", lambda request: HttpResponse("a page " * 1000))]

from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""


def test_djangos_conditional_requests_get_304(serve, tmp_path):
    (tmp_path / "conditional.py").write_text(CONDITIONAL)
    server = serve("conditional:application", "--compress", "--pythonpath", str(tmp_path))
    with server.connect() as client:
        for coding in [*CODINGS, "identity"]:
            fields = [("Accept-Encoding", coding)]
            first = client.request("GET", "/page", fields)
            assert first.status == 200
            tag = first.get("ETag")
            assert tag.startswith("W/") == (coding != "identity")
            again = client.request("GET", "/page", [*fields, ("If-None-Match", tag)])
            assert (again.status, again.get("Vary"), again.get("ETag")) == (304, "Accept-Encoding", tag)
            # Whatever it takes now, the tag is that of what it has.
            told = [("If-None-Match", f'"other", {tag}'), ("Accept-Encoding", "gzip")]
            assert client.request("GET", "/page", told).get("ETag") == tag
            assert again.get("Content-Encoding") is None
