"""`limit` and `concurrent` of routes: for all workers together, whatever becomes of one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.guards import OTHERS, SPELLINGS, one
from harness.http2_client import Http2Client
from harness.http_client import Client, request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

APP = "apps.limited:application"
UNTRUSTED = ("--forwarded-allow-ips", "")


@pytest.fixture
def limited(serve, tmp_path):
    """Starts a server with these routes, which it reads from a file."""

    def start(routes: str, *options: str, **settings):
        (tmp_path / "portico.toml").write_text(routes)
        return serve(APP, "--pythonpath", str(TESTS), *options, cwd=tmp_path, **settings)

    return start


def route(path: str, keys: str) -> str:
    """A route that says `keys`."""
    return f"[[route]]\npath = '{path}'\n{keys}\n"


# Rates


def test_beyond_the_rate_requests_get_429(limited):
    server = limited(route("/login", "limit = '5/h burst 2'\nmethods = ['POST']"), "--access-logfile", "-")
    with server.connect() as client:
        for expected in (200, 200, 429, 429):
            client.send(request_bytes("POST", "/login", body=b""))
            response = client.read_response()
            assert response.status == expected
            assert not response.closes
        assert 700 < int(response.get("Retry-After")) <= 720
        assert response.get("X-Application") is None
        assert client.request("GET", "/login").status == 200, "another method"
    with server.connect() as client:
        head = request_bytes("POST", "/login", [("Content-Length", "1000000"), ("Expect", "100-continue")])
        client.send(head)
        response = client.read_response()
        assert (response.status, response.closes, response.interim) == (429, True, [])
    assert one(server, "/login", "POST", body=b"x" * 100_000).status == 429
    wait_until(lambda: any('"POST /login HTTP/1.1" 429' in line for line in server.stdout.lines), "the line")
    told = server.expect_log("answered 429 to a request of 127.0.0.1 for /login, POST", count=3)
    assert "(5 in 3600 s, burst 2)" in told


def test_every_protocol_counts_together(limited, tmp_path):
    binds = ["127.0.0.1:0", *(f"{protocol}://unix:{tmp_path}/{protocol}.sock" for protocol in PROTOCOLS)]
    server = limited(route("/", f"limit = '{2 + len(PROTOCOLS)}/d'"), bind=binds)
    fields = [("X-Forwarded-For", "192.0.2.7")]
    assert one(server, "/", fields=fields).status == 200
    with Http2Client(server.addresses[0]) as client:
        assert client.request("/", fields=[("x-forwarded-for", "192.0.2.7")]).status == 200

    def by_gateway(protocol):
        return ask(f"{tmp_path}/{protocol}.sock", protocol, variables("/", REMOTE_ADDR="192.0.2.7"))

    assert [by_gateway(protocol).status for protocol in PROTOCOLS] == [200] * len(PROTOCOLS)
    for protocol in PROTOCOLS:
        refused = by_gateway(protocol)
        assert (refused.status, int(refused.field("Retry-After")) > 0) == (429, True)
    assert one(server, "/", fields=fields).status == 429
    with Http2Client(server.addresses[0]) as client:
        statuses = [
            client.request("/", fields=[("x-forwarded-for", who)]).status
            for who in ("192.0.2.7", "192.0.2.8", "192.0.2.7")
        ]
    assert statuses == [429, 200, 429]


@pytest.mark.parametrize("guard", ["limit = '1/d'", "deny = ['0.0.0.0/0']", "allow = ['192.0.2.0/24']"])
def test_no_spelling_leads_around_it(limited, tmp_path, guard):
    sockets = {protocol: f"{tmp_path}/{protocol}.sock" for protocol in PROTOCOLS}
    binds = ["127.0.0.1:0", *(f"{protocol}://unix:{path}" for protocol, path in sockets.items())]
    server = limited(route("/admin", guard), *UNTRUSTED, bind=binds)
    one(server, "/admin")  # The only one that the limit lets through.
    for protocol, path in sockets.items():
        ask(path, protocol, variables("/admin", REMOTE_ADDR="127.0.0.1"))
    refusals = {400, 403, 404, 429}
    for target in SPELLINGS:
        response = one(server, target)
        if target in OTHERS:
            assert response.get("X-Application") or response.status in refusals, target
            continue
        assert response.status in refusals and response.get("X-Application") is None, (target, response)
        if target.startswith("/"):
            with Http2Client(server.addresses[0]) as client:
                assert client.request(target).status in refusals, target
        for protocol, path in sockets.items():
            told = variables(target.removeprefix("http://test"), REMOTE_ADDR="127.0.0.1")
            told.pop("PATH_INFO")
            assert ask(path, protocol, told).status in refusals, (protocol, target)


def test_who_a_client_is_nobody_chooses(limited):
    server = limited(route("/", "limit = '1/d'"), *UNTRUSTED)
    assert one(server, "/").status == 200
    for fields in (
        [("X-Forwarded-For", "192.0.2.1")],
        [("Forwarded", "for=192.0.2.2")],
        [("X-Real-IP", "192.0.2.3")],
        [("Connection", "X-Forwarded-For, Host"), ("X-Forwarded-For", "192.0.2.4")],
    ):
        assert one(server, "/", fields=fields).status == 429, fields


def test_of_ipv6_addresses_the_network_counts(limited):
    server = limited(route("/", "limit = '1/d'"))

    def status(address):
        return one(server, "/", fields=[("X-Forwarded-For", address)]).status

    assert [status(f"2001:db8:0:1::{number}") for number in range(1, 5)] == [200, 429, 429, 429]
    assert [status("2001:db8:0:2::1"), status("::ffff:192.0.2.1"), status("192.0.2.1")] == [200, 200, 429]


def test_a_limit_goes_by_a_header(limited):
    server = limited(route("/", "limit = { rate = '1/d', by = 'header:X-Api-Key' }"))
    statuses = [one(server, "/", fields=[("X-Api-Key", key)]).status for key in ("a", "b", "a")]
    assert statuses == [200, 200, 429]


def test_a_dry_run_only_tells(limited):
    server = limited(route("/", "limit = { rate = '1/d', dry_run = true }"))
    with server.connect() as client:
        assert {client.request("GET", "/").status for _ in range(20)} == {200}
    # 19 would have been refused: told are the 1st, 2nd, 4th, 8th and 16th.
    server.expect_log("dry_run: a request of 127.0.0.1 for / would have got 429", count=5)


def test_proxies_without_trust_are_warned_of(limited):
    server = limited(route("/", "limit = '1/d'"), *UNTRUSTED)
    with server.connect() as client:
        for number in range(100):
            client.request("GET", "/", [("X-Forwarded-For", f"192.0.2.{number}")])
    told = server.expect_log("nearly all requests under limits come from 127.0.0.1", count=1)
    assert "--forwarded-allow-ips 127.0.0.1" in told and "--behind" in told


# Requests of one connection.
REQUESTS_EACH = 20


class Clients:
    """Eight clients that send so many requests each, one after the other; what becomes of each is counted."""

    def __init__(self, server, requests: int) -> None:
        self.passed = self.refused = self.lost = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(server, requests)) for _ in range(8)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join()

    def run(self, server, requests: int) -> None:
        for _ in range(requests // REQUESTS_EACH):
            # Connections are kept for a while, so that each worker gets requests.
            answered = 0
            with contextlib.suppress(OSError, AssertionError), server.connect() as client:
                for _ in range(REQUESTS_EACH):
                    status = client.request("GET", "/").status
                    answered += 1
                    with self.lock:
                        self.passed += status == 200
                        self.refused += status == 429
            with self.lock:
                self.lost += REQUESTS_EACH - answered


@pytest.mark.serial
@pytest.mark.parametrize("kills", [0, 3])
def test_workers_together_let_the_limit_through(limited, kills):
    limit = 500
    server = limited(route("/", f"limit = '{limit}/d'"), "--workers", "8", "--threads", "2")
    workers = server.wait_workers(8)
    with Clients(server, 1000) as clients:
        for worker in workers[:kills]:
            before = clients.passed + clients.refused
            wait_until(lambda before=before: clients.passed + clients.refused > before + 500, "requests")
            os.kill(worker.pid, signal.SIGKILL)
    assert clients.passed + clients.refused + clients.lost == 8000
    # A request that was let through may have died with its worker.
    assert limit - clients.lost <= clients.passed <= limit
    assert clients.lost == 0 or kills > 0
    assert one(server, "/").status == 429, "what was counted outlives workers"
    if kills:
        server.expect_log("SIGKILL", count=kills)


def test_what_was_counted_outlives_a_reload(limited, tmp_path):
    server = limited(route("/login", "limit = '2/d'"), "--workers", "2")
    assert [one(server, "/login").status for _ in range(3)] == [200, 200, 429]
    # Another route comes before it.
    (tmp_path / "portico.toml").write_text(route("/a", "limit = '9/d'") + route("/login", "limit = '2/d'"))
    before = server.workers()
    assert run_to_end("reload", str(server.pid), cwd=tmp_path).returncode == 0
    server.wait_replaced(before)
    assert [one(server, path).status for path in ("/login", "/a")] == [429, 200]


def test_clients_that_are_forgotten_are_told(limited):
    routes = route("/", "limit = { rate = '1/d', by = 'header:X-Key' }")
    server = limited(routes, "--limit-slots", "1024")
    with server.connect() as client:
        for start in range(0, 3000, 100):
            keys = range(start, start + 100)
            client.send(b"".join(request_bytes("GET", "/", [("X-Key", f"{key}")]) for key in keys))
            assert {client.read_response().status for _ in keys} == {200}
    told = run_to_end("status", str(server.pid), cwd=TESTS).stdout
    line = next(line for line in told.splitlines() if line.startswith("limits have forgotten"))
    assert 3000 - 1024 <= int(line.split()[3]) < 3000, line


# Requests that run at once


def held(server, gate: str, method: str = "GET", **request) -> Client:
    """A client whose request is at this gate."""
    client = server.connect()
    client.send(request_bytes(method, f"/report?hold={gate}", **request))
    server.rendezvous.wait_for(f"holding {gate}")
    return client


def test_so_many_requests_run_at_once(limited):
    server = limited(route("/report", "concurrent = 3"), "--workers", "2", "--threads", "4")
    server.wait_workers(2)
    clients = [held(server, f"gate-{number}") for number in range(3)]
    refused = one(server, "/report")
    assert (refused.status, refused.get("Retry-After")) == (503, "1")
    assert one(server, "/report", "POST", body=b"x" * 100_000).status == 503
    assert one(server, "/ping").status == 200
    with Http2Client(server.address) as client:
        assert client.request("/report").status == 503
    server.rendezvous.open("gate-0")
    assert clients[0].read_response().status == 200
    assert one(server, "/report").status == 200
    clients[0].send(request_bytes("GET", "/report?hold=again"))
    server.rendezvous.wait_for("holding again")
    assert one(server, "/report").status == 503
    for gate in ("gate-1", "gate-2", "again"):
        server.rendezvous.open(gate)
    for client in clients:
        assert client.read_response().status == 200
        client.close()
    assert one(server, "/report").status == 200


def test_a_call_without_client_keeps_its_place(limited):
    server = limited(route("/report", "concurrent = 1"), "--threads", "4")
    client = held(server, "left")
    client.reset()
    server.wait_engine()
    assert one(server, "/report").status == 503, "the call still runs"
    server.rendezvous.open("left")
    wait_until(lambda: one(server, "/report").status == 200, "the place to be free")


def test_the_places_of_a_dead_worker_are_free(limited):
    server = limited(route("/report", "concurrent = 2"), "--workers", "2", "--threads", "4")
    workers = server.wait_workers(2)
    clients = [held(server, f"gate-{number}") for number in range(2)]
    assert one(server, "/report").status == 503
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    server.expect_log("SIGKILL", count=2)
    server.wait_replaced(workers)
    assert one(server, "/report").status == 200
    for client in clients:
        client.close()


def test_a_slow_upload_takes_no_place(limited):
    server = limited(route("/report", "concurrent = 1"), "--threads", "2")
    with server.connect() as slow:
        slow.send(b"POST /report HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nx")
        server.wait_engine()
        assert one(server, "/report").status == 200
        busy = held(server, "busy")
        slow.send(b"y")
        late = slow.read_response()
        assert (late.status, late.closes) == (503, False)
        server.rendezvous.open("busy")
        assert busy.read_response().status == 200
        busy.close()


def test_too_many_limits_end_the_start(tmp_path):
    (tmp_path / "portico.toml").write_text("".join(route(f"/{n}", "concurrent = 1") for n in range(65)))
    command = [sys.executable, "-m", "portico", APP, "--pythonpath", str(TESTS)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert "at most 64 routes may say `concurrent`" in ended.stderr
