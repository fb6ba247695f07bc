"""Probes: livez, readyz and startupz are answered rightly, at once, and before all that requests pass."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import threading
import time

import pytest

from harness.gateway_client import ask, variables
from harness.http2_client import Http2Client
from harness.http_client import Client, Response, request_bytes
from harness.process import Process
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

PROCESSES = "apps.processes:application"
HEALTH = ("--health-path", "/-/")
KUBELETS = "10.1.2.3:8000"

# Seconds after which a supervisor without a heartbeat counts as dead; see `HEARTBEAT_MAX`.
HEARTBEAT_MAX = 10.0
# Seconds between two looks of a test that watches for a state that must never come.
LOOK_INTERVAL = 0.005
# Seconds within which 99 of 100 probes must be answered while every thread computes.
BUSY_P99 = 0.010
# Rounds of which the best counts: what else the machine does can only add to one.
BUSY_ROUNDS = 3
# Seconds that the drain delay of a test lasts, and of which the answers of a probe must be seen.
DRAIN_DELAY = 2.0


def probe(address, name: str, timeout: float = 5.0, fields=()) -> Response:
    """One probe as the kubelet sends it: on a connection of its own, to an address."""
    with Client(address, timeout) as client:
        client.send(request_bytes(target=f"/-/{name}", fields=fields, host=KUBELETS))
        return client.read_response()


def status(address, name: str) -> int:
    """The status of one probe; 0 where nobody listens."""
    try:
        return probe(address, name).status
    except (ConnectionError, FileNotFoundError):
        return 0


def texts(response: Response) -> list[str]:
    return response.body.decode().splitlines()


# What a probe gets


def test_each_endpoint_tells_its_checks(serve):
    server = serve(PROCESSES, *HEALTH)
    server.wait_workers(1)
    for name in ("livez", "readyz", "startupz"):
        response = probe(server.address, name)
        assert (response.status, response.body, response.get("Cache-Control")) == (200, b"ok\n", "no-store")
        *checks, last = texts(probe(server.address, f"{name}?verbose"))
        assert last == f"{name} check passed" and all(line.startswith("[+]") for line in checks), checks
        accepted = [("Accept", "application/health+json")]
        response = probe(server.address, name, fields=accepted)
        assert response.get("Content-Type") == "application/health+json"
        told = json.loads(response.body)
        assert told["status"] == "pass" and all(len(found) == 1 for found in told["checks"].values())
    with server.connect() as client:
        for _ in range(3):
            head = client.request("HEAD", "/-/readyz")
            assert (head.status, head.get("Content-Length"), head.closes) == (200, "3", False)
        assert client.request("POST", "/-/livez").status == 405
        assert client.request("GET", "/-/healthz").status == 404, "the application's own"


def test_without_the_setting_nothing_is_answered(serve):
    server = serve(PROCESSES)
    assert server.request("GET", "/-/livez").status == 404, "by the application"


def test_probes_are_answered_in_every_protocol(serve, pair):
    schemes = ("http", "https", "uwsgi", "scgi", "fastcgi", "redirect")
    binds = [f"{scheme}://127.0.0.1:0" for scheme in schemes]
    server = serve(PROCESSES, *HEALTH, *pair.options, bind=binds)
    addresses = dict(zip(schemes, server.addresses, strict=True))
    assert probe(addresses["http"], "readyz").body == b"ok\n"
    assert probe(addresses["redirect"], "readyz").body == b"ok\n", "kubelets follow no redirect to elsewhere"
    for protocol in ("uwsgi", "scgi", "fastcgi"):
        answer = ask(addresses[protocol], protocol, variables("/-/readyz"))
        assert (answer.status, answer.body) == (200, b"ok\n"), protocol
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(addresses["https"], 10) as plain, context.wrap_socket(plain) as secure:
        secure.sendall(request_bytes(target="/-/readyz", host=KUBELETS, fields=[("Connection", "close")]))
        assert b"".join(iter(lambda: secure.recv(4096), b"")).endswith(b"\r\n\r\nok\n")
    context.set_alpn_protocols(["h2"])
    for address, tls in ((addresses["http"], None), (addresses["https"], context)):
        with Http2Client(address, tls=tls) as client:
            for _ in range(3):
                answer = client.request("/-/livez")
                assert (answer.status, answer.body) == (200, b"ok\n")


def test_neither_hosts_nor_routes_stand_before_probes(serve, tmp_path):
    routes = "[{ path = '/', allow = ['192.0.2.1'] }, { host = 'a.example', path = '/', respond = 410 }]"
    environment = {"PORTICO_ROUTE": routes}
    server = serve(PROCESSES, *HEALTH, "--allowed-hosts", "a.example", environment=environment)
    assert probe(server.address, "livez").status == 200
    assert server.request("GET", "/pid").status == 421, "another host"


def test_commands_tell_that_probes_come_first(tmp_path):
    routes = {"PORTICO_ROUTE": "[{ path = '/-', allow = ['192.0.2.1'] }]", "PYTHONPATH": str(TESTS)}
    told = run_to_end("route", "/-/livez", *HEALTH, PROCESSES, cwd=tmp_path, environment=routes)
    assert told.returncode == 0 and "the server's health" in told.stdout, told
    told = run_to_end("route", "/-/else", *HEALTH, PROCESSES, cwd=tmp_path, environment=routes)
    assert "the server's health" not in told.stdout
    checked = run_to_end("check", *HEALTH, PROCESSES, cwd=tmp_path, environment=routes)
    assert "does not count for /-/livez" in checked.stdout + checked.stderr, checked


@pytest.mark.parametrize(("options", "lines"), [((), 1), (("--health-log",), 3)])
def test_probes_are_logged_only_if_asked_for(serve, tmp_path, options, lines):
    log = tmp_path / "access.log"
    server = serve(PROCESSES, *HEALTH, *options, "--access-logfile", str(log))
    for name in ("livez", "readyz"):
        probe(server.address, name)
    server.request("GET", "/pid")
    server.stop()
    told = log.read_text().splitlines()
    assert len(told) == lines and "/pid" in told[-1], told


# While the application cannot answer


def p99_of_livez(server) -> float:
    """Seconds within which 99 of 100 probes are answered."""
    seconds = []
    for _ in range(200):
        started = time.monotonic()
        assert probe(server.address, "livez").status == 200
        seconds.append(time.monotonic() - started)
        time.sleep(LOOK_INTERVAL)
    return sorted(seconds)[len(seconds) * 99 // 100]


@pytest.mark.serial
def test_livez_is_prompt_while_every_thread_computes(serve):
    workers, threads = 4, 16
    options = ("--workers", str(workers), "--threads", str(threads), "--timeout", "0")
    server = serve("apps.stuck:application", *HEALTH, *options)
    server.wait_workers(workers)
    clients = []
    try:
        for _ in range(workers * threads):
            client = server.connect()
            client.send(request_bytes(target="/spin"))
            clients.append(client)
        busy = server.scoreboard().busy_threads
        wait_until(
            lambda: sum(busy(worker.pid) for worker in server.workers()) == workers * threads,
            "every thread to compute",
            60,
        )
        rounds = [p99_of_livez(server) for _ in range(BUSY_ROUNDS)]
        print(f"livez, p99 of each round: {[f'{p99 * 1000:.1f} ms' for p99 in rounds]}")
        assert min(rounds) < BUSY_P99, rounds
        assert probe(server.address, "readyz").status == 200, "busy is ready"
    finally:
        for client in clients:
            client.close()
        server.kill()  # Nothing in the application lets threads end.


def test_a_full_queue_is_neither_dead_nor_unready(serve):
    server = serve(PROCESSES, *HEALTH, "--threads", "1", "--max-queue", "1")
    with server.connect() as held, server.connect() as queued:
        held.send(request_bytes(target="/hold?gate=one"))
        server.rendezvous.wait_for("holding one")
        queued.send(request_bytes(target="/pid"))
        server.wait_engine()
        assert server.request("GET", "/pid").status == 503
        assert [probe(server.address, name).status for name in ("livez", "readyz")] == [200, 200]
        server.rendezvous.open("one")
        assert held.read_response().status == queued.read_response().status == 200


def test_readyz_falls_while_requests_wait_for_too_long(serve):
    server = serve(PROCESSES, *HEALTH, "--threads", "1", "--ready-max-wait", "1")
    server.wait_workers(1)
    wait_until(lambda: "[+]queue" in probe(server.address, "readyz?verbose").body.decode(), "the first look")
    with server.connect() as held, server.connect() as queued:
        held.send(request_bytes(target="/hold?gate=one"))
        server.rendezvous.wait_for("holding one")
        queued.send(request_bytes(target="/pid"))
        wait_until(lambda: status(server.address, "readyz") == 503, "readiness to fall", 10)
        assert texts(probe(server.address, "readyz"))[0].startswith("queue: requests wait for too long")
        assert status(server.address, "livez") == 200
        server.rendezvous.open("one")
        assert held.read_response().status == queued.read_response().status == 200
    wait_until(lambda: status(server.address, "readyz") == 200, "readiness to come back", 10)


@pytest.mark.serial
def test_probes_of_one_client_delay_no_other(serve):
    server = serve(PROCESSES, *HEALTH, "--threads", "2")
    stop = threading.Event()

    def flood() -> None:
        with server.connect() as client:
            burst = request_bytes(target="/-/readyz?verbose") * 500
            while not stop.is_set():
                client.send(burst)
                for _ in range(500):
                    assert client.read_response().status == 200

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(50):
            server.expect_prompt_answer("/pid")
    finally:
        stop.set()
        thread.join(20)


# While it starts


@pytest.mark.parametrize("options", [("--workers", "2"), ("--preload", "--workers", "2")])
def test_startupz_says_what_the_start_waits_for(serve, tmp_path, options):
    path = f"{tmp_path}/s"
    server = serve.start("apps.held_import", *HEALTH, *options, bind=f"unix:{path}")
    wait_until(lambda: status(path, "startupz") == 503, "an answer before there is an application", 20)
    told = probe(path, "startupz").body.decode()
    expected = (
        "apps.held_import is imported for" if "--preload" in options else "slot 0 imports apps.held_import"
    )
    assert told.startswith(f"startup: {expected}"), told
    assert [status(path, "livez"), status(path, "readyz")] == [200, 503]
    with Client(path) as client:
        refused = client.request("GET", "/pid")
    assert (refused.status, refused.get("Retry-After")) == (503, "1")
    server.rendezvous.open("import")
    wait_until(lambda: status(path, "readyz") == 200, "readiness", 20)
    for _ in range(300):
        with Client(path) as client:
            assert client.request("GET", "/pid").status == 200, "nobody is refused once the server is ready"
    assert [status(path, "startupz"), status(path, "livez")] == [200, 200]


def test_worker_loaded_first_is_in_nobodys_way(serve, tmp_path):
    """The worker that answers probes imports for long; another one is ready meanwhile."""
    path = f"{tmp_path}/s"
    server = serve.start("apps.uneven_import", *HEALTH, "--workers", "2", bind=f"unix:{path}")
    wait_until(lambda: status(path, "readyz") == 200, "readiness", 20)
    for _ in range(300):
        with Client(path) as client:
            assert client.request("GET", "/pid").status == 200
    assert probe(path, "startupz").status == 200
    server.rendezvous.open("import")
    server.wait_workers(2)


def test_failed_boot_still_ends_the_server(tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('no application')\n")
    ended = run_to_end("--bind", f"unix:{tmp_path}/s", *HEALTH, "broken", cwd=tmp_path)
    assert ended.returncode == 3 and "no application" in ended.stderr


# While it stops


@pytest.mark.serial
def test_readyz_falls_at_term_before_the_listener_closes(serve):
    server = serve(PROCESSES, *HEALTH, "--drain-delay", str(DRAIN_DELAY), "--workers", "2")
    server.wait_workers(2)
    assert status(server.address, "readyz") == 200
    server.signal(signal.SIGTERM)
    wait_until(lambda: status(server.address, "readyz") == 503, "readiness to fall", 1)
    fallen = time.monotonic()
    assert texts(probe(server.address, "readyz")) == ["server: it is stopping"]
    assert status(server.address, "livez") == 200, "a restart would help against nothing"
    assert server.request("GET", "/pid").status == 200, "requests are served meanwhile"
    seen = set()
    while (found := status(server.address, "readyz")) != 0:
        seen.add(found)
        time.sleep(LOOK_INTERVAL)
    assert seen == {503}
    assert time.monotonic() - fallen > DRAIN_DELAY - 0.5
    assert server.wait_exit() == 0


# A supervisor or workers that die


def test_a_stopped_supervisor_is_found_dead(serve):
    server = serve(PROCESSES, *HEALTH)
    server.wait_workers(1)
    server.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        assert status(server.address, "livez") == 200, "not at once"
        wait_until(lambda: status(server.address, "livez") == 503, "livez to fail", HEARTBEAT_MAX + 5)
        assert time.monotonic() - stopped > HEARTBEAT_MAX - 1.5
        assert texts(probe(server.address, "livez"))[0].startswith("supervisor: no heartbeat for 1")
    finally:
        server.signal(signal.SIGCONT)
    wait_until(lambda: status(server.address, "livez") == 200, "the supervisor to go on", 5)


def test_readyz_asks_for_so_many_workers(serve):
    environment = {"IMPORT_SECONDS": "1.5"}
    options = ("--workers", "2", "--ready-min", "2")
    server = serve("apps.slow_import", *HEALTH, *options, environment=environment)
    first, _ = server.wait_workers(2)
    assert status(server.address, "readyz") == 200
    first.kill()
    server.expect_log(rf"worker \d \(pid {first.pid}\) died")
    wait_until(lambda: status(server.address, "readyz") == 503, "readiness to fall", 5)
    assert texts(probe(server.address, "readyz")) == ["workers: 1 of 2 ready, 2 needed"]
    wait_until(lambda: status(server.address, "readyz") == 200, "the successor", 20)


def test_dead_workers_pass_no_probe_until_one_serves(serve):
    server = serve("apps.slow_import", *HEALTH, environment={"IMPORT_SECONDS": "1"})
    (worker,) = server.wait_workers(1)
    worker.kill()
    server.expect_log(r"worker \d \(pid \d+\) died")
    with pytest.raises(TimeoutError):
        probe(server.address, "readyz", timeout=0.3)
    wait_until(lambda: answers(server), "the successor", 20)


def answers(server) -> bool:
    """Whether a probe passes within half a second."""
    try:
        return probe(server.address, "readyz", timeout=0.5).status == 200
    except TimeoutError:
        return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_readyz_never_falls_during_a_reload(serve, workers):
    server = serve(PROCESSES, *HEALTH, "--workers", workers)
    server.wait_workers(int(workers))
    found: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            found.append(status(server.address, "readyz"))
            time.sleep(LOOK_INTERVAL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(3):
            old = server.wait_workers(int(workers))
            server.signal(signal.SIGHUP)
            server.wait_replaced(old)
    finally:
        stop.set()
        watcher.join(10)
    assert set(found) == {200} and len(found) > 5


def test_readyz_never_falls_during_an_upgrade(serve, tmp_path):
    path, pidfile = f"{tmp_path}/s", tmp_path / "pid"
    server = serve(PROCESSES, *HEALTH, "--pid", str(pidfile), bind=f"unix:{path}")
    server.wait_workers(1)
    found: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            found.append(status(path, "readyz"))
            time.sleep(LOOK_INTERVAL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    new = None
    try:
        server.signal(signal.SIGUSR2)
        server.wait_exit()
        new = Process(int(pidfile.read_text()))
        time.sleep(0.2)  # Some more looks at the new one.
    finally:
        stop.set()
        watcher.join(10)
        if new:
            os.kill(new.pid, signal.SIGTERM)
    wait_until(lambda: not new.alive, "the new server to end", 20)
    assert set(found) == {200}


# Without a supervisor


@pytest.mark.serial
def test_a_process_without_a_supervisor_answers_rightly(serve, tmp_path):
    path = f"{tmp_path}/s"
    program = [sys.executable, "-m", "apps.programs.serve_probed", f"unix:{path}", str(DRAIN_DELAY)]
    server = serve(None, bind=None, program=program)
    wait_until(lambda: status(path, "readyz") == 200, "readiness", 20)
    assert [status(path, name) for name in ("livez", "startupz")] == [200, 200]
    assert "supervisor: there is none" in probe(path, "livez?verbose").body.decode()
    server.signal(signal.SIGTERM)
    wait_until(lambda: status(path, "readyz") == 503, "readiness to fall", 1)
    fallen = time.monotonic()
    wait_until(lambda: status(path, "readyz") == 0, "the listener to close", 10)
    assert time.monotonic() - fallen > DRAIN_DELAY - 0.5
    assert server.wait_exit() == 0, server.log_text
