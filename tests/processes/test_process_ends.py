"""What runs how often where processes are forked: code of the command's caller, hooks of forks and ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from harness.rendezvous import wait_until
from harness.server import Server
from harness.sources import source

CALLER = source("ends_caller")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the caller and the application leave word, and the caller lies itself."""
    (tmp_path / "caller.py").write_text(CALLER)
    return tmp_path


def pids(folder: Path, name: str) -> list[int]:
    """Who has left word, sorted."""
    path = folder / name
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def start(serve, folder: Path, *options: str, **environment: str) -> Server:
    """A server with two workers, called from a program that does something afterwards."""
    return serve(
        "apps.ends",
        "--workers",
        "2",
        *options,
        program=[sys.executable, str(folder / "caller.py"), str(folder)],
        cwd=folder,
        environment={"FOLDER": str(folder), "PYTHONUNBUFFERED": None, **environment},
    )


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_supervisor_returns_workers_alone_run_exit_handlers(serve, folder, preload):
    server = start(serve, folder, *preload)
    workers = sorted(worker.pid for worker in server.wait_workers(2))
    server.stop()
    assert pids(folder, "returned") == pids(folder, "unwound") == [server.pid]
    assert pids(folder, "ended") == workers, "once in each, and neither in the template nor in the supervisor"
    assert set(workers) <= set(pids(folder, "forked")), "os.register_at_fork"
    assert server.stdout.lines == ["imported"] * (1 if preload else 2), "no buffer is written twice"


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_each_worker_knows_its_slot(serve, folder, preload):
    server = start(serve, folder, *preload)
    workers = {worker.pid for worker in server.wait_workers(2)}
    slots = dict(map(int, server.request().body.split()) for _ in range(40))
    assert set(slots) <= workers
    assert set(slots.values()) <= {0, 1}
    assert len(set(slots.values())) == len(slots), "a slot is one process'"


def test_signal_during_an_import_ends_the_server_quietly(serve, folder):
    (folder / "hanging.py").write_text("import time; open('begun', 'w').close(); time.sleep(60)")
    server = Server(
        "hanging",
        "--workers",
        "2",
        folder=folder / "meeting",
        cwd=folder,
        environment={"FOLDER": str(folder)},
    )
    try:
        wait_until((folder / "begun").exists, "the import to begin")
        server.signal(signal.SIGTERM)
        assert server.wait_exit(10) == 0, server.log_text
        assert not server.unexpected_records()
    finally:
        server.kill()


def test_thread_of_an_import_is_named_or_refused(serve, folder):
    server = start(serve, folder, "--preload", START_THREAD="1")
    server.expect_log("WARNING.*--preload.*the thread poller")
    assert server.request().status == 200
    server.stop()
    strict = Server(
        "apps.ends",
        "--preload=strict",
        folder=folder / "meeting",
        cwd=folder,
        environment={"FOLDER": str(folder), "START_THREAD": "1"},
    )
    try:
        assert strict.wait_exit(10) == 3
        assert strict.log_text.count("the thread poller") == 1
    finally:
        strict.kill()
