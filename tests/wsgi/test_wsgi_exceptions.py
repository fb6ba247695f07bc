"""An application that raises, anything anywhere: a record, the right end for the client, a living server."""

from __future__ import annotations

import re

import pytest

from harness.interpreter import HAS_GIL

SERVER = ("apps.contract:application", "--threads", "1")

ERRORS = ["Exception", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException"]
BEFORE_THE_HEAD = ["call", "after-start", "iter", "lazy-start", "first-block", "after-empty-block"]
AFTER_THE_HEAD = ["second-block", "end"]
WITHOUT_ITERABLE = ["call", "after-start"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", BEFORE_THE_HEAD)
def test_raised_before_the_head_is_500(server, meeting, error, at):
    closed = meeting.count("closed /raise")
    response = server.request("GET", f"/raise?error={error}&at={at}")
    assert response.status == 500
    assert b"planted" not in response.body, "an answer must not tell the application's secrets"
    check_logged_and_closed(server, meeting, closed, at not in WITHOUT_ITERABLE)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", AFTER_THE_HEAD)
def test_raised_after_the_head_cuts_the_answer(server, meeting, error, at):
    closed = meeting.count("closed /raise")
    with server.connect() as client:
        client.send(f"GET /raise?error={error}&at={at} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.expect_truncated()
    check_logged_and_closed(server, meeting, closed, True)


@pytest.mark.parametrize("error", ERRORS)
def test_exception_of_close_is_logged_response_stands(server, meeting, error):
    closed = meeting.count("closed /raise")
    response = server.request("GET", f"/raise?error={error}&at=close")
    assert (response.status, response.body) == (200, b"firstsecond")
    check_logged_and_closed(server, meeting, closed, True)


def check_logged_and_closed(server, meeting, closed, has_iterable):
    """One record with method, path and traceback; close() exactly once; the next request is served."""
    record = server.expect_log(r"GET /raise\b.*planted error")
    assert "Traceback (most recent call last)" in record
    assert "/tests/apps/" in record
    assert server.request("GET", "/ping").status == 200
    assert meeting.count("closed /raise") == closed + (1 if has_iterable else 0)
    assert len(server.find_records("planted error")) == 1


def test_raised_within_an_announced_length_cuts_the_answer(server, meeting):
    closed = meeting.count("closed /raise-with-length")
    with server.connect() as client:
        client.send(b"GET /raise-with-length HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect_truncated()
    server.expect_log(r"GET /raise-with-length\b.*planted error")
    meeting.wait_for("closed /raise-with-length", closed + 1)


def test_raised_after_write_cuts_the_answer(server):
    with server.connect() as client:
        client.send(b"GET /raise-after-write HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect_truncated()
    server.expect_log(r"GET /raise-after-write\b.*planted error")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "value",
    ["none", "integer", "text", "bytes", "text-block", "none-block", "integer-block", "list-block", "object"],
)
def test_wrong_value_is_500(server, method, value):
    with server.connect() as client:
        assert client.request(method, f"/wrong?value={value}").status == 500
    server.expect_log(rf"{method} /wrong\b.*TypeError")
    assert server.request("GET", "/ping").status == 200


@pytest.mark.parametrize("value", ["none", "integer", "text"])
def test_wrong_block_after_the_head_cuts_the_answer(server, meeting, value):
    closed = meeting.count("closed /wrong-later")
    with server.connect() as client:
        client.send(f"GET /wrong-later?value={value} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.expect_truncated()
    server.expect_log(r"GET /wrong-later\b.*TypeError")
    meeting.wait_for("closed /wrong-later", closed + 1)


def test_500_for_head_has_no_body(server):
    with server.connect() as client:
        response = client.request("HEAD", "/raise?error=Exception&at=call")
        assert response.status == 500
        if response.closes:
            client.expect_end()
        else:
            client.expect_in_sync()
    server.expect_log(r"HEAD /raise\b.*planted error")


def test_errors_do_not_leak_memory_or_descriptors(server):
    """A traceback holds frames, which hold environ; cycles through it would keep every failed request."""
    server.expected.append(re.compile("further failures of the application were not logged"))
    targets = [f"/raise?error=Exception&at={at}" for at in (*BEFORE_THE_HEAD, "close")]
    for target in targets * 20:
        server.request("GET", target)
    descriptors, memory = server.descriptors(), server.memory()
    for target in targets * 120:
        server.request("GET", target)
    server.expect_log(r"GET /raise\b.*planted error")
    assert server.descriptors() <= descriptors + 1
    # Without a GIL memory is given back later: what one thread lets go of, others may still be looking at.
    assert server.memory() < memory + (2_000_000 if HAS_GIL else 4_000_000)


def test_length_of_a_logged_error_is_bounded(serve):
    server = serve(*SERVER)
    assert server.request("GET", "/raise-large").status == 500
    record = server.expect_log(r"GET /raise-large: the application failed.*xend")
    assert len(record) < 70_000
    assert (
        "in raise_large" in record and "ValueError: beginxxx" in record and record.rstrip().endswith("xend")
    )
    assert "characters left out" in record
