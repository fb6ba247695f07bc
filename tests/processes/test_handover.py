"""Connections and requests that go from one worker to another, unnoticed by their clients."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from harness.http_client import request_bytes
from harness.load import Load
from harness.rendezvous import wait_until
from harness.sockets import holder, wait_read

APP = "apps.processes:application"


def kept_by(server, worker, count: int):
    """So many kept connections that `worker` holds."""
    held = []
    for _ in range(1000):
        client = server.connect()
        if client.request("GET", "/pid").body == str(worker.pid).encode():
            held.append(client)
        else:
            client.close()
        if len(held) == count:
            return held
    raise AssertionError(f"{worker} took {len(held)} of 1000 connections")


def test_idle_connections_of_a_leaving_worker_move(serve):
    server = serve(APP, "--workers", "2")
    leaving, staying = server.wait_workers(2)
    clients = kept_by(server, leaving, 20)
    leaving.signal(signal.SIGTERM)
    wait_until(lambda: not leaving.alive, "the worker to end")
    for client in clients:
        client.expect_silence(0)
        response = client.request("GET", "/pid")
        assert response.status == 200 and not response.closes
        assert int(response.body) != leaving.pid
        client.close()
    assert staying.alive


def test_partly_received_request_moves_to_another_worker(serve):
    """Bytes that were read go along."""
    server = serve(APP, "--workers", "2")
    leaving, _ = server.wait_workers(2)
    clients = kept_by(server, leaving, 4)
    for client in clients:
        client.send(b"GET /pid HTTP/1.1\r\nHo")
    server.wait_engine()
    leaving.signal(signal.SIGTERM)
    for client in clients:
        wait_until(lambda client=client: holder(client, [leaving]) is None, "it to be handed over")
        client.send(b"st: test\r\n\r\n")
        assert client.read_response().status == 200
        client.close()
    wait_until(lambda: not leaving.alive, "the worker to end")


def test_connection_survives_many_workers(serve):
    server = serve(APP, "--workers", "2", "--preload")
    workers = server.wait_workers(2)
    with server.connections(10) as clients:
        for _ in range(4):
            for client in clients:
                assert client.request("GET", "/pid").status == 200
            server.signal(signal.SIGHUP)
            workers = server.wait_replaced(workers)
        for client in clients:
            assert int(client.request("GET", "/pid").body) in {worker.pid for worker in workers}


@pytest.mark.serial
def test_queued_request_moves_to_a_free_worker(serve):
    """A request on a kept connection of a worker whose threads are all taken does not wait for them."""
    server = serve(APP, "--workers", "2", "--threads", "1")
    busy, free = server.wait_workers(2)
    kept, second = kept_by(server, busy, 2)
    kept.send(request_bytes(target="/hold?gate=only"))
    server.rendezvous.wait_for("holding only")
    response = second.request("GET", "/pid")
    assert (response.status, int(response.body)) == (200, free.pid), "nobody has opened the gate"
    # With a body too.
    assert second.request("POST", "/pid", body=b"x" * 1000).status == 200
    server.rendezvous.open("only")
    assert int(kept.read_response().body) == busy.pid
    kept.close()
    second.close()


def test_new_connections_go_to_a_free_worker(serve):
    server = serve(APP, "--workers", "2", "--threads", "1")
    busy, free = server.wait_workers(2)
    (kept,) = kept_by(server, busy, 1)
    kept.send(request_bytes(target="/hold?gate=only"))
    server.rendezvous.wait_for("holding only")
    assert server.answering_pids(50) == {free.pid}, "nobody has opened the gate"
    server.rendezvous.open("only")
    assert kept.read_response().status == 200
    kept.close()


def test_pipelined_requests_stay_in_order_when_they_move(serve):
    server = serve(APP, "--workers", "2", "--threads", "1")
    busy, _ = server.wait_workers(2)
    kept, second = kept_by(server, busy, 2)
    kept.send(request_bytes(target="/hold?gate=only"))
    server.rendezvous.wait_for("holding only")
    second.send(b"".join(request_bytes(target=f"/work?name={number}") for number in range(5)))
    assert [second.read_response().status for _ in range(5)] == [200] * 5
    ran = [event.split()[1] for event in server.rendezvous.matching("runs")]
    assert ran == ["0", "1", "2", "3", "4"]
    server.rendezvous.open("only")
    assert kept.read_response().status == 200
    kept.close()
    second.close()


def test_busy_threads_of_all_workers_share_one_queue(serve):
    server = serve(APP, "--workers", "2", "--threads", "1")
    server.wait_workers(2)
    with server.connections(2) as busy, server.connections(6) as waiting:
        for number, client in enumerate(busy):
            client.send(request_bytes(target=f"/hold?gate={number}"))
            server.rendezvous.wait_for(f"holding {number}")
        for client in waiting:
            client.send(request_bytes(target="/pid"))
        for client in waiting:
            wait_read(client)
        # One thread is free again: it serves all that wait, whichever worker they came to.
        server.rendezvous.open("0")
        free = int(busy[0].read_response().body)
        assert [int(client.read_response().body) for client in waiting] == [free] * 6
        server.rendezvous.open("1")
        assert busy[1].read_response().status == 200


@pytest.mark.serial
def test_slow_requests_do_not_delay_quick_ones(serve):
    """1 in 20 takes 200 ms, at about a third of what two workers of two threads can do."""
    server = serve(APP, "--workers", "2", "--threads", "2")
    server.wait_workers(2)

    def target(number: int) -> str:
        return f"/sleep?seconds={0.2 if number * 7919 % 20 == 0 else 0.001}"

    with Load(server.address, 120, target, kept=16, new_every=0) as load:
        load.wait_answered(480)
    load.assert_lossless()
    quick = sorted(outcome.seconds for outcome in load.outcomes if outcome.number * 7919 % 20)
    assert quick[int(0.95 * len(quick))] < 0.1, load.told()


@pytest.mark.slow
def test_new_connections_are_spread_evenly(serve):
    server = serve(APP, "--workers", "4", "--threads", "2")
    server.wait_workers(4)
    answered: Counter[bytes] = Counter()
    for _ in range(5000 // 16):
        with server.connections(16) as clients:
            for client in clients:
                client.send(request_bytes(target="/sleep?seconds=0.002"))
            answered.update(client.read_response().body for client in clients)
    assert max(answered.values()) * 4 / sum(answered.values()) <= 1.2, answered
