"""How workers start: warmed up before they serve, told once if they cannot, tried again if others serve."""

from __future__ import annotations

import re
import signal
from itertools import pairwise

import pytest

from harness.http_client import Client
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.sources import source

BROKEN = "import os\nraise RuntimeError('planted error of the import')\n"
PRELOADS = [(), ("--preload",)]

# Fails at will: while `broken` exists in the folder of the meeting place.
FICKLE = source("fickle")

WARMED = source("warmed")


@pytest.mark.parametrize("preload", PRELOADS)
def test_failing_import_is_reported_once_for_all_workers(tmp_path, preload):
    (tmp_path / "broken.py").write_text(BROKEN)
    ended = run_to_end("--workers", "4", *preload, "--bind", "127.0.0.1:0", "broken", cwd=tmp_path)
    assert ended.returncode == 3, ended
    assert ended.stderr.count("Traceback") == 1, ended.stderr
    assert ended.stderr.count("importing broken failed") == 1
    assert "KeyboardInterrupt" not in ended.stderr
    assert 'broken.py", line 2' in ended.stderr


@pytest.mark.parametrize("preload", PRELOADS)
def test_missing_application_exits_like_a_single_process(tmp_path, preload):
    ended = run_to_end("--workers", "3", *preload, "--bind", "127.0.0.1:0", "no_such_module", cwd=tmp_path)
    assert ended.returncode == 3, ended
    assert ended.stderr.count("no_such_module") == 1, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("preload", PRELOADS)
def test_application_that_ends_the_process_at_its_import(tmp_path, preload):
    (tmp_path / "leaving.py").write_text("import os\nos._exit(7)\n")
    ended = run_to_end("--workers", "2", *preload, "--bind", "127.0.0.1:0", "leaving", cwd=tmp_path)
    assert ended.returncode == 7, ended
    assert "status: 7" in ended.stderr or "status 7" in ended.stderr, ended.stderr


