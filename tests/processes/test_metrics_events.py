"""Each metric's truth: so many of an event over real sockets, and the metric has just these."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import socket
import ssl
import statistics
import threading
import time
from collections import Counter

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import gateway_client
from harness.certificates import Authority
from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import run_to_end

CONTROL = "apps.control:application"
STUCK = "apps.stuck:application"
# The next worker takes long to import it, so that the one with the stuck thread stays for a while.
SLOW_AGAIN = """
import pathlib, time

if pathlib.Path("imported").exists():
    time.sleep(10)
pathlib.Path("imported").touch()

def application(environ, start_response):
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(999)
    start_response("200 OK", [])
    return [b"woken"]
"""
PROCESSES = "apps.processes:application"


def scrape(server) -> dict[str, dict[tuple, float]]:
    """Each sample's values by the values of its labels, in the order in which they are written."""
    ended = run_to_end("metrics", str(server.pid), cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    found: dict[str, dict[tuple, float]] = {}
    for family in text_string_to_metric_families(ended.stdout):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def seen(samples: dict[tuple, float]) -> dict[tuple, float]:
    """Those that are not zero."""
    return {labels: value for labels, value in samples.items() if value}


def counted(server, name: str) -> dict[tuple, float]:
    """What a counter has, without its zeros."""
    return seen(scrape(server).get(name, {}))


def of_slots(samples: dict[tuple, float]) -> dict[tuple, float]:
    """The sum over slots, which are the first label."""
    sums: Counter[tuple] = Counter()
    for (_, *labels), value in samples.items():
        sums[tuple(labels)] += value
    return dict(sums)


def in_time(server, name: str, expected: dict[tuple, float]) -> None:
    """The metric has this, at last: a connection's end is noticed a moment after the client's."""
    wait_until(
        lambda: counted(server, name) == expected, f"{name} to be {expected}, not {counted(server, name)}"
    )


class TestProtocols:
    """Exchanges, accepted connections and handshakes by what was spoken."""

    def test_http1_and_http2(self, serve):
        server = serve(CONTROL)
        with server.connect() as client:
            for _ in range(3):
                client.send(request_bytes(target="/run?name=a"))
                assert client.read_response().status == 200
            client.send(b"GET /run?name=b HTTP/1.0\r\n\r\n")
            assert client.read_response().status == 200
        with Http2Client(server.address) as client:
            for _ in range(5):
                assert client.request("/run?name=c").status == 200
        found = scrape(server)
        expected = {("1.0", "http"): 1, ("2", "http"): 5}
        assert sum(found["portico_exchanges_total"].values()) == sum(expected.values()) + 3
        assert seen(found["portico_exchanges_by_protocol_total"]) == expected
        accepted = found["portico_accepts_total"][()]
        # The harness has looked whether it serves.
        assert accepted >= 2
        with server.connect() as client:
            client.send(request_bytes(target="/run?name=d"))
            client.read_response()
        assert counted(server, "portico_accepts_total") == {(): accepted + 1}

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_gateways(self, serve, tmp_path, protocol):
        server = serve(CONTROL, bind=f"{protocol}://unix:{tmp_path}/s")
        for https in ({}, {}, {"REQUEST_SCHEME": "https"}):
            assert ask(f"{tmp_path}/s", protocol, variables("/run?name=a", **https)).status == 200
        found = scrape(server)
        expected = {("gateway", "http"): 2, ("gateway", "https"): 1}
        assert seen(found["portico_exchanges_by_protocol_total"]) == expected
        assert found["portico_accepts_total"] == {(): 3}
        assert found["portico_exchanges_total"] == {("GET", "200"): 3}

    def test_handshakes(self, serve, tmp_path):
        authority = Authority(tmp_path / "authority")
        server = serve(CONTROL, *authority.issue("localhost").options)
        before = counted(server, "portico_tls_handshakes_total").get(("1.3", "succeeded"), 0)
        for version, count in (("TLSv1_2", 2), ("TLSv1_3", 3)):
            for _ in range(count):
                context = authority.context()
                context.maximum_version = ssl.TLSVersion[version]
                with (
                    socket.create_connection(server.address, timeout=10) as plain,
                    context.wrap_socket(plain, server_hostname="localhost") as client,
                ):
                    client.sendall(request_bytes(target="/run?name=a"))
                    assert client.recv(12) == b"HTTP/1.1 200"
        for broken in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x16"):
            with socket.create_connection(server.address, timeout=30) as plain:
                plain.sendall(broken)
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4096):
                    pass
        # Who connects and says nothing has begun no handshake.
        with socket.create_connection(server.address, timeout=10):
            pass
        expected = {("1.2", "succeeded"): 2, ("1.3", "succeeded"): before + 3, ("none", "failed"): 3}
        in_time(server, "portico_tls_handshakes_total", expected)
        assert counted(server, "portico_exchanges_by_protocol_total").get(("1.1", "https")) == 5


