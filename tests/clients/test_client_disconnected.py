"""`environ["portico.client_disconnected"]`: an application can ask whether somebody still waits.

It can be told when nobody does and, with `--on-disconnect raise`, be ended then.
"""

from __future__ import annotations

import pytest

from harness.gateway_client import PROTOCOLS, Gateway, packed, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.rendezvous import wait_until

SERVER = ("apps.stuck:application", "--workers", "1", "--threads", "2")
GONE = "apps.gone:application"
RAISE = ("--workers", "1", "--threads", "1", "--on-disconnect", "raise")


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


def test_client_that_sent_more_is_still_connected(server, meeting):
    there = meeting.count("still there")
    with server.connect() as client:
        client.send(request_bytes(target="/watch-client?patience=0.2") + request_bytes(target="/ping"))
        assert [client.read_response().body for _ in range(2)] == [b"done", b"pong "]
    assert meeting.count("still there") == there + 1


def test_kept_object_ignores_other_requests(serve):
    server = serve("apps.stuck:application", "--workers", "1", "--threads", "1")
    with server.connect() as client:
        for number in range(5):
            assert client.request(target="/keep-asking").body == f"{number} False".encode()
    assert server.request("GET", "/keep-asking").body == b"5 False"


def leave_during(server, target: str, method: str = "GET", how: str = "close") -> None:
    """A client that leaves when its request has begun."""
    begun = len(server.rendezvous.matching("begins"))
    with server.connect() as client:
        client.send(request_bytes(method, target))
        server.rendezvous.wait_for_prefix("begins", begun + 1)
        getattr(client, how)()


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_callbacks_are_called_once_and_in_another_thread(serve, how):
    server = serve(GONE, "--workers", "1", "--threads", "1")
    leave_during(server, "/callback?patience=10", "POST", how)
    server.rendezvous.wait_for("waited for it", patience=2)
    assert server.request("GET", "/ping").status == 200
    (called,) = server.rendezvous.matching("called back")
    assert called.startswith("called back for /callback, not in ") and "portico-1" not in called
    server.expect_log(r"a callback of portico\.client_disconnected raised\n.*ZeroDivisionError")
    assert "begins with False" in server.rendezvous.events()


def test_callbacks_of_a_waiting_client_are_not_called(serve):
    server = serve(GONE, "--workers", "1", "--threads", "1")
    with server.connect() as client:
        assert client.request(target="/callback?patience=0.4").body == b"done"
        assert client.request(target="/ping").status == 200
    leave_during(server, "/late-callback")
    server.rendezvous.wait_for("too late: True")
    server.rendezvous.wait_for("called back: True")
    assert not server.rendezvous.matching("called back for"), "nor when it leaves afterwards"


def test_a_call_does_not_end_before_its_callbacks(serve):
    """They could come in the way of the next request: what they cancel might be its query."""
    server = serve(GONE, "--workers", "1", "--threads", "1")
    leave_during(server, "/slow-callback")
    assert server.request("GET", "/ping").status == 200
    assert server.rendezvous.count("callback ends") == 1


def test_what_was_kept_is_for_no_other_request(serve):
    server = serve(GONE, "--workers", "1", "--threads", "1")
    for expected in (b"[]", b"[None, False]"):
        assert server.request("GET", "/keep").body == expected
    leave_during(server, "/register-late?patience=10")
    server.rendezvous.wait_for("waited for it", patience=2)
    assert not server.rendezvous.count("called back for another")
    server.expect_log("ZeroDivisionError")
    assert server.request("GET", "/no-callable").body == b"the callback must be callable"


@pytest.mark.parametrize(("method", "how"), [("GET", "close"), ("HEAD", "reset"), ("GET", "half_close")])
def test_exception_ends_the_call_of_a_departed_client(serve, tmp_path, method, how):
    log = tmp_path / "access.log"
    server = serve(GONE, *RAISE, "--access-logfile", str(log))
    leave_during(server, "/spin?patience=30", method, how)
    server.rendezvous.wait_for("raised", patience=2)
    line = f'"{method} /spin?patience=30 HTTP/1.1" 499 '
    wait_until(lambda: line in log.read_text(), "the line in the access log")
    assert server.request("GET", "/spin?patience=0.5").body == b"done", (
        "which a client waits for is left alone"
    )


@pytest.mark.parametrize(
    ("method", "options"), [("POST", RAISE), ("GET", RAISE[:-2]), ("GET", (*RAISE, "--allow-half-close"))]
)
def test_others_are_left_alone(serve, method, options):
    server = serve(GONE, *options)
    leave_during(
        server, "/spin?patience=0.6", method, "half_close" if "--allow-half-close" in options else "close"
    )
    server.rendezvous.wait_for("not raised")
    assert not server.rendezvous.count("raised")