def test_taken_address_is_reported_before_any_import(tmp_path, serve):
    server = serve("apps.processes:application")
    address = "{}:{}".format(*server.address)
    (tmp_path / "loud.py").write_text("print('imported')\ndef application(environ, start_response): pass\n")
    ended = run_to_end("--workers", "2", "--bind", address, "loud", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    tried = [line for line in ended.stderr.splitlines() if "Connection in use" in line]
    assert (len(tried), ended.stderr.count(address)) == (4, 5), ended.stderr


def test_term_while_the_application_is_imported(serve, tmp_path):
    server = serve.start("apps.held_import", "--workers", "2")
    server.rendezvous.wait_for("holding import", 2)
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0, "nobody has opened the gate"
    assert "Traceback" not in server.log_text


@pytest.mark.parametrize("preload", PRELOADS)
def test_failures_after_a_good_boot_are_retried_later(serve, tmp_path, preload):
    (tmp_path / "fickle.py").write_text(FICKLE)
    server = serve("fickle", "--workers", "2", *preload, cwd=tmp_path)
    dying, surviving = server.wait_workers(2)
    imports = len(imported_at(server))
    (server.rendezvous.folder / "broken").touch()
    if preload:
        template = next(child for child in server.supervisor.children() if child not in (dying, surviving))
        template.kill()
        server.expect_log(f"pid:? {template.pid}.*")
    dying.kill()
    wait_until(lambda: len(imported_at(server)) >= imports + 5, "five attempts", 15)
    attempts = imported_at(server)[imports : imports + 5]
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses == sorted(pauses) and pauses[-1] > 2 * pauses[0], pauses
    assert pauses[0] < 1
    assert server.answering_pids(10) == {surviving.pid}
    server.expect_log("SIGKILL")
    server.expect_log("planted error of the import")
    (server.rendezvous.folder / "broken").unlink()
    assert surviving in server.wait_workers(2)


def imported_at(server) -> list[float]:
    """When the application was imported, each time."""
    return [float(event.split()[1]) for event in server.rendezvous.matching("imports")]


def test_each_worker_is_warmed_up_before_it_serves(serve, tmp_path):
    (tmp_path / "warmed.py").write_text(WARMED)
    server = serve(
        "warmed", "--workers", "2", "--warmup", "GET:/pid?a=1", "--warmup", "HEAD:/ping", cwd=tmp_path
    )
    workers = server.wait_workers(2)
    for worker in workers:
        events = [event for event in server.rendezvous.events() if event.endswith(f" {worker.pid}")]
        assert events == [f"GET /pid?a=1 {worker.pid}", f"HEAD /ping? {worker.pid}"]
    # Nobody had to ask first, and those who ask come after.
    server.answering_pids(10)
    workers[0].kill()
    server.expect_log("SIGKILL")
    new = next(worker for worker in server.wait_workers(2) if worker not in workers)
    events = [event for event in server.rendezvous.events() if event.endswith(f" {new.pid}")]
    assert events[:2] == [f"GET /pid?a=1 {new.pid}", f"HEAD /ping? {new.pid}"]


@pytest.mark.parametrize("preload", PRELOADS)
def test_warm_up_that_fails_is_a_failed_boot(tmp_path, preload):
    (tmp_path / "warmed.py").write_text(WARMED)
    environment = {"TEST_RENDEZVOUS": str(tmp_path)}
    options = ("--workers", "2", "--warmup", "/failing", "--bind", "127.0.0.1:0", *preload)
    ended = run_to_end(*options, "warmed", cwd=tmp_path, environment=environment)
    assert ended.returncode not in (0, -signal.SIGTERM), ended
    assert ended.stderr.count("/failing") == 1 and "500" in ended.stderr, ended.stderr


def test_hanging_warm_up_fails_boot_with_its_stack(tmp_path):
    (tmp_path / "warmed.py").write_text(WARMED)
    environment = {"TEST_RENDEZVOUS": str(tmp_path)}
    options = ("--warmup", "/hanging", "--boot-timeout", "1", "--bind", "127.0.0.1:0")
    ended = run_to_end(*options, "warmed", cwd=tmp_path, environment=environment, timeout=10)
    assert ended.returncode not in (0, -signal.SIGTERM), ended
    assert re.search(r'warmed\.py", line \d+,? in application', ended.stderr), ended.stderr


def test_import_beyond_boot_timeout_reports_its_stack(tmp_path):
    environment = {"TEST_RENDEZVOUS": str(tmp_path)}
    options = ("--boot-timeout", "1", "--bind", "127.0.0.1:0", "apps.held_import")
    ended = run_to_end(*options, cwd=TESTS, environment=environment, timeout=10)
    assert ended.returncode not in (0, -signal.SIGTERM), ended
    assert "not ready" in ended.stderr
    assert re.search(r'held_import\.py", line \d+', ended.stderr), ended.stderr


def test_early_clients_wait_for_the_first_worker(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve.start("apps.held_import", "--workers", "2", bind=f"unix:{path}")
    server.rendezvous.wait_for("holding import", 2)
    wait_until(path.exists, "the socket")
    with Client(str(path)) as client:
        client.send(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n")
        client.expect_silence(0.3)
        server.rendezvous.open("import")
        assert client.read_response().status == 200
    server.wait_ready().wait_workers(2)


@pytest.mark.parametrize("preload", PRELOADS)
def test_hanging_import_ends_first_boot_with_its_stack(serve, preload):
    server = serve.start("apps.stuck_import", "--boot-timeout", "2s", *preload)
    server.rendezvous.wait_for("holding import")
    told = run_to_end("stacks", str(server.pid), cwd=server.rendezvous.folder)
    assert "in wait_for_something" in told.stdout, told
    assert ("Template (pid" in told.stdout) == bool(preload)
    assert server.wait_exit(10) == 3
    (record,) = server.find_records("Stacks of")
    assert "in wait_for_something" in record
    server.expect_log("is not ready after 2 s")


@pytest.mark.parametrize("preload", PRELOADS)
def test_failed_first_boot_is_reported_on_the_terminal(tmp_path, preload):
    (tmp_path / "broken.py").write_text(BROKEN)
    options = ("--error-logfile", "error.log", "--workers", "2", "--bind", "127.0.0.1:0")
    ended = run_to_end(*options, *preload, "broken", cwd=tmp_path)
    assert ended.returncode == 3
    for told in (ended.stderr, (tmp_path / "error.log").read_text()):
        assert told.count("Traceback") == told.count("importing broken failed: ") == 1, told
    assert "INFO" not in ended.stderr


def test_later_boot_errors_go_to_the_file_alone(serve, tmp_path):
    server = serve("apps.processes:application", error_log=tmp_path / "error.log")
    (worker,) = server.wait_workers(1)
    worker.kill()
    server.expect_log("died after")
    server.wait_workers(1)
    assert server.stderr.lines == []


@pytest.mark.parametrize("preload", PRELOADS)
def test_import_that_hangs_ends_with_its_supervisor(serve, preload):
    server = serve.start("apps.stuck_import", "--workers", "2", *preload)
    server.rendezvous.wait_for("holding import", 1 if preload else 2)
    children = server.supervisor.children()
    server.process.kill()
    server.process.wait(10)
    wait_until(lambda: not any(child.alive for child in children), "the importing processes to end")
