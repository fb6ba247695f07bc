"""The iterable that an application returns: framing, laziness, close(), files, early hints."""

from __future__ import annotations

import re
import time

import pytest

SERVER = ("apps.contract:application", "--threads", "1")

WHOLE = {
    "one": b"hello",
    "tuple": b"hello",
    "empty-list": b"",
    "empty-block": b"",
    "many": b"hello",
    "generator": b"hello",
    "empty-generator": b"",
    "zero-blocks": b"hello",
    "large": b"x" * 3_000_000,
    "large-blocks": b"".join(b"%07d" % number * 10_000 for number in range(40)),
    "set": b"hello",
    "dict": b"hello",
    "sequence": b"hello",
}


@pytest.mark.parametrize("kind", WHOLE)
def test_body_arrives_whole_and_framed(server, kind):
    with server.connect() as client:
        response = client.request("GET", f"/body?kind={kind}")
        assert response.body == WHOLE[kind]
        assert not response.closes
        client.expect_in_sync()


@pytest.mark.parametrize("kind", WHOLE)
def test_http_10_body_ends_by_length_or_close(server, kind):
    with server.connect() as client:
        client.send(f"GET /body?kind={kind} HTTP/1.0\r\n\r\n".encode())
        response = client.read_response()
        assert response.body == WHOLE[kind]
        assert response.chunks is None
        client.expect_end()


@pytest.mark.parametrize("kind", WHOLE)
def test_head_has_the_fields_and_no_body(server, kind):
    with server.connect() as client:
        full = client.request("GET", f"/body?kind={kind}")
        head = client.request("HEAD", f"/body?kind={kind}")
        assert (head.status, head.reason) == (full.status, full.reason)
        if head.get("Content-Length") is not None:
            assert head.get("Content-Length") == str(len(WHOLE[kind]))
        client.expect_in_sync()


@pytest.mark.parametrize(
    ("kind", "length"), [("one", 5), ("tuple", 5), ("empty-list", 0), ("empty-block", 0)]
)
def test_length_of_a_single_block_is_inferred(server, kind, length):
    response = server.request("GET", f"/body?kind={kind}")
    assert response.get("Content-Length") == str(length)


@pytest.mark.parametrize("kind", ["one", "many", "generator", "zero-blocks"])
def test_announced_length_is_kept(server, kind):
    with server.connect() as client:
        response = client.request("GET", f"/body?kind={kind}&length=5")
        assert (response.get("Content-Length"), response.body) == ("5", b"hello")
        client.expect_in_sync()


@pytest.mark.parametrize("kind", ["one", "many", "generator"])
def test_head_keeps_the_announced_length(server, kind):
    with server.connect() as client:
        assert client.request("HEAD", f"/body?kind={kind}&length=5").get("Content-Length") == "5"
        client.expect_in_sync()


def test_head_response_may_announce_an_absent_bodys_length(server):
    with server.connect() as client:
        response = client.request("HEAD", "/body?kind=empty-list&length=12345")
        assert response.get("Content-Length") == "12345"
        client.expect_in_sync()


@pytest.mark.parametrize("status", ["204%20No%20Content", "304%20Not%20Modified"])
@pytest.mark.parametrize("kind", ["empty-list", "one", "generator", "many"])
def test_status_without_body_sends_none(server, status, kind):
    with server.connect() as client:
        response = client.request("GET", f"/body?kind={kind}&status={status}")
        assert response.status == int(status[:3])
        client.expect_in_sync()


def test_304_may_announce_the_length_of_200(server):
    with server.connect() as client:
        response = client.request("GET", "/body?kind=empty-list&length=5&status=304%20Not%20Modified")
        assert response.status == 304
        assert response.get("Content-Length") in (None, "5")
        client.expect_in_sync()