def test_it_is_raised_once(serve):
    server = serve(GONE, *RAISE)
    leave_during(server, "/swallow")
    server.rendezvous.wait_for("raised 1 times")


def test_silent_stream_is_closed_soon(serve):
    server = serve(GONE, *RAISE)
    leave_during(server, "/stream?patience=30")
    server.rendezvous.wait_for("closing", patience=1)
    server.rendezvous.wait_for("closed")
    assert server.request("GET", "/ping").status == 200


def test_what_runs_after_the_answer_is_left_alone(serve):
    """Although its connection has been closed."""
    server = serve(GONE, *RAISE)
    with server.connect() as client:
        client.send(request_bytes(target="/answered", fields=[("Connection", "close")]))
        assert client.read_response().body == b"done"
        client.expect_end()
    server.rendezvous.wait_for("went on")
    assert not {"raised", "called back"} & set(server.rendezvous.events())


def test_the_timeout_comes_through_after_it(serve):
    """In a call that has swallowed the one exception the other is raised all the same."""
    server = serve(GONE, *RAISE, "--timeout", "600ms")
    leave_during(server, "/swallow")
    server.expect_log("timeout: GET /swallow")
    server.expect_text("GET /swallow: ended by portico.RequestTimeout")


# Blocks ask the network too


STREAMS = "apps.streams:application"
BLOCKS = [
    "",  # Empty ones, before the head is out.
    "?first=head",  # Empty ones behind the head.
    "?block=data",
    "?block=data&first=head",
    "?pause=0",  # Without a pause for anybody else.
    "?pause=0&first=head",
]


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
@pytest.mark.parametrize("query", BLOCKS)
def test_every_block_asks_whether_the_client_is_there(serve, query, how):
    server = serve(STREAMS, "--workers", "1", "--threads", "1")
    leave_during(server, f"/until-gone{query}", "GET", how)
    server.rendezvous.wait_for("closed early", patience=2)
    assert server.request("GET", "/ping").status == 200


@pytest.mark.parametrize("block", ["", "data"])
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_write_asks_too(serve, block, how):
    server = serve(STREAMS, "--workers", "1", "--threads", "1")
    leave_during(server, f"/write-until-gone?block={block}", "GET", how)
    server.rendezvous.wait_for("write raised ClientDisconnected", patience=2)
    assert server.request("GET", "/ping").status == 200


@pytest.mark.parametrize("query", BLOCKS)
def test_every_block_asks_in_http2(serve, query):
    server = serve(STREAMS, "--workers", "1", "--threads", "1")
    with Http2Client(server.address) as client:
        stream = client.open(f"/until-gone{query}")
        server.rendezvous.wait_for("begins")
        client.reset(stream)
        server.rendezvous.wait_for("closed early", patience=2)
        client.expect_alive()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("query", BLOCKS)
def test_every_block_asks_the_gateway(serve, tmp_path, protocol, query):
    bind = f"{protocol}://unix:{tmp_path}/s"
    server = serve(STREAMS, "--workers", "1", "--threads", "1", bind=bind)
    with Gateway(server.address, protocol) as gateway:
        gateway.send(packed(protocol, variables(f"/until-gone{query}")))
        server.rendezvous.wait_for("begins")
    server.rendezvous.wait_for("closed early", patience=2)


@pytest.mark.parametrize("query", BLOCKS)
def test_allowed_half_close_is_served(serve, query):
    server = serve(STREAMS, "--workers", "1", "--threads", "1", "--allow-half-close")
    with server.connect() as client:
        client.send(request_bytes(target=f"/until-gone{query}"))
        server.rendezvous.wait_for("begins")
        client.half_close()
        # Whoever does not allow it closes at one of the next blocks.
        begun = server.rendezvous.count("yields")
        server.rendezvous.wait_for("yields", begun + 20)
        assert "closed early" not in server.rendezvous.events()
        client.reset()
    server.rendezvous.wait_for("closed early", patience=2)


def test_client_half_closing_at_once_gets_quick_responses(serve):
    """As `nc -N` does: a response of several blocks that are there at once is whole."""
    server = serve("apps.contract:application", "--workers", "1", "--threads", "1")
    for _ in range(20):
        with server.connect() as client:
            client.send(request_bytes(target="/body?kind=zero-blocks"))
            client.half_close()
            assert client.read_response().body == b"hello"


def test_client_leaving_before_the_head_is_499(serve, tmp_path):
    log = tmp_path / "access.log"
    log_format = ("--access-logformat", "%(U)s %(s)s %({portico.reason}e)s")
    server = serve(STREAMS, "--workers", "1", "--threads", "1", "--access-logfile", str(log), *log_format)
    leave_during(server, "/until-gone", "GET", "half_close")
    server.rendezvous.wait_for("closed early", patience=2)
    wait_until(lambda: log.exists() and "/until-gone 499 client_gone" in log.read_text(), "the line")