class TestEnds:
    """Exchanges that have ended otherwise, by the access log's reasons."""

    def ends(self, server, expected: dict[str, int]) -> None:
        in_time(server, "portico_exchanges_ended_total", {(reason,): n for reason, n in expected.items()})

    def test_refused_and_request_timeout(self, serve):
        server = serve(CONTROL, "--head-timeout", "1")
        for _ in range(2):
            with server.connect() as client:
                client.send(b"nonsense\r\n\r\n")
                assert client.read_response().status == 400
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert client.read_response().status == 408
        self.ends(server, {"refused": 2, "request_timeout": 1})

    def test_timeout_and_aborted(self, serve):
        server = serve(STUCK, "--threads", "2", "--timeout", "1")
        assert server.request("GET", "/sleep?seconds=1.6").status == 504
        self.ends(server, {"timeout": 1})
        server.expected.append(re.compile("timeout: GET /sleep|did not end when"))

    def test_aborted(self, serve):
        server = serve("apps.cutting:application")
        for _ in range(2):
            with server.connect() as client:
                client.send(request_bytes(target="/raises"))
                client.expect_truncated()
        self.ends(server, {"aborted": 2})
        server.expected.append(re.compile("Error handling request|planted"))

    def test_queue_full_and_queue_timeout(self, serve):
        server = serve(CONTROL, "--threads", "1", "--max-queue", "1", "--queue-timeout", "0.5")
        with contextlib.ExitStack() as stack:
            holder, waiting, refused = (stack.enter_context(server.connect()) for _ in range(3))
            holder.send(request_bytes(target="/hold?gate=full"))
            server.rendezvous.wait_for("holding full")
            waiting.send(request_bytes(target="/run?name=waits"))
            wait_until(lambda: of_slots(scrape(server)["portico_queue_length"]) == {(): 1}, "it to wait")
            refused.send(request_bytes(target="/run?name=refused"))
            assert refused.read_response().status == 503
            assert waiting.read_response().status == 503
            server.rendezvous.open("full")
            assert holder.read_response().status == 200
        self.ends(server, {"queue_full": 1, "queue_timeout": 1})

    def test_client_gone(self, serve):
        server = serve(CONTROL, "--threads", "2")
        for number in range(2):
            with server.connect() as client:
                client.send(request_bytes(target=f"/hold?gate=gone{number}"))
                server.rendezvous.wait_for(f"holding gone{number}")
                client.reset()
            # Before the response comes, which would be written to nobody.
            self.ends(server, {"client_gone": number + 1})
            server.rendezvous.open(f"gone{number}")
        with Http2Client(server.address) as client:
            stream = client.open("/hold?gate=reset")
            server.rendezvous.wait_for("holding reset")
            client.reset(stream)
            self.ends(server, {"client_gone": 3})
            server.rendezvous.open("reset")
            client.expect_alive()

    def test_worker_died(self, serve):
        server = serve(CONTROL, "--workers", "1", "--threads", "2")
        with server.connect() as client:
            client.send(request_bytes(method="POST", target="/sleep?seconds=60"))
            wait_until(lambda: server.is_busy(server.worker), "the call")
            server.worker.kill()
            server.wait_workers(1)
        found = scrape(server)
        assert seen(found["portico_exchanges_ended_total"]) == {("worker_died",): 1}
        assert found["portico_exchanges_total"][("POST", "502")] == 1
        assert found["http_server_request_duration_seconds_count"][("POST", "5xx")] == 1
        assert sum(found["http_server_active_requests"].values()) == 0
        server.expect_log("SIGKILL")


