"""start_response and write, by the letter of PEP 3333."""

from __future__ import annotations

import pytest

SERVER = ("apps.contract:application", "--threads", "1")


def start(server, status, headers):
    """The answer of an application that calls start_response with these values."""
    return server.request("GET", "/start", [("X-Start", ascii((status, headers)))])


def test_status_and_fields_arrive_as_given(server):
    response = start(server, "200 OK", [("X-B", "2"), ("x-a", "1"), ("X-B", "3")])
    assert (response.status, response.reason, response.body) == (200, "OK", b"body")
    given = [(name, value) for name, value in response.fields if name.lower().startswith("x-")]
    assert given == [("X-B", "2"), ("x-a", "1"), ("X-B", "3")]


def test_arguments_by_name_are_taken_too(server):
    assert server.request("GET", "/start-by-name").body == b"body"


@pytest.mark.parametrize("status", ["299 Custom Reason", "404 Not here, sorry", "599 \xe9t\xe9", "999 Last"])
def test_custom_status_is_kept(server, status):
    response = start(server, status, [])
    assert f"{response.status} {response.reason}" == status


def test_duplicate_fields_are_kept_in_order(server):
    cookies = ["a=1; Path=/", "b=2, with comma", "c=3; Expires=Wed, 21 Oct 2015 07:28:00 GMT"]
    response = start(server, "200 OK", [("Set-Cookie", cookie) for cookie in cookies])
    assert response.all("Set-Cookie") == cookies


def test_latin_1_values_arrive_as_latin_1(server):
    assert start(server, "200 OK", [("X-Latin", "caf\xe9 \xff")]).get("X-Latin") == "caf\xe9 \xff"


def test_date_and_server_are_added_once(server):
    response = start(server, "200 OK", [])
    assert response.get("Date") is not None
    assert response.get("Server").lower().startswith("portico")


def test_date_and_server_of_the_application_stand(server):
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    response = start(server, "200 OK", [("date", date), ("SERVER", "mine")])
    assert (response.get("Date"), response.get("Server")) == (date, "mine")


@pytest.mark.parametrize(
    "status",
    [
        "",
        "20",
        "2000",
        "099",
        "101",
        "20 OK",
        "2000 OK",
        "abc OK",
        "099 Low",
        "100 Continue",
        "101 Switching",
        "-20 OK",
        "200OK",
        " 200 OK",
        "200 OK\r\nX-Injected: 1",
        "200 O\nK",
        "200 O\x00K",
        "200 \u20ac",
        b"200 OK",
        200,
        None,
    ],
)
def test_wrong_status_is_refused(server, status):
    check_refused(server, start(server, status, []))


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "b\r\nX-Injected: 1"),
        ("X-A", "b\nX-Injected: 1"),
        ("X-A", "b\rc"),
        ("X-A", "b\x00c"),
        ("X-A", "\x7f"),
        ("X-A\r\nX-Injected", "1"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("X-\xe9", "b"),
        ("X-A", "\u20ac"),
        ("X-A", b"b"),
        (b"X-A", "b"),
        ("X-A", 1),
        ("X-A", None),
        ("X-A",),
        ("X-A", "b", "c"),
        "X-A",
        None,
    ],
)
def test_wrong_field_is_refused_and_injects_nothing(server, header):
    check_refused(server, start(server, "200 OK", [("X-Before", "1"), header]))


@pytest.mark.parametrize("headers", [None, 7, "X-A: b", {"X-A": "b"}, ["X-A", "b"], [["X-A"]]])
def test_headers_of_wrong_type_are_refused(server, headers):
    check_refused(server, start(server, "200 OK", headers))


@pytest.mark.parametrize("length", ["", "x", "-1", "+4", "4.0", "0x4", "4, 4", " 4 4", "9" * 40])
def test_wrong_content_length_is_refused(server, length):
    check_refused(server, start(server, "200 OK", [("Content-Length", length)]))


def test_two_content_lengths_are_refused(server):
    check_refused(server, start(server, "200 OK", [("Content-Length", "4"), ("Content-Length", "5")]))


@pytest.mark.parametrize("wrong", ["status", "pair", "name", "list"])
def test_refusal_may_call_the_server_again(server, wrong):
    """Its `repr` is the code of the application: no lock is held, and no more is asked for than is told."""
    response = server.request("GET", f"/start-asking?{wrong}")
    assert response.status == 200
    asked, length, message = response.body.decode().split(" ", 2)
    assert 1 <= int(asked) < 10 and "asking" in message, message
    assert int(length) < 250, message


