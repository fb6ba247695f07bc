"""A new program on the old sockets, and back again if it does not serve."""

from __future__ import annotations

import signal
import socket
import ssl
import sys

import pytest

from harness.certificates import Authority
from harness.load import Load
from harness.process import Process
from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sources import source
from harness.systemd import NotifySocket

# Stands for the installed program: what an upgrade starts is what the file says then.
PROGRAM = source("own_program")

APPLICATION = """
import os
from apps.routes import plain
def application(environ, start_response):
    return plain(start_response, f"{version} {{os.getppid()}}")
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """After the servers have been stopped, kills what still runs in the folder of the test.

    A test that fails between an upgrade and `end_new` knows the new supervisor by nothing else.
    """
    yield
    for process in Process.in_folder(tmp_path):
        process.kill()


@pytest.fixture
def deployed(tmp_path):
    """A folder with a program and version 1 of an application."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "app.py").write_text(APPLICATION.format(version=1))
    return tmp_path


def start(serve, folder, *options: str, **settings):
    program = [sys.executable, str(folder / "program.py")]
    server = serve.start("app", *options, program=program, cwd=folder, **settings).wait_ready()
    server.wait_workers(2)
    return server


def upgrade(server, folder):
    """`portico upgrade`."""
    return run_to_end("upgrade", str(server.pid), cwd=folder, timeout=20)


def end_new(server, pid: int) -> None:
    """Stops the supervisor that took over."""
    new = Process(pid)
    new.signal(signal.SIGTERM)
    wait_until(lambda: not new.alive, "the new supervisor to end", 10)
    assert not server.unexpected_records(), server.log_text


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix"])
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_upgrade_under_load_loses_nothing(serve, deployed, bind, preload):
    path = deployed / "socket"
    bind = f"unix:{path}" if bind == "unix" else bind
    server = start(serve, deployed, "--workers", "2", *preload, bind=bind)
    with Load(server.address, 300, kept=16) as load:
        load.wait_answered(90)
        (deployed / "app.py").write_text(APPLICATION.format(version=2))
        ended = upgrade(server, deployed)
        assert ended.returncode == 0, (ended, server.log_text)
        assert server.process.wait(10) == 0
        load.wait_answered(90)
    assert not load.failed, load.told()
    answers = [outcome.body.decode().split() for outcome in load.outcomes]
    assert {version for version, _ in answers} == {"1", "2"}
    pid = int(server.request().body.split()[1])
    assert pid != server.pid
    assert bind == "127.0.0.1:0" or path.exists()
    end_new(server, pid)
    assert not path.exists()


def test_upgrade_changes_what_a_reload_cannot(serve, deployed):
    conf = deployed / "gunicorn.conf.py"
    conf.write_text("threads = 2\n")
    server = start(serve, deployed, "--workers", "2")
    server.expect_log("with 2 threads", 2)
    conf.write_text("threads = 3\n")
    old = server.wait_workers(2)
    server.signal(signal.SIGHUP)
    server.wait_replaced(old)
    server.expect_log(r"cannot change threads \(more of them\).*upgrade it \(SIGUSR2\)")
    assert not server.find_records("with 3 threads")
    ended = upgrade(server, deployed)
    assert ended.returncode == 0, (ended, server.log_text)
    server.expect_log("with 3 threads", 2)
    assert len(server.find_records("cannot change")) == 1
    end_new(server, int(server.request().body.split()[1]))


@pytest.mark.parametrize(
    "broken", ["program: sys.exit(5)", "application: raise RuntimeError('planted error')", "application: def"]
)
def test_failed_upgrade_is_rolled_back(serve, deployed, broken):
    server = start(serve, deployed, "--workers", "2")
    workers = server.wait_workers(2)
    what, _, text = broken.partition(": ")
    (deployed / ("program.py" if what == "program" else "app.py")).write_text(f"import sys\n{text}\n")
    with Load(server.address, 100, kept=4) as load:
        ended = upgrade(server, deployed)
    assert ended.returncode == 1, ended
    load.assert_lossless()
    assert {outcome.body for outcome in load.outcomes} == {f"1 {server.pid}".encode()}
    assert server.wait_workers(2) == workers
    server.expect_log("(?i)upgrade.*(failed|rolled back)")
    server.expect_log(".*")
    wait_until(lambda: set(server.supervisor.children()) == set(workers), "the new one to be gone")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_sessions_go_on_after_an_upgrade(serve, deployed, tmp_path, version):
    authority = Authority(tmp_path / "authority")
    context = authority.context()
    context.minimum_version = context.maximum_version = version
    server = start(serve, deployed, "--workers", "2", *authority.issue("localhost").options)

    def visit(session=None):
        """The supervisor that answers, whether the session has gone on, and what goes on next."""
        with (
            socket.create_connection(server.address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
        ):
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            return int(answer.split()[-1]), client.session_reused, client.session

    pid, reused, session = visit()
    assert (pid, reused) == (server.pid, False)
    for _ in range(2):  # The second time the keys have been handed on twice.
        assert upgrade(Process(pid), deployed).returncode == 0
        wait_until(lambda old=pid: not Process(old).alive or visit()[0] != old, "the new one to serve", 10)
        former = pid
        pid, reused, session = visit(session)
        assert pid != former and reused
    end_new(server, pid)


def test_upgrade_by_signal_tells_systemd_the_new_pid(serve, deployed, tmp_path):
    with NotifySocket(tmp_path / "notify") as manager:
        server = start(serve, deployed, "--workers", "2", environment={"NOTIFY_SOCKET": manager.path})
        manager.wait_for("READY")
        server.signal(signal.SIGUSR2)
        pid = int(manager.wait_for("MAINPID")["MAINPID"])
        assert pid != server.pid and Process(pid).alive
        assert server.process.wait(10) == 0
        assert not manager.having("STOPPING"), "the service goes on"
        assert int(server.request().body.split()[1]) == pid
        end_new(server, pid)
        manager.wait_for("STOPPING")
