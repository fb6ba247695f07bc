"""What the gateway uses again from request to request never ties two requests together."""

from __future__ import annotations

SERVER = ("apps.reuse:application", "--threads", "1")


def test_kept_callables_cannot_touch_another_request(server):
    with server.connect() as client:
        for _ in range(2):
            assert client.request("GET", "/keep").body == b"kept"
        response = client.request("GET", "/late")
        assert (response.status, response.get("X-Own"), response.get("X-Stolen")) == (200, "yes", None)
        assert response.interim == []
        assert response.body.decode() == " ".join(["AssertionError AssertionError nothing /keep"] * 4)
        client.expect_in_sync()


def test_start_response_in_another_thread(server):
    with server.connect() as client:
        for _ in range(3):
            response = client.request("GET", "/thread")
            assert (response.get("X-Thread"), response.body) == ("yes", b"threaded")


def test_file_wrapper_sends_what_the_object_reads(server):
    assert server.request("GET", "/gzip").body == b"unpacked " * 1000


def test_changes_to_an_environ_end_with_it(server):
    """From the third request on, the head is one that has been seen: its environ is a copy."""
    with server.connect() as client:
        assert [client.request("GET", "/change").body for _ in range(5)] == [b"nothing"] * 5
