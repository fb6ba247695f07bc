"""The queue of complete requests: bounded, in order, without those whose client has left."""

from __future__ import annotations

import time

import pytest

from harness.http_client import request_bytes

# Seconds: more than the 10 ms for which a request is run all the same although its client has left.
BEYOND_GRACE = 0.05

SERVER = ("apps.control:application", "--threads", "4")


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_queued_requests_of_departed_clients_never_run(serve, leave):
    server = serve("apps.control:application", "--threads", "1")
    meeting = server.rendezvous
    with server.connect() as busy, server.connect() as patient:
        busy.send(request_bytes(target="/hold?gate=only"))
        meeting.wait_for("holding only")
        leavers = [server.connect() for _ in range(3)]
        for number, client in enumerate(leavers):
            client.send(request_bytes(target=f"/run?name=left-{number}"))
        patient.send(request_bytes(target="/run?name=stayed"))
        server.wait_engine()
        for client in leavers:
            getattr(client, leave)()
        time.sleep(BEYOND_GRACE)
        server.wait_engine()
        meeting.open("only")
        assert patient.read_response().body == b"stayed"
        assert busy.read_response().body == b"held only"
    assert [event for event in meeting.events() if event.startswith("runs")] == ["runs stayed"]
    server.stop()
    (told,) = server.find_records("Since the start")
    assert told.endswith("; queued requests not run because their client had left: 3")


def test_allow_half_close_runs_their_queued_requests(serve):
    server = serve("apps.control:application", "--threads", "1", "--allow-half-close")
    meeting = server.rendezvous
    with server.connect() as busy, server.connections(3) as clients:
        busy.send(request_bytes(target="/hold?gate=only"))
        meeting.wait_for("holding only")
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/run?name=half-{number}"))
            client.half_close()
        server.wait_engine()
        meeting.open("only")
        for number, client in enumerate(clients):
            assert client.read_response().body == f"half-{number}".encode()
            client.expect_end()


def test_requests_beyond_the_queue_get_503(serve):
    server = serve("apps.control:application", "--threads", "1", "--max-queue", "2")
    meeting = server.rendezvous
    with server.connect() as busy, server.connections(2) as queued:
        busy.send(request_bytes(target="/hold?gate=only"))
        meeting.wait_for("holding only")
        for client in queued:
            client.send(request_bytes(target="/run?name=queued"))
        server.wait_engine()
        for _ in range(3):
            response = server.request("GET", "/run?name=beyond")
            assert response.status == 503
            assert int(response.get("Retry-After")) > 0
        meeting.open("only")
        assert [client.read_response().body for client in (busy, *queued)] == [
            b"held only",
            b"queued",
            b"queued",
        ]
    assert meeting.count("runs beyond") == 0
    assert server.request("GET", "/run?name=after").status == 200
    server.stop()
    (told,) = server.find_records("Since the start")
    assert told.endswith("; requests answered 503 because the queue was full (--max-queue): 3")


def test_503_keeps_framing_for_requests_with_body(serve):
    server = serve("apps.control:application", "--threads", "1", "--max-queue", "1")
    with server.connect() as busy, server.connect() as queued, server.connect() as client:
        busy.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        queued.send(request_bytes(target="/run?name=queued"))
        server.wait_engine()
        response = client.request("POST", "/consume", body=b"x" * 1000)
        assert response.status == 503
        server.rendezvous.open("only")
        assert queued.read_response().body == b"queued"
        if response.closes:
            client.expect_end()
        else:
            client.expect_in_sync()


def test_one_slow_request_does_not_stop_the_others(server, meeting):
    with server.connect() as slow:
        slow.send(request_bytes(target="/hold?gate=slow-one"))
        meeting.wait_for("holding slow-one")
        for _ in range(20):
            server.expect_prompt_answer()
        meeting.open("slow-one")
        assert slow.read_response().body == b"held slow-one"


def test_second_request_waits_for_the_thread_only(serve):
    server = serve("apps.control:application", "--threads", "1")
    with server.connect() as slow, server.connect() as second:
        slow.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        second.send(request_bytes(target="/ping", fields=[("X-Ping", "2")]))
        server.wait_engine()
        server.rendezvous.open("only")
        assert slow.read_response().body == b"held only"
        assert second.read_response().body == b"pong 2"


def test_queued_requests_run_in_order_of_arrival(serve):
    server = serve("apps.control:application", "--threads", "1")
    with server.connect() as slow, server.connections(10) as queued:
        slow.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        for number, client in enumerate(queued):
            client.send(request_bytes(target=f"/run?name={number}"))
            server.wait_engine()
        server.rendezvous.open("only")
        for client in queued:
            assert client.read_response().status == 200
    runs = [event for event in server.rendezvous.events() if event.startswith("runs")]
    assert runs == [f"runs {number}" for number in range(10)]


@pytest.mark.parametrize("end", ["whole", "cut", "malformed"])
def test_streamed_body_is_kept_while_its_request_waits(serve, end):
    server = serve("apps.inputs:application", "--threads", "1", "--stream-request-body=always")
    with server.connect() as busy, server.connect() as client:
        busy.send(request_bytes("POST", "/slurp", [("Content-Length", "1")]))
        server.rendezvous.wait_for("slurp begins")
        chunk = {"whole": b"4\r\nwxyz\r\n0\r\n\r\n", "cut": b"9\r\nwxyz", "malformed": b"4\r\nwxyz\r\n#\r\n"}[
            end
        ]
        client.send(request_bytes("POST", "/slurp?name=b", [("Transfer-Encoding", "chunked")]) + chunk)
        if end == "cut":
            client.half_close()
        server.wait_engine()
        busy.send(b"x")
        assert busy.read_response().body == b"1"
        if end == "whole":
            assert client.read_response().body == b"4"
    if end == "malformed":
        server.rendezvous.wait_for_prefix("OSError")
        server.expect_log("ClientDisconnected|disconnected")
    elif end == "whole":
        server.rendezvous.wait_for("slurped 4")
    assert server.rendezvous.count("slurped 0") == 0
