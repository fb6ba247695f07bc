"""Stopping all of it: by an operator, a terminal, an orchestrator; quickly, and always."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import termios
import time

import pytest

from harness.http_client import FramingError, request_bytes
from harness.load import Load
from harness.rendezvous import wait_until

# Seconds: far less than the graceful timeout of 30, which a server takes that waits for what does not come.
PROMPT = 10
# Seconds after which a second signal is a second wish: a process and its group get one each.
DOUBLE_SIGNAL = 0.5

APP = "apps.processes:application"


def stop_seconds(server, timeout: float = 20.0) -> float:
    """Seconds until all of it has ended, with status 0."""
    children = server.supervisor.children()
    started = time.monotonic()
    assert server.wait_exit(timeout) == 0, server.log_text
    seconds = time.monotonic() - started
    assert not any(child.alive for child in children)
    return seconds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_idle_server_stops_at_once(serve, number, preload):
    server = serve(APP, "--workers", "3", *preload)
    server.wait_workers(3)
    server.signal(number)
    assert stop_seconds(server) < PROMPT
    assert not server.unexpected_records()
    assert "Traceback" not in server.log_text


def test_one_running_and_63_queued_are_all_answered(serve):
    server = serve(APP, "--threads", "1", "--log-level", "debug")
    with server.connections(64) as clients:
        clients[0].send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        for client in clients[1:]:
            client.send(request_bytes(target="/pid"))
        server.wait_engine()
        server.signal(signal.SIGTERM)
        server.expect_log("The supervisor tells this process to drain")
        server.rendezvous.open("only")
        for client in clients:
            response = client.read_response()
            assert (response.status, response.closes) == (200, True)
            client.expect_end()
    assert stop_seconds(server) < PROMPT


@pytest.mark.parametrize("workers", [1, 3])
def test_what_only_the_kernel_knows_yet_is_answered(serve, workers):
    """All workers stand still while clients connect."""
    server = serve(APP, "--workers", str(workers), "--threads", "2")
    for worker in server.wait_workers(workers):
        worker.pause()
    with server.connections(63) as clients:
        for client in clients:
            client.send(request_bytes(target="/pid"))
        server.signal(signal.SIGTERM)
        server.expect_log("Handling signal: term")
        for worker in server.workers():
            worker.resume()
        assert [client.read_response().status for client in clients] == [200] * 63
    assert stop_seconds(server) < PROMPT


def test_ctrl_c_in_a_terminal_stops_in_order(serve):
    """The terminal sends SIGINT to the whole process group, the workers included."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    server = serve.start(
        APP,
        "--workers",
        "3",
        stdin=theirs,
        stdout=theirs,
        preexec_fn=take_terminal,
    ).wait_ready()
    os.close(theirs)
    server.wait_workers(3)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        os.write(ours, b"\x03")
        server.expect_log("Handling signal: int")
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    assert stop_seconds(server) < PROMPT
    os.close(ours)
    assert len(server.find_records("Handling signal: int")) == 1, server.log_text
    assert "Traceback" not in server.log_text and "KeyboardInterrupt" not in server.log_text
    assert not server.find_records("died|WARNING|ERROR")


def is_announced(client) -> bool:
    """Whether the answer to a request says that it is the connection's last."""
    response = client.request("GET", "/pid")
    assert response.status == 200
    return response.closes


