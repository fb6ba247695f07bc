"""wsgi.input, wsgi.errors and wsgi.file_wrapper have what streams of io have: frameworks look for it."""

from __future__ import annotations

import json
import time

import pytest

from harness.http_client import chunked, request_bytes
from harness.packages import skip_without

SERVER = ("apps.streams:application", "--threads", "1")
UNSUPPORTED = "io.UnsupportedOperation"
TEXT = "one,1\r\ntwo,2\r\n\u00e9\u20ac,3\r\n"


@pytest.fixture(scope="module")
def streaming(serve_module):
    """A server that hands bodies over as they arrive."""
    return serve_module(*SERVER, "--stream-request-body=always", "--request-buffer", "4k")


def test_input_has_what_buffered_io_base_has(server):
    told = json.loads(server.request("POST", "/input", body=b"body").body)
    assert told == dict.fromkeys(["tell", "fileno", "detach", "truncate", "seek", "write"], UNSUPPORTED) | {
        "readable": True,
        "seekable": False,
        "writable": False,
        "isatty": False,
        "flush": None,
    } | {
        "missing": [],
        "is a stream": True,
        "enters": True,
        "closed": False,
        "body": "body",
    }


def test_input_of_a_bodiless_request_has_them_too(server):
    told = json.loads(server.request("GET", "/input").body)
    assert (told["missing"], told["tell"], told["body"]) == ([], UNSUPPORTED, "")


@pytest.mark.parametrize(
    "way",
    [
        "text",
        "with",
        "lines",
        "buffered",
        "buffered-lines",
        "csv",
        "readinto",
        "readinto1",
        "detached",
        "rw-pair",
    ],
)
@pytest.mark.parametrize("copies", [0, 1, 20_000])
@pytest.mark.parametrize("streamed", [False, True], ids=["buffered", "streamed"])
def test_the_io_module_reads_it(server, streaming, way, copies, streamed):
    body = (TEXT * copies).encode()
    with (streaming if streamed else server).connect() as client:
        client.send(request_bytes("POST", f"/way?way={way}", [("Transfer-Encoding", "chunked")]))
        client.send(chunked([body[:5], body[5:]]))
        text, rest = json.loads(client.read_response().body)
        expected = body.decode()
        if way in ("text", "with"):
            expected = expected.replace("\r\n", "\n")
        assert (text, rest) == (expected, "")
        client.expect_in_sync()


def test_errors_has_what_text_io_base_has(server):
    told = json.loads(server.request("GET", "/errors").body)
    assert told == dict.fromkeys(["tell", "fileno", "detach", "truncate", "seek", "read"], UNSUPPORTED) | {
        "readable": False,
        "seekable": False,
        "writable": True,
        "isatty": False,
        "flush": None,
    } | {
        "write": 1,
        "missing": [],
        "encoding": "utf-8",
    }
    server.expect_text("written in a with")


