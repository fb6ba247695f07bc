"""`environ["portico.client_disconnected"]`: an application can ask whether somebody still waits."""

from __future__ import annotations

import pytest

from harness.http_client import request_bytes

SERVER = ("apps.stuck:application", "--workers", "1", "--threads", "2")


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
def test_a_client_that_leaves_is_noticed(server, meeting, leave):
    gone, begun = meeting.count("gone"), meeting.count("begins with False")
    with server.connect() as client:
        client.send(request_bytes(target="/watch-client?patience=10"))
        meeting.wait_for("begins with False", begun + 1)
        getattr(client, leave)()
        meeting.wait_for("gone", gone + 1, patience=2)


def test_a_client_that_waits_is_not(server, meeting):
    there = meeting.count("still there")
    with server.connect() as client:
        client.send(request_bytes(target="/watch-client?patience=0.2"))
        assert client.read_response().body == b"done"
        client.expect_in_sync()
    assert meeting.count("still there") == there + 1


def test_a_client_that_has_sent_more_is_still_there(server, meeting):
    there = meeting.count("still there")
    with server.connect() as client:
        client.send(request_bytes(target="/watch-client?patience=0.2") + request_bytes(target="/ping"))
        assert [client.read_response().body for _ in range(2)] == [b"done", b"pong "]
    assert meeting.count("still there") == there + 1


def test_one_that_was_kept_says_nothing_of_other_requests(serve):
    server = serve("apps.stuck:application", "--workers", "1", "--threads", "1")
    with server.connect() as client:
        for number in range(5):
            assert client.request(target="/keep-asking").body == f"{number} False".encode()
    assert server.request("GET", "/keep-asking").body == b"5 False"
