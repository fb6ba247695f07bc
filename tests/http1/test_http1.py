"""HTTP/1.1 and 1.0 on the wire: order, persistence, interim answers, targets, what is refused and how."""

from __future__ import annotations

import json

import pytest

from harness.http_client import Client, chunked, expect_refusal, request_bytes

SERVER = ("apps.echo:application", "--threads", "4", "--limit-request-body", "100000")


# Pipelining and persistence


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as client:
        client.send(b"".join(request_bytes("GET", f"/{number}") for number in range(200)))
        for number in range(200):
            assert json.loads(client.read_response().body)["target"] == f"/{number}"
        client.expect_in_sync()


def test_slow_request_holds_back_pipelined_ones(serve):
    server = serve("apps.control:application", "--threads", "4")
    with server.connect() as client:
        client.send(
            request_bytes(target="/hold?gate=first") + request_bytes(target="/ping", fields=[("X-Ping", "2")])
        )
        server.rendezvous.wait_for("holding first")
        client.expect_silence(0.1)
        server.rendezvous.open("first")
        assert client.read_response().body == b"held first"
        assert client.read_response().body == b"pong 2"


def test_pipelined_bodies_do_not_run_into_each_other(server):
    with server.connect() as client:
        head = request_bytes("POST", "/c", [("Transfer-Encoding", "chunked")])
        for number in range(20):
            client.send(
                request_bytes("POST", f"/{number}", body=b"n" * number) + head + chunked([b"c" * number])
            )
        for number in range(20):
            for letter in "nc":
                assert json.loads(client.read_response().body)["body"] == letter * number
        client.expect_in_sync()


def test_error_follows_the_responses_to_earlier_requests(server):
    with server.connect() as client:
        client.send(request_bytes(target="/1") + request_bytes(target="/2") + b"NOT HTTP\r\n\r\n")
        assert [json.loads(client.read_response().body)["target"] for _ in range(2)] == ["/1", "/2"]
        assert client.read_response().status == 400
        client.expect_end()


def test_connection_is_kept_by_default(server):
    with server.connect() as client:
        for _ in range(100):
            assert not client.request().closes
        client.expect_in_sync()


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "x, CLOSE ,y"])
def test_connection_close_is_obeyed_and_announced(server, value):
    with server.connect() as client:
        client.send(request_bytes(fields=[("Connection", value)]) + request_bytes(target="/not-served"))
        response = client.read_response()
        assert response.status == 200
        assert response.closes
        client.expect_end(reset_is_end=True)


def test_http_10_closes(server):
    with server.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        response = client.read_response()
        assert response.chunks is None
        client.expect_end()


def test_http_10_keep_alive_is_kept_and_confirmed(server):
    with server.connect() as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            response = client.read_response()
            assert "keep-alive" in response.get("Connection").lower()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_response().status == 200
        client.expect_end()