def test_workers_start_and_die_for_reasons(serve):
    server = serve(PROCESSES, "--workers", "2")
    server.wait_workers(2)
    server.workers()[0].kill()
    wait_until(lambda: counted(server, "portico_worker_deaths_total") == {("sigkill",): 1}, "its death")
    server.wait_workers(2)
    server.signal(signal.SIGTTIN)
    server.wait_workers(3)
    before = time.time()
    assert run_to_end("reload", str(server.pid), cwd=server.rendezvous.folder).returncode == 0
    server.wait_workers(3)
    found = scrape(server)
    expected = {("boot",): 2, ("death",): 1, ("scale",): 1, ("reload",): 3}
    assert seen(found["portico_worker_starts_total"]) == expected
    assert found["portico_workers"] == {("starting",): 0, ("ready",): 3, ("retiring",): 0}
    assert before - 1 <= found["portico_reload_last_success_timestamp_seconds"][()] <= time.time()
    assert all(0 < seconds < 60 for seconds in found["portico_worker_ready_seconds"].values())
    server.expect_log("SIGKILL")


def test_requests_are_active_by_method_until_their_end(serve):
    server = serve(CONTROL, "--threads", "2")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(4)]
        session = stack.enter_context(Http2Client(server.address))
        for number, (client, method) in enumerate(zip(clients, ("GET", "PUT", "PUT"), strict=False)):
            client.send(request_bytes(method=method, target=f"/hold?gate=active{number}"))
        for number in range(2):
            server.rendezvous.wait_for(f"holding active{number}")
        streams = [session.open("/hold?gate=active3"), session.open("/hold?gate=active4")]
        session.ping()
        found = scrape(server)
        assert seen(found["http_server_active_requests"]) == {("GET",): 3, ("PUT",): 2}
        connections = of_slots(found["portico_connections"])
        # The fourth client has sent nothing; the session counts once. The harness may have one of its own.
        assert connections[("active",)] == 4 and connections[("idle",)] >= 1
        assert of_slots(found["portico_threads"])[("running",)] == 2
        assert of_slots(found["portico_queue_length"]) == {(): 3}
        oldest = max(found["portico_queue_oldest_seconds"].values())
        assert 0 < oldest < 10
        time.sleep(0.5)
        later = max(scrape(server)["portico_queue_oldest_seconds"].values())
        assert later >= oldest + 0.5, "it grows although nobody counts"
        for number in range(5):
            server.rendezvous.open(f"active{number}")
        assert [client.read_response().status for client in clients[:3]] == [200] * 3
        assert [session.answer(stream).status for stream in streams] == [200] * 2
    wait_until(lambda: seen(scrape(server)["http_server_active_requests"]) == {}, "all to have ended")
    found = scrape(server)
    assert of_slots(found["portico_connections"])[("active",)] == 0
    assert max(found["portico_queue_oldest_seconds"].values()) == 0