def test_drain_delay_accepts_and_announces_and_then_stops(serve):
    server = serve(
        APP,
        "--workers",
        "2",
        "--drain-delay",
        "1s",
        environment={"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    )
    server.wait_workers(2)
    with server.connect() as kept, Load(server.address, 100, lambda number: "/pid", kept=8) as load:
        assert not kept.request("GET", "/pid").closes
        load.wait_answered(30)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        wait_until(lambda: is_announced(kept), "the kept connection's worker to hear of it")
        wait_until(lambda: server.request("GET", "/pid").closes, "the others to hear of it")
        wait_until(lambda: time.monotonic() - started > 0.8, "most of the delay")
        load.stopping.set()
        load.thread.join()
        assert server.process.poll() is None
    load.assert_lossless()
    assert stop_seconds(server) < PROMPT
    assert time.monotonic() - started > 0.95


def test_kubernetes_drain_delay_is_skipped_by_second_term(serve):
    server = serve(APP, environment={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        server.signal(signal.SIGTERM)
        time.sleep(DOUBLE_SIGNAL)
        assert server.request("GET", "/pid").status == 200
        server.signal(signal.SIGTERM)
        server.wait_refusing(2)
        server.rendezvous.open("only")
        assert client.read_response().status == 200, "the second one skips the delay, not the rest"
    assert stop_seconds(server) < PROMPT


def test_drain_delay_is_part_of_the_graceful_time(serve):
    server = serve(APP, "--drain-delay", "1s", "--graceful-timeout", "2s", "--timeout", "0")
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=never"))
        server.rendezvous.wait_for("holding never")
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        server.expect_log("calls did not end; leaving without them")
        assert stop_seconds(server) < PROMPT
        assert 1.9 < time.monotonic() - started < 3.5


def test_int_takes_no_delay(serve):
    server = serve(APP, "--drain-delay", f"{2 * PROMPT}s")
    server.signal(signal.SIGINT)
    assert stop_seconds(server) < PROMPT


@pytest.mark.serial
def test_idle_connections_and_stuck_threads_delay_no_stop(serve):
    server = serve(APP, "--workers", "2", "--threads", "2", "--graceful-timeout", "1", "--timeout", "0")
    server.wait_workers(2)
    with server.connections(1000) as idle, server.connections(2) as stuck:
        for client in idle[::10]:
            assert client.request("GET", "/pid").status == 200
        stuck[0].send(request_bytes(target="/stuck"))
        server.rendezvous.wait_for_prefix("stuck", 1)
        stuck[1].send(request_bytes(target="/stuck"))
        server.rendezvous.wait_for_prefix("stuck", 2)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        for client in idle:
            client.expect_end()
        assert time.monotonic() - started < 0.7, "idle ones are closed at once"
        assert stop_seconds(server) < PROMPT
    assert server.find_records("/stuck"), "the log names what was given up"


def test_thread_holding_the_interpreter_delays_no_stop(serve):
    server = serve(APP, "--graceful-timeout", "1", "--timeout", "0")
    with server.connect() as client:
        client.send(request_bytes(target="/stuck?interpreter"))
        server.rendezvous.wait_for_prefix("stuck")
        server.signal(signal.SIGTERM)
        assert stop_seconds(server) < PROMPT
        with pytest.raises((FramingError, ConnectionResetError)):
            client.read_response()


def test_third_signal_needs_no_patience_at_all(serve):
    server = serve(APP, "--workers", "2", "--graceful-timeout", "30", "--timeout", "0")
    server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target="/stuck?interpreter"))
        server.rendezvous.wait_for_prefix("stuck")
        started = time.monotonic()
        for _ in range(3):
            server.signal(signal.SIGTERM)
            time.sleep(DOUBLE_SIGNAL)
        assert server.wait_exit() is not None
        assert time.monotonic() - started < 4


def test_new_connections_are_refused_once_no_worker_listens(serve):
    """Not left in a queue that nobody will read."""
    server = serve(APP, "--workers", "2")
    server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        server.signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                server.connect(0.5).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refused, "connections to be refused", 3)
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    assert stop_seconds(server) < PROMPT


def test_socket_file_goes_with_the_supervisor_only(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve(APP, "--workers", "2", bind=f"unix:{path}")
    workers = server.wait_workers(2)
    workers[0].signal(signal.SIGTERM)
    wait_until(lambda: not workers[0].alive, "the worker to end")
    workers[1].kill()
    server.expect_log("SIGKILL")
    server.wait_workers(2)
    assert path.exists() and server.request("GET", "/pid").status == 200
    server.stop()
    assert not path.exists()


def test_rolling_restart_on_a_shared_port_loses_nothing(serve):
    """As behind a load balancer that sends to whoever listens: one is stopped while the other serves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        servers = [serve(APP, bind=f"fd://{descriptor}", pass_fds=[descriptor]) for _ in range(2)]
        address = listener.getsockname()
        with Load(address, 300, lambda number: "/pid", new_every=1) as load:
            load.wait_answered(90)
            servers[0].stop()
            load.wait_answered(60)
        load.assert_lossless()
        readable, _, _ = select.select([listener], [], [], 0)
        assert not readable
        servers[1].stop()


@pytest.mark.parametrize("time_of_six", range(6))
@pytest.mark.parametrize("preload", [(), ("--preload",)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_group_stops_in_order(serve, preload, number, time_of_six):
    """As a terminal sends it, or systemd with KillMode=control-group."""
    server = serve(APP, "--workers", "3", *preload, start_new_session=True)
    server.wait_workers(3)
    os.killpg(server.pid, number)
    assert stop_seconds(server) < PROMPT
    assert not server.find_records(r"\[(ERROR|WARNING|CRITICAL)\]| died"), server.log_text
    assert "Traceback" not in server.log_text