def test_http_10_keep_alive_ends_without_a_length(serve):
    server = serve("apps.contract:application")
    with server.connect() as client:
        client.send(b"GET /body?kind=generator HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = client.read_response()
        assert (response.body, response.close_delimited) == (b"hello", True)


def test_no_keep_alive_setting_closes_after_each_answer(serve):
    server = serve("apps.echo:application", "--keep-alive", "0")
    with server.connect() as client:
        assert client.request().closes
        client.expect_end()


def test_bytes_may_come_one_at_a_time(server):
    with server.connect() as client:
        for byte in request_bytes("POST", "/slowly", body=b"body"):
            client.send(bytes([byte]))
        assert json.loads(client.read_response().body)["body"] == "body"
        client.expect_in_sync()


def test_empty_lines_before_a_request_are_skipped(server):
    with server.connect() as client:
        client.send(b"\r\n" + request_bytes(target="/1") + b"\r\n" + request_bytes(target="/2"))
        assert [json.loads(client.read_response().body)["target"] for _ in range(2)] == ["/1", "/2"]


# Expect: 100-continue

EXPECTING = [("Expect", "100-continue"), ("Content-Length", "5")]


def test_continue_is_sent_once_for_a_wanted_body(server):
    with server.connect() as client:
        client.send(request_bytes("POST", "/", EXPECTING))
        assert client.read_head().status == 100
        client.expect_silence(0.1)
        client.send(b"hello")
        response = client.read_response()
        assert response.interim == []
        assert json.loads(response.body)["body"] == "hello"
        client.expect_in_sync()


def test_continue_is_case_insensitive_and_works_with_chunks(server):
    with server.connect() as client:
        client.send(
            request_bytes("POST", "/", [("expect", "100-Continue"), ("Transfer-Encoding", "chunked")])
        )
        assert client.read_head().status == 100
        client.send(chunked([b"hello"]))
        assert json.loads(client.read_response().body)["body"] == "hello"
        client.expect_in_sync()


def test_continue_is_unneeded_when_the_body_is_here(server):
    """RFC 9110, 10.1.1: may be omitted then; at most once in any case."""
    with server.connect() as client:
        client.send(request_bytes("POST", "/", EXPECTING) + b"hello")
        response = client.read_response()
        assert len(response.interim) <= 1
        assert json.loads(response.body)["body"] == "hello"
        client.expect_in_sync()


def test_continue_is_not_sent_before_a_refusal(server):
    with server.connect() as client:
        client.send(request_bytes("POST", "/", [("Expect", "100-continue"), ("Content-Length", "100001")]))
        response = client.read_response()
        assert (response.status, response.interim) == (413, [])
        client.expect_end()


def test_continue_is_not_sent_without_need(server):
    with server.connect() as client:
        response = client.request("GET", "/", [("Expect", "100-continue")])
        assert (response.status, response.interim) == (200, [])
        client.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
        response = client.read_response()
        assert (response.status, response.interim) == (200, [])


def test_continue_waits_for_its_turn_in_a_pipeline(server):
    with server.connect() as client:
        client.send(request_bytes(target="/first") + request_bytes("POST", "/second", EXPECTING))
        assert json.loads(client.read_response().body)["target"] == "/first"
        assert client.read_head().status == 100
        client.send(b"hello")
        assert json.loads(client.read_response().body)["body"] == "hello"


@pytest.mark.parametrize("value", ["200-ok", "100-continue, other", "x"])
def test_other_expectations_fail(server, value):
    expect_refusal(
        server.address, request_bytes("POST", "/", [("Expect", value), ("Content-Length", "5")]), 417
    )


# Targets and methods


def test_asterisk_form_for_options(server):
    with server.connect() as client:
        told = json.loads(client.request("OPTIONS", "*").body)
        assert (told["method"], told["target"]) == ("OPTIONS", "*")
        client.expect_in_sync()
    expect_refusal(server.address, request_bytes("GET", "*"), 400)


def test_connect_is_refused(server):
    expect_refusal(server.address, request_bytes("CONNECT", "example.org:443", host="example.org:443"), 501)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_malformed_requests_are_refused_at_once(server, data, status):
    expect_refusal(server.address, data, status)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HEAD / HTTP/1.1\r\n\r\n", 400),
        (b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"HEAD /" + b"a" * 9000, 414),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size", 400),
    ],
)
def test_refusal_of_head_has_no_body(server, data, status):
    response = expect_refusal(server.address, data, status, method="HEAD")
    assert int(response.get("Content-Length")) > 0


def test_refusal_after_a_head_request_has_its_body(server):
    with server.connect() as client:
        client.send(request_bytes("HEAD") + b"GET / HTTP/1.1\r\n\r\n")
        assert client.read_response("HEAD").status == 200
        response = client.read_response()
        assert (response.status, response.body) == (400, b"The Host field is missing.\n")
        client.expect_end()


def test_refusal_is_short_and_tells_nothing(server):
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: <script>secret</script>\r\n\r\n")
        response = client.read_response()
    assert response.status == 400
    assert response.get("Content-Type").startswith("text/plain")
    assert b"secret" not in response.body
    assert len(response.body) < 500


# Names with underscores


def test_underscored_names_are_dropped_and_logged_once_each(server):
    fields = [("X_Sly", "1"), ("X-Sly", "2"), ("Content_Length", "999"), ("Transfer_Encoding", "chunked")]
    with server.connect() as client:
        for _ in range(3):
            environ = json.loads(client.request("GET", "/", fields).body)["environ"]
            assert environ["HTTP_X_SLY"] == "2"
            assert "HTTP_CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ
        client.expect_in_sync()
    server.expect_log("X_Sly")
    assert len(server.find_records("X_Sly")) == 1


def test_underscored_names_are_logged_bounded_and_escaped(server):
    """A peer chooses the names: they must not fill the log, nor draw on the terminal that shows it."""
    with server.connect() as client:
        for start in range(0, 5000, 50):
            client.request("GET", "/", [(f"X_{number}", "v") for number in range(start, start + 50)])
    assert len(server.find_records("X_")) < 1000


# Files the client never finishes, answers it never reads


def test_many_connections_in_turn_leave_nothing_behind(server):
    for _ in range(50):
        server.request()
    descriptors = server.descriptors()
    for _ in range(200):
        server.request()
    assert server.descriptors() <= descriptors + 2


def test_requests_on_many_connections_do_not_mix(server):
    with server.connections(100) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/{number}"))
        for number, client in enumerate(clients):
            assert json.loads(client.read_response().body)["target"] == f"/{number}"


def test_unix_socket_speaks_the_same(serve, tmp_path):
    server = serve("apps.echo:application", bind=f"unix:{tmp_path}/socket")
    with Client(str(tmp_path / "socket")) as client:
        client.send(request_bytes(target="/1") + request_bytes("POST", "/2", body=b"x"))
        assert json.loads(client.read_response().body)["target"] == "/1"
        assert json.loads(client.read_response().body)["body"] == "x"
        client.expect_in_sync()
    assert server.address == str(tmp_path / "socket")
