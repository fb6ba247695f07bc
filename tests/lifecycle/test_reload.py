"""Reload: new code serves, broken code never does, and no client notices either."""

from __future__ import annotations

import signal
import time

import pytest

from harness.load import Load
from harness.rendezvous import wait_until
from harness.server import run_to_end

PRELOADS = [(), ("--preload",)]


HANGING = "from apps.meeting import rendezvous\nrendezvous.hold('import', 60)\n"


def versioned(folder, version: int | str) -> None:
    """Writes an application that answers with its version on every path, `/pid` and `/hold` aside."""
    lines = [
        "from apps.processes import application as inner",
        "from apps.routes import plain",
        f"VERSION = {version!r}",
        "def application(environ, start_response):",
        "    if environ['PATH_INFO'] in ('/pid', '/hold'):",
        "        return inner(environ, start_response)",
        "    return plain(start_response, str(VERSION))",
    ]
    write(folder, "\n".join(lines) + "\n")


def write(folder, text: str) -> None:
    """Replaces the application's file in one step, as a deployment should."""
    new = folder / "versioned.py.new"
    new.write_text(text)
    new.rename(folder / "versioned.py")


def reload(server, timeout: float = 20.0):
    """`portico reload`: waits until the reload has ended."""
    return run_to_end("reload", str(server.pid), cwd=server.rendezvous.folder, timeout=timeout)


@pytest.mark.parametrize("preload", PRELOADS)
def test_hup_brings_new_code_to_all_workers(serve, tmp_path, preload):
    versioned(tmp_path, 1)
    server = serve("versioned", "--workers", "2", *preload, cwd=tmp_path)
    old = server.wait_workers(2)
    templates = set(server.supervisor.children()) - set(old)
    assert server.request().body == b"1"
    versioned(tmp_path, 2)
    server.signal(signal.SIGHUP)
    new = server.wait_replaced(old)
    assert {server.request().body for _ in range(20)} == {b"2"}
    server.expect_log("Reloaded")
    wait_until(lambda: not any(template.alive for template in templates), "the old template to end")
    assert len(server.supervisor.children()) == len(new) + len(templates)


@pytest.mark.parametrize("preload", PRELOADS)
@pytest.mark.parametrize(
    "broken", ["raise RuntimeError('planted error')\n", "import os; os._exit(3)\n", "def\n"]
)
def test_broken_code_leaves_the_old_serving(serve, tmp_path, preload, broken):
    versioned(tmp_path, 1)
    server = serve("versioned", "--workers", "2", *preload, cwd=tmp_path)
    old = server.wait_workers(2)
    write(tmp_path, broken)
    ended = reload(server)
    assert ended.returncode == 1, ended
    assert "fail" in ended.stderr
    server.expect_log("reload failed; the old code keeps serving|reload failed, .*the old code keeps serving")
    server.expect_log("planted error|status:? 3|SyntaxError|died")
    assert server.wait_workers(2) == old
    assert {server.request().body for _ in range(10)} == {b"1"}
    versioned(tmp_path, 2)
    ended = reload(server)
    assert ended.returncode == 0, (ended, server.log_text)
    assert {server.request().body for _ in range(10)} == {b"2"}


def test_preload_replaces_dead_workers_despite_broken_code(serve, tmp_path):
    versioned(tmp_path, 1)
    server = serve("versioned", "--workers", "2", "--preload", cwd=tmp_path)
    dying, _ = server.wait_workers(2)
    write(tmp_path, "raise RuntimeError('planted error')\n")
    dying.kill()
    server.expect_log("SIGKILL")
    server.wait_workers(2)
    assert {server.request().body for _ in range(10)} == {b"1"}


def test_command_reload_of_what_is_no_portico(tmp_path):
    ended = run_to_end("reload", "1", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr


def test_many_hups_are_one_or_two_reloads(serve, tmp_path):
    versioned(tmp_path, 1)
    server = serve("versioned", "--workers", "2", cwd=tmp_path)
    old = server.wait_workers(2)
    versioned(tmp_path, 2)
    for number in range(20):
        server.signal(signal.SIGHUP)
        wait_until(lambda: not server.supervisor.has_pending(signal.SIGHUP), "the signal to be taken")
        if number == 10:
            wait_until(lambda: "starting" in server.states().values(), "the first reload to be under way")
    server.wait_replaced(old)
    server.expect_log("Reloaded")
    assert {server.request().body for _ in range(10)} == {b"2"}
    assert len(server.wait_workers(2)) == 2


@pytest.mark.parametrize("preload", PRELOADS)
def test_reload_skips_the_hanging_import_before_it(serve, tmp_path, preload):
    versioned(tmp_path, 1)
    server = serve("versioned", "--workers", "2", *preload, cwd=tmp_path)
    old = server.wait_workers(2)
    write(tmp_path, HANGING)
    server.signal(signal.SIGHUP)
    server.rendezvous.wait_for("holding import")
    versioned(tmp_path, 2)
    assert reload(server, timeout=10).returncode == 0
    server.wait_replaced(old)
    assert {server.request().body for _ in range(10)} == {b"2"}


def test_term_during_a_reload(serve, tmp_path):
    versioned(tmp_path, 1)
    server = serve("versioned", "--workers", "2", cwd=tmp_path)
    server.wait_workers(2)
    write(tmp_path, HANGING)
    server.signal(signal.SIGHUP)
    server.rendezvous.wait_for("holding import")
    server.signal(signal.SIGTERM)
    server.expect_log("reload abandoned")
    assert server.wait_exit() == 0, "nobody has opened the gate"


def reload_under_load(serve, tmp_path, seconds: float, options: tuple[str, ...], rate: float = 500) -> None:
    """Reloads in a loop under new and kept connections: nothing fails, and no kept one is closed."""
    versioned(tmp_path, 0)
    server = serve("versioned", "--workers", "2", *options, cwd=tmp_path)
    old = server.wait_workers(2)
    reloads, least_ready = 0, 2
    end = time.monotonic() + seconds

    def is_replaced(old: list) -> bool:
        nonlocal least_ready
        least_ready = min(least_ready, server.scoreboard().ready())
        return not any(process.alive for process in old)

    with Load(server.address, rate, kept=24) as load:
        while time.monotonic() < end:
            reloads += 1
            versioned(tmp_path, reloads)
            server.signal(signal.SIGHUP)
            wait_until(lambda old=old: is_replaced(old), "the old workers to end", seconds + 20)
            old = server.wait_workers(2)
    load.assert_lossless()
    assert reloads >= 2
    assert least_ready == 2
    assert len({outcome.body for outcome in load.outcomes}) == reloads + 1
    assert set(server.supervisor.children()) >= set(server.wait_workers(2))


@pytest.mark.parametrize("preload", PRELOADS)
def test_reload_in_a_loop_under_load_loses_nothing(serve, tmp_path, preload):
    reload_under_load(serve, tmp_path, 5, preload)


def test_reload_of_single_threads_under_load_loses_nothing(serve, tmp_path):
    reload_under_load(serve, tmp_path, 3, ("--threads", "1"))


@pytest.mark.chaos
@pytest.mark.timeout(0)
@pytest.mark.parametrize("preload", PRELOADS)
def test_reload_in_a_loop_for_long(serve, tmp_path, preload, chaos_seconds):
    reload_under_load(serve, tmp_path, chaos_seconds, preload)