def check_refused(server, response):
    """500, nothing of the application's in it, and a record that names the request; the server lives."""
    assert response.status == 500, response
    assert not response.all("X-Injected") and not response.all("X-Before")
    assert b"X-Injected" not in response.body
    server.expect_log(r"GET /start\b")
    assert server.request("GET", "/ping").status == 200


def test_second_call_without_exc_info_raises(server):
    response = server.request("GET", "/start-twice")
    assert response.status == 200
    assert response.body.startswith(b"raised ") and response.body != b"raised nothing"


def test_second_call_raises_although_the_first_raised(server):
    """The first call counts, whatever came of it."""
    response = server.request("GET", "/start-again-after-error")
    assert (response.status, response.body) == (200, b"ValueError AssertionError")


def test_exc_info_replaces_an_unsent_head(server):
    response = server.request("GET", "/replace")
    assert (response.status, response.reason, response.body) == (503, "Replaced", b"replaced")
    assert response.get("X-First") is None
    assert response.get("X-Second") == "2"


def test_exc_info_reraises_after_the_head_was_sent(server, meeting):
    with server.connect() as client:
        client.send(b"GET /replace-late HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect_truncated()
    server.expect_log(r"GET /replace-late\b.*ValueError: after the head went out")
    meeting.wait_for("raised the same True")
    meeting.wait_for("closed /replace-late")


def test_start_response_that_is_never_called(server, meeting):
    assert server.request("GET", "/never-started").status == 500
    server.expect_log(r"GET /never-started\b")
    meeting.wait_for("closed /never-started")


def test_start_response_may_be_called_by_the_iterable(server):
    with server.connect() as client:
        response = client.request("GET", "/started-lazily")
        assert (response.status, response.reason, response.body) == (201, "Lazy", b"body")
        client.expect_in_sync()


def test_a_thousand_fields_arrive(server):
    with server.connect() as client:
        response = client.request("GET", "/many-headers?count=1000")
        sent = [(name, value) for name, value in response.fields if name.startswith("X-")]
        assert sent == [(f"X-{number}", str(number)) for number in range(1000)]
        client.expect_in_sync()


def test_ten_thousand_fields_arrive_or_are_refused(server):
    response = server.request("GET", "/many-headers?count=10000")
    if response.status == 200:
        assert len([name for name, _ in response.fields if name.startswith("X-")]) == 10_000
    else:
        assert response.status == 500
        server.expect_log(r"GET /many-headers\b")
    assert server.request("GET", "/ping").status == 200


# write


def test_written_bytes_come_before_iterated_ones(server):
    with server.connect() as client:
        assert client.request("GET", "/write").body == b"written twice, then iterated"
        client.expect_in_sync()


def test_write_with_content_length(server):
    with server.connect() as client:
        response = client.request("GET", "/write-length")
        assert (response.get("Content-Length"), response.body) == ("11", b"hello world")
        client.expect_in_sync()


def test_everything_written(server):
    with server.connect() as client:
        assert client.request("GET", "/write-only").body == b"only written"
        client.expect_in_sync()


def test_written_bytes_leave_at_once(server, meeting):
    with server.connect() as client:
        client.send(b"GET /write-flushes HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_head().status == 200
        assert client.read_chunk() == b"first"
        meeting.wait_for("holding write-flushes")
        meeting.open("write-flushes")
        assert list(client.read_chunks()) == [b"second"]
        client.expect_in_sync()


def test_last_block_of_a_burst_waits_for_nothing(server, meeting):
    with server.connect() as client:
        client.send(b"GET /burst-holds HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_head().status == 200
        assert [client.read_chunk() for _ in range(4)] == [b"one", b"two", b"three", b"four"]
        meeting.wait_for("holding burst")
        meeting.open("burst")
        assert list(client.read_chunks()) == [b"five"]
        client.expect_in_sync()


def test_write_takes_bytes_only(server):
    assert server.request("GET", "/write-text").status == 500
    server.expect_log(r"GET /write-text\b.*TypeError")


def test_wsgi_errors_reaches_the_log(server):
    assert server.request("GET", "/errors").status == 200
    for text in ("written to wsgi.errors", "one line of two", "two lines of two \xe9\u20ac"):
        server.expect_text(text)