@pytest.mark.parametrize("kind", ["one", "many", "generator", "large"])
def test_surplus_bytes_never_reach_the_wire(server, kind):
    with server.connect() as client:
        client.send(f"GET /body?kind={kind}&length=3 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        response = client.read_response()
        assert (response.get("Content-Length"), response.body) == ("3", WHOLE[kind][:3])
        if response.closes:
            client.expect_end()
        else:
            client.expect_in_sync()
    if kind != "generator":  # Of that no more is asked for.
        server.expect_log(r"GET /body\b.*Content-Length")


@pytest.mark.parametrize("kind", ["one", "many", "generator", "empty-list"])
def test_missing_bytes_cut_the_connection(server, kind):
    with server.connect() as client:
        client.send(f"GET /body?kind={kind}&length=50 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.expect_truncated()
    server.expect_log(r"GET /body\b.*Content-Length")
    assert server.request("GET", "/ping").status == 200


def test_each_block_leaves_before_the_next_is_made(server, meeting):
    with server.connect() as client:
        client.send(b"GET /held-blocks HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_head().get("Transfer-Encoding") == "chunked"
        assert client.read_chunk() == b"first"
        meeting.open("second")
        assert client.read_chunk() == b"second"
        meeting.open("third")
        assert list(client.read_chunks()) == [b"third"]
        client.expect_in_sync()


def test_block_leaves_while_the_next_is_computed(server):
    with server.connect() as client:
        client.send(b"GET /computed-blocks?seconds=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_head().status == 200
        assert client.read_chunk() == b"first"
        first = time.monotonic()
        assert list(client.read_chunks()) == [b"second"]
        assert time.monotonic() - first > 0.8


# close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "query",
    [
        "kind=one",
        "kind=one&length=5",
        "kind=empty-list",
        "kind=zero-blocks",
        "kind=generator&length=5",
        "kind=one&status=204%20No%20Content",
        "kind=one&status=304%20Not%20Modified",
        "kind=large-blocks",
    ],
)
def test_close_is_called_once(server, meeting, method, query):
    with counted_close(server, meeting), server.connect() as client:
        client.request(method, f"/tracked?{query}")
        client.expect_in_sync()


def test_close_is_called_once_despite_wrong_lengths(server, meeting):
    for length in (3, 50):
        with counted_close(server, meeting):
            with server.connect() as client:
                client.send(
                    f"GET /tracked?kind=generator&length={length} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
                )
                if length == 50:
                    client.expect_truncated()
                else:
                    assert client.read_response().body == b"hel"
    server.expect_log(r"GET /tracked\b.*less than its Content-Length")


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_close_is_called_once_when_the_client_leaves(server, meeting, leave):
    before = meeting.count("closed /endless")
    client = server.connect()
    client.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_head().status == 200
    assert client.read_chunk()
    getattr(client, leave)()
    meeting.wait_for("closed /endless", before + 1)
    assert server.request("GET", "/ping").status == 200
    assert meeting.count("closed /endless") == before + 1


class counted_close:
    """Asserts that the `/tracked` iterable is closed exactly once within the block.

    The server has one thread, so an answer to a later request means that the call before it is over.
    """

    def __init__(self, server, meeting) -> None:
        self.server, self.meeting = server, meeting

    def __enter__(self) -> None:
        self.before = self.meeting.count("closed /tracked")

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            assert self.server.request("GET", "/ping").status == 200
            assert self.meeting.count("closed /tracked") == self.before + 1


# Files


@pytest.fixture(scope="module")
def big_file(tmp_path_factory):
    """A file that no socket buffer holds."""
    path = tmp_path_factory.mktemp("files") / "big"
    path.write_bytes(b"".join(b"%015d\n" % number for number in range(250_000)))
    return path


@pytest.mark.parametrize("kind", ["real", "buffered", "memory", "unseekable"])
@pytest.mark.parametrize(
    "query", ["", "&skip=100", "&length=4000000", "&length=1000", "&block=100000", "&iterated"]
)
def test_file_wrapper_sends_from_where_the_file_stands(server, big_file, kind, query):
    whole = big_file.read_bytes()
    skip = 100 if "skip" in query else 0
    length = int(query.rpartition("=")[2]) if "length" in query else len(whole)
    with server.connect() as client:
        response = client.request("GET", f"/file?kind={kind}{query}", [("X-File", str(big_file))])
        assert response.status == 200
        assert response.body == whole[skip : skip + length]
        if not response.closes:
            client.expect_in_sync()
    if length < len(whole) and "iterated" in query:
        # Only the wrapper itself may be longer than its Content-Length (PEP 3333).
        server.expected.append(re.compile(r"GET /file\b.*Content-Length"))


def test_file_shorter_than_its_length_cuts_the_connection(server, big_file):
    with server.connect() as client:
        client.send(
            f"GET /file?kind=real&length=5000000 HTTP/1.1\r\nHost: a\r\nX-File: {big_file}\r\n\r\n".encode()
        )
        client.expect_truncated()
    server.expect_log(r"GET /file\b")


def test_head_of_a_file_sends_nothing_but_closes(server, meeting, big_file):
    before = meeting.count("closed /file")
    with server.connect() as client:
        response = client.request("HEAD", "/file?kind=real&length=4000000", [("X-File", str(big_file))])
        assert response.get("Content-Length") == "4000000"
        client.expect_in_sync()
    assert meeting.count("closed /file") == before + 1


def test_file_is_closed_when_it_is_sent(server, meeting, big_file):
    before = meeting.count("closed /file")
    descriptors = server.descriptors()
    for _ in range(20):
        assert len(server.request("GET", "/file?kind=real", [("X-File", str(big_file))]).body) == 4_000_000
    meeting.wait_for("closed /file", before + 20)
    assert server.request("GET", "/ping").status == 200
    assert meeting.count("closed /file") == before + 20
    assert server.descriptors() <= descriptors + 2


def test_files_are_sent_without_sendfile_too(serve, big_file):
    server = serve("apps.contract:application", "--no-sendfile")
    assert server.request("GET", "/file?kind=real", [("X-File", str(big_file))]).body == big_file.read_bytes()


# Early hints


def test_early_hints_come_before_the_answer(server):
    with server.connect() as client:
        response = client.request("GET", "/hints")
        assert (response.status, response.body) == (200, b"hinted")
        assert [hint.status for hint in response.interim] == [103, 103]
        assert response.interim[0].all("Link") == ["</style.css>; rel=preload; as=style"]
        assert response.interim[1].all("Link") == ["</app.js>; rel=preload; as=script"]
        assert response.interim[1].get("X-Hint") == "2"
        client.expect_in_sync()


def test_http_10_gets_no_early_hints(server):
    with server.connect() as client:
        client.send(b"GET /hints HTTP/1.0\r\n\r\n")
        response = client.read_response()
        assert (response.interim, response.body) == ([], b"hinted")


def test_early_hints_inject_nothing(server):
    response = server.request("GET", "/hints-bad")
    assert response.status == 500
    assert not any(hint.all("X-Injected") for hint in response.interim)
    server.expect_log(r"GET /hints-bad\b")


def test_late_hints_do_not_stand_within_the_body(server):
    with server.connect() as client:
        response = client.request("GET", "/hints-late")
        assert (response.body, response.interim) == (b"firstsecond", [])
        client.expect_in_sync()