class TestStages:
    """Where the time of requests has gone."""

    def test_body_application_and_write(self, serve):
        server = serve(CONTROL)
        with server.connect() as client:
            client.send(b"POST /consume HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
            time.sleep(0.5)
            client.send(b"cd")
            assert client.read_response().body == b"4"
            client.send(request_bytes(target="/sleep?seconds=0.4"))
            assert client.read_response().status == 200
        found = scrape(server)
        assert found["portico_request_body_duration_seconds_count"] == {(): 1}
        assert 0.5 <= found["portico_request_body_duration_seconds_sum"][()] < 5
        assert 0.4 <= found["portico_application_duration_seconds_sum"][()] < 0.9
        assert found["portico_write_duration_seconds_sum"][()] < 0.1
        with server.connect(receive_buffer=4096) as client:
            client.send(request_bytes(target="/large?bytes=8000000"))
            time.sleep(1)
            assert len(client.read_response().body) == 8_000_000
        found = scrape(server)
        assert 0.8 <= found["portico_write_duration_seconds_sum"][()] < 10
        assert found["portico_application_duration_seconds_sum"][()] < 0.9
        counts = {found[f"portico_{stage}_duration_seconds_count"][()] for stage in ("application", "write")}
        assert counts == {sum(found["portico_calls_total"].values())}

    def test_the_queue_histogram_is_what_clients_have_waited(self, serve):
        """Behind one thread, whose calls take known times, sum and percentile are right within 5 %."""
        server = serve(CONTROL, "--threads", "1")
        before = scrape(server)
        chosen = random.Random(7)
        services = [chosen.uniform(0.02, 0.06) for _ in range(40)]
        arrivals, begun, lock = [], [], threading.Lock()

        def ask_for(number: int, seconds: float) -> None:
            with server.connect(timeout=30) as client:
                at = time.monotonic()
                client.send(request_bytes(target=f"/sleep?seconds={seconds:.4f}"))
                assert client.read_response().status == 200
                end = time.monotonic()
            with lock:
                arrivals.append(at)
                begun.append(end - seconds)

        clients = [threading.Thread(target=ask_for, args=pair) for pair in enumerate(services)]
        for client in clients:
            client.start()
            time.sleep(0.02)  # Twice as fast as they are served.
        for client in clients:
            client.join()
        waits = [start - arrival for arrival, start in zip(arrivals, begun, strict=True)]
        found = scrape(server)

        def change(name: str, labels: tuple = ()) -> float:
            return found[name][labels] - before[name].get(labels, 0)

        assert change("portico_queue_duration_seconds_count") == len(services)
        # A client sees besides the way to the server and back, and that sleeps are late.
        assert change("portico_queue_duration_seconds_sum") == pytest.approx(sum(waits), rel=0.05)
        for bound in ("0.1", "0.25", "0.5"):
            margin = statistics.median(waits) * 0.05
            least = sum(wait <= float(bound) - margin for wait in waits)
            most = sum(wait <= float(bound) + margin for wait in waits)
            assert least <= change("portico_queue_duration_seconds_bucket", (bound,)) <= most, bound

    def test_time_before_the_server_is_a_believed_proxys(self, serve):
        server = serve(CONTROL, "--forwarded-allow-ips", "127.0.0.1")
        now = time.time()
        fields = {
            f"t={now - 2:.3f}": 1,
            f"t={int((now - 2) * 1e6)}": 1,
            f"{int((now - 2) * 1e3)}": 1,
            f"t={now + 100:.3f}": 1,  # A clock that is ahead: no time.
            f"t={now - 700:.3f}": 0,  # Longer than anybody waits.
            "soon": 0,
        }
        for name, count in (("X-Request-Start", 0), ("X-Queue-Start", 4)):
            for done, (value, counts) in enumerate(fields.items()):
                assert server.request("GET", "/run?name=a", fields=[(name, value)]).status == 200
                total = scrape(server)["portico_upstream_queue_duration_seconds_count"][()]
                expected = count + sum(list(fields.values())[: done + 1])
                assert total == expected, (name, value, counts)
        assert 12 <= scrape(server)["portico_upstream_queue_duration_seconds_sum"][()] < 60

    def test_what_strangers_say_of_a_proxy_is_ignored(self, serve):
        server = serve(CONTROL, "--forwarded-allow-ips", "192.0.2.1")
        fields = [("X-Request-Start", f"t={time.time() - 2:.3f}")]
        assert server.request("GET", "/run?name=a", fields=fields).status == 200
        assert scrape(server)["portico_upstream_queue_duration_seconds_count"] == {(): 0}


class TestThreads:
    """What threads are at."""

    def test_busy_time_of_a_call_that_hangs_grows(self, serve):
        server = serve(CONTROL, "--threads", "2")
        before = sum(scrape(server)["portico_busy_seconds_total"].values())
        with server.connect() as client:
            client.send(request_bytes(target="/hold?gate=busy"))
            server.rendezvous.wait_for("holding busy")
            # Up to a second ago.
            wait_until(
                lambda: sum(scrape(server)["portico_busy_seconds_total"].values()) > before + 0.5,
                "it to grow",
            )
            server.rendezvous.open("busy")
            assert client.read_response().status == 200
        ended = sum(scrape(server)["portico_busy_seconds_total"].values())
        assert ended >= before + 1.5
        time.sleep(0.3)
        assert sum(scrape(server)["portico_busy_seconds_total"].values()) == ended

    def test_lost_threads(self, serve, tmp_path):
        (tmp_path / "slow_again.py").write_text(SLOW_AGAIN)
        server = serve("slow_again:application", "--threads", "2", "--timeout", "1", cwd=tmp_path)
        assert server.request("GET", "/sleep").status == 504
        wait_until(
            lambda: of_slots(scrape(server)["portico_threads"])[("lost",)] == 1, "it to be written off"
        )
        threads = of_slots(scrape(server)["portico_threads"])
        assert (threads[("idle",)], threads[("running",)]) == (2, 0), "another has its place"
        busy = sum(scrape(server)["portico_busy_seconds_total"].values())
        time.sleep(1.5)
        assert sum(scrape(server)["portico_busy_seconds_total"].values()) == busy
        server.expect_log("did not end when")
        server.expect_log("timeout: GET /sleep")

    def test_threads_that_wait_for_clients(self, serve):
        server = serve(CONTROL, "--threads", "2", "--response-buffer", "64k", "--response-spool", "0")
        with server.connect(receive_buffer=4096) as client:
            client.send(request_bytes(target="/large?bytes=30000000&block=100000"))
            wait_until(
                lambda: of_slots(scrape(server)["portico_threads"])[("awaiting_client",)] == 1, "it to wait"
            )
            assert len(client.read_response().body) == 30_000_000

    def test_waits_for_the_interpreter(self, serve):
        """One call computes: others wait for the interpreter, and so does whoever tries it."""
        server = serve(CONTROL, "--threads", "2")
        before = scrape(server)
        with server.connect() as one, server.connect() as other:
            one.send(request_bytes(target="/spin?seconds=1.5"))
            for _ in range(10):
                other.send(request_bytes(target="/run?name=a"))
                assert other.read_response().status == 200
            assert one.read_response().status == 200
        found = scrape(server)

        def change(name: str) -> float:
            return sum(found[name].values()) - sum(before[name].values())

        if found["portico_build_info"] and "off" in next(iter(found["portico_build_info"])):
            assert change("portico_interpreter_waits_total") == 0
            assert change("portico_interpreter_probe_seconds_count") == 0
            return
        assert change("portico_interpreter_waits_total") >= 10
        assert 0.001 < change("portico_interpreter_wait_seconds_total") < 3
        assert change("portico_interpreter_probe_seconds_count") >= 2
        assert change("portico_interpreter_probe_seconds_sum") > 0


class TestBacklog:
    """What the kernel holds until somebody accepts it."""

    def test_it_is_told_for_each_listener(self, serve, tmp_path):
        path = f"{tmp_path}/a.sock"
        server = serve(CONTROL, "--backlog", "7", bind=["127.0.0.1:0", f"unix:{path}"])
        host, port = server.addresses[0]
        found = scrape(server)
        listeners = {(f"{host}:{port}",), (f"unix:{path}",)}
        assert set(found["portico_listen_queue_length"]) == listeners
        assert found["portico_listen_queue_limit"] == dict.fromkeys(listeners, 7)
        assert () in found["portico_listen_overflows_total"]

    def test_it_grows_while_nobody_accepts(self, serve):
        server = serve(CONTROL, "--workers", "1", "--backlog", "16")
        worker = server.worker
        worker.pause()
        try:
            with server.connections(5):
                wait_until(
                    lambda: sum(scrape(server)["portico_listen_queue_length"].values()) == 5, "the backlog"
                )
        finally:
            worker.resume()
        wait_until(lambda: sum(scrape(server)["portico_listen_queue_length"].values()) == 0, "its end")


def test_build_info_and_certificates(serve, tmp_path):
    pairs = [
        Authority(tmp_path / name).issue("localhost", days=days) for name, days in (("a", 20), ("b", 40))
    ]
    server = serve(CONTROL, *pairs[0].options)
    wait_until(lambda: "portico_tls_certificate_not_after_seconds" in scrape(server), "the first look")
    found = scrape(server)
    ((name,),) = found["portico_tls_certificate_not_after_seconds"]
    assert str(pairs[0].certificate).endswith(name)
    version, python, implementation, gil = next(iter(found["portico_build_info"]))
    told = json.loads(run_to_end("status", str(server.pid), "--json", cwd=server.rendezvous.folder).stdout)[
        "interpreter"
    ]
    assert python in told and implementation == "cpython" and gil in ("on", "off")
    ended = run_to_end("--version", cwd=server.rendezvous.folder)
    assert version in ended.stdout


def test_fastcgi_that_carries_several_counts_each(serve, tmp_path):
    server = serve(CONTROL, "--threads", "4", bind=f"fastcgi://unix:{tmp_path}/s")
    with gateway_client.Gateway(f"{tmp_path}/s", "fastcgi") as client:
        for number in (1, 2):
            values = variables(f"/hold?gate=fcgi{number}")
            client.send(gateway_client.fastcgi(values, keep=True, identity=number))
        for number in (1, 2):
            server.rendezvous.wait_for(f"holding fcgi{number}")
        found = scrape(server)
        assert seen(found["http_server_active_requests"]) == {("GET",): 2}
        assert of_slots(found["portico_connections"]) == {("idle",): 0, ("active",): 1}
        for number in (1, 2):
            server.rendezvous.open(f"fcgi{number}")
            assert b"200" in client.read_response(number)
    wait_until(
        lambda: of_slots(scrape(server)["portico_connections"]) == {("idle",): 0, ("active",): 0}, "its end"
    )
    assert counted(server, "portico_exchanges_by_protocol_total") == {("gateway", "http"): 2}