def test_file_wrapper_has_what_buffered_io_base_has(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    told = json.loads(server.request("GET", "/wrapper", [("X-File", str(path))]).body)
    for name, seekable in [("file", True), ("bytes", True), ("read", False)]:
        of = told[name]
        assert of["missing"] == [] and of["blksize"] == 4 and of["same"]
        assert (of["readable"], of["seekable"], of["isatty"], of["flush"]) == (True, seekable, False, None)
        assert (of["tell"], of["seek"]) == ((0, 0) if seekable else (UNSUPPORTED, UNSUPPORTED))
    assert told["file"]["fileno"] == "int"
    assert (told["bytes"]["fileno"], told["read"]["fileno"]) == (UNSUPPORTED, UNSUPPORTED)
    assert (told["file"]["write"], told["read"]["write"]) == (UNSUPPORTED, UNSUPPORTED)
    assert told["used"] == "[b'012', b'34', 5, 1, b'123456789', 4, b'0123', [b'456', b'789'], True]"
    assert told["only read"] == "[b'01', 4, b'2345']4"
    assert (told["text"], told["name"], told["no such"]) == (["a\n", "b\n"], True, False)


# Ranges of a file that is not there in memory


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Three gigabytes, of which the last eight bytes are something."""
    path = tmp_path_factory.mktemp("sparse") / "file"
    with path.open("wb") as file:
        file.truncate(3_000_000_000 - 8)
        file.seek(0, 2)
        file.write(b"the end.")
    return path


@pytest.mark.serial
@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("-8", b"the end."),
        ("2999999996-", b"end."),
        ("1000000000-1000000003", bytes(4)),
        ("0-0", b"\0"),
        ("2999999000-2999999999", bytes(992) + b"the end."),
    ],
)
def test_werkzeug_reads_only_the_range(server, sparse, wanted, part):
    skip_without("werkzeug")
    begun = time.monotonic()
    with server.connect() as client:
        response = client.request(
            fields=[("X-File", str(sparse)), ("Range", f"bytes={wanted}")], target="/werkzeug"
        )
        assert (response.status, response.body) == (206, part)
        assert response.get("Content-Range").endswith("/3000000000")
        client.expect_in_sync()
    assert time.monotonic() - begun < 0.5, "it seeks"


def test_werkzeug_asks_the_file_for_no_more(server, meeting, sparse):
    skip_without("werkzeug")
    response = server.request("GET", "/werkzeug?counted", [("X-File", str(sparse)), ("Range", "bytes=-8")])
    assert (response.status, response.body) == (206, b"the end.")
    meeting.wait_for("read 8")


def test_flask_answers_a_range(serve):
    skip_without("flask")
    server = serve("apps.flask_app:application")
    whole = server.request("GET", "/download")
    part = server.request("GET", "/download", [("Range", "bytes=10-19")])
    assert (part.status, part.body) == (206, whole.body[10:20])


# Files whose size is not that of their content


@pytest.mark.parametrize(
    "path",
    ["/proc/self/cgroup", "/proc/version", "/proc/meminfo", "/sys/kernel/mm/transparent_hugepage/enabled"],
)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_file_without_a_size_is_read_until_empty(server, path, version):
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        pytest.skip(str(error))
    with server.connect() as client:
        client.send(request_bytes(target="/path", fields=[("X-File", path)], version=version))
        response = client.read_response()
        assert response.status == 200 and response.get("Content-Length") is None
        # What /proc says of memory is another each time.
        assert len(response.body.splitlines()) == len(content.splitlines()) > 0
        assert path == "/proc/meminfo" or "cgroup" in path or response.body == content


def test_empty_file_and_file_at_its_end(server, tmp_path):
    path = tmp_path / "file"
    for content, skip in [(b"", 0), (b"0123456789", 10), (b"0123456789", 12)]:
        path.write_bytes(content)
        with server.connect() as client:
            response = client.request("GET", f"/path?skip={skip}", [("X-File", str(path))])
            assert (response.status, response.body) == (200, b"")
            client.expect_in_sync()


def test_growing_file_is_sent_as_read_gives_it(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with server.connect() as client:
        response = client.request("GET", "/growing", [("X-File", str(path))])
        assert response.body == b"0123456789" + 3 * b"grown 10 b"
        client.expect_in_sync()


def test_plain_file_has_a_length_and_uses_sendfile(server, tmp_path):
    """The length tells that it has not been read: nobody else knows it."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)
    with server.connect() as client:
        for skip in (0, 5):
            response = client.request("GET", f"/path?skip={skip}", [("X-File", str(path))])
            assert response.get("Content-Length") == str(1_000_000 - skip)
            assert response.body == path.read_bytes()[skip:]


# Iteration


@pytest.mark.parametrize(
    ("length", "asked", "body"), [(5, 1, b"block"), (10, 2, b"blockblock"), (12, 3, b"blockblockbl")]
)
def test_iteration_ends_with_content_length(server, meeting, length, asked, body):
    """PEP 3333: the server stops iterating when enough data has been sent. The iterable has no end here."""
    before = meeting.count(f"asked for {asked}")
    with server.connect() as client:
        assert client.request("GET", f"/counted-blocks?length={length}").body == body
        client.expect_in_sync()
    meeting.wait_for(f"asked for {asked}", before + 1)
    if length == 12:
        server.expect_log(r"GET /counted-blocks\b.*3 bytes more than its Content-Length")


@pytest.mark.parametrize(
    ("method", "query"),
    [("HEAD", ""), ("HEAD", "length=15"), ("GET", "status=204%20No"), ("GET", "status=304%20Not")],
)
def test_iteration_ends_where_there_is_no_body(server, meeting, method, query):
    before = meeting.count("asked for 1")
    with server.connect() as client:
        assert client.request(method, f"/counted-blocks?{query}").body == b""
        client.expect_in_sync()
    meeting.wait_for("asked for 1", before + 1)
