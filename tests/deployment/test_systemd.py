"""Under systemd: Type=notify-reload, the watchdog, and what it is told of the server's state."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

import pytest

from harness.http_client import request_bytes
from harness.systemd import NotifySocket

APP = "apps.processes:application"
WATCHDOG_PAUSE = 0.1  # Seconds between what the manager is sent that asks for it each 0.2 s.


def microseconds() -> int:
    """CLOCK_MONOTONIC, as systemd compares it."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.fixture
def manager(tmp_path):
    with NotifySocket(tmp_path / "notify") as manager:
        yield manager


def test_ready_and_stopping_are_announced_in_time(serve, tmp_path, manager):
    (tmp_path / "slow.py").write_text(
        "from apps.meeting import rendezvous\nrendezvous.hold('import')\n"
        "from apps.processes import application\n"
    )
    server = serve.start("slow", cwd=tmp_path, environment={"NOTIFY_SOCKET": manager.path})
    server.rendezvous.wait_for("holding import")
    assert not manager.having("READY")
    server.rendezvous.open("import")
    assert manager.wait_for("READY")["READY"] == "1"
    server.wait_ready()
    assert server.request("GET", "/pid").status == 200
    with server.connect() as client:
        client.send(request_bytes(target="/hold?gate=only"))
        server.rendezvous.wait_for("holding only")
        server.signal(signal.SIGTERM)
        assert manager.wait_for("STOPPING")["STOPPING"] == "1"
        server.rendezvous.open("only")
        assert client.read_response().status == 200
    server.stop()
    assert len(manager.having("READY")) == 1
    assert manager.having("STATUS"), "systemctl status has something to show"


def test_socket_of_the_abstract_namespace(serve, tmp_path):
    with NotifySocket(f"@portico-test-{tmp_path.name}-{time.monotonic_ns()}") as manager:
        serve(APP, environment={"NOTIFY_SOCKET": manager.path})
        manager.wait_for("READY")


def test_reload_is_announced_at_both_ends(serve, manager):
    server = serve(APP, "--workers", "2", environment={"NOTIFY_SOCKET": manager.path})
    old = server.wait_workers(2)
    manager.wait_for("READY")
    before = microseconds()
    server.signal(signal.SIGHUP)
    said = manager.wait_for("RELOADING")
    assert said["RELOADING"] == "1"
    assert before <= int(said["MONOTONIC_USEC"]) <= microseconds()
    manager.wait_for("READY", 2)
    assert not any(worker.alive for worker in old), "it is over when all workers have the new code"
    server.wait_workers(2)


def test_reload_that_fails_ends_too(serve, tmp_path, manager):
    (tmp_path / "fickle.py").write_text("from apps.processes import application\n")
    server = serve("fickle", cwd=tmp_path, environment={"NOTIFY_SOCKET": manager.path})
    manager.wait_for("READY")
    (tmp_path / "fickle.py").write_text("raise RuntimeError('planted error')\n")
    server.signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    manager.wait_for("READY", 2)
    server.expect_log("planted error")
    server.expect_log("reload failed")


def test_watchdog_is_fed_although_workers_are_stuck(serve, manager):
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "600000"}
    options = ("--threads", "1", "--timeout", "0", "--graceful-timeout", "1")
    server = serve(APP, *options, environment=environment)
    manager.wait_for("READY")
    with server.connect() as client:
        client.send(request_bytes(target="/stuck?interpreter"))
        server.rendezvous.wait_for_prefix("stuck")
        begun = len(manager.having("WATCHDOG"))
        manager.wait_for("WATCHDOG", begun + 4, 5)
        moments = [moment for moment, _ in manager.having("WATCHDOG")]
        pauses = [later - earlier for earlier, later in pairwise(moments)]
        assert max(pauses) < 0.6, pauses
        server.signal(signal.SIGTERM)
        server.wait_exit()


def test_watchdog_of_another_process_is_not_fed(serve, manager):
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
    serve(APP, environment=environment)
    manager.wait_for("READY")
    time.sleep(5 * WATCHDOG_PAUSE)
    assert not manager.having("WATCHDOG")


def test_manager_that_has_gone_does_no_harm(serve, tmp_path):
    server = serve(APP, environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert server.request("GET", "/pid").status == 200
    server.stop()
