"""What may be wrong at the start: an address is busy, signals are blocked, code fails."""

from __future__ import annotations

import os
import re
import signal
import socket
import textwrap
import threading
from pathlib import Path

import pytest

from harness.process import read_or_empty
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.echo"


def busy_address() -> tuple[socket.socket, str]:
    """An address on which somebody listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"127.0.0.1:{listener.getsockname()[1]}"


def test_busy_address_is_taken_once_free(serve):
    listener, address = busy_address()
    server = serve.start(APP, bind=address)
    server.expect_log(rf"Connection in use: {re.escape(address)}; tried again after 1 second \(1 of 5\)")
    listener.close()
    server.wait_ready()
    assert server.request("GET", "/").status == 200


def test_one_that_stays_busy_is_tried_five_times(tmp_path):
    listener, address = busy_address()
    with listener:
        ended = run_to_end(APP, "--bind", address, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("Connection in use: ") == 4
    assert f"cannot listen on {address}: another process is listening there" in ended.stderr


def test_a_signal_ends_the_wait_for_an_address(serve):
    listener, address = busy_address()
    with listener:
        server = serve.start(APP, bind=address)
        server.expect_log("Connection in use")
        server.signal(signal.SIGTERM)
        server.process.wait(1.5)


def block_all() -> None:
    """As a parent does that blocks signals and forgets them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_signals_that_were_blocked_are_not(serve, preload):
    server = serve(APP, *preload, preexec_fn=block_all)
    before = server.wait_workers(1)
    for process in [server.supervisor, *before]:
        blocked = re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
        assert int(blocked[1], 16) == 0, process
    server.signal(signal.SIGHUP)
    server.wait_replaced(before)
    server.stop()


def write(folder, text: str, name: str = "gunicorn.conf.py") -> None:
    """Writes a file."""
    (folder / name).write_text(textwrap.dedent(text))


BROKEN = "import os\n\ndef f():\n    return {}['planted']\n\nf()\n"


@pytest.mark.parametrize(
    ("conf", "options", "said"),
    [
        ("# \nlogger_class = 'broken.Logger'\n", [], "gunicorn.conf.py:2: logger_class: "),
        ("", ["--logger-class", "broken.Logger"], "--logger-class: "),
        (
            "post_fork = 'broken.hook'\n",
            [],
            "gunicorn.conf.py:1: post_fork: 'broken.hook' cannot be imported",
        ),
        ("", ["-c", "python:broken"], "Failed to read config file: broken (--config)"),
        ("import broken\n", [], "Failed to read config file: gunicorn.conf.py"),
        (
            "\nlogconfig_dict = {'version': 1, 'handlers': {'x': {'()': 'broken.Handler'}}}\n",
            [],
            "gunicorn.conf.py:2: logconfig_dict: ",
        ),
    ],
)
def test_failure_is_reported_with_setting_place_and_traceback(tmp_path, conf, options, said):
    write(tmp_path, BROKEN, "broken.py")
    write(tmp_path, conf)
    ended = run_to_end(*options, APP, cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert said in ended.stderr, ended.stderr
    assert 'broken.py", line 4, in f' in ended.stderr
    assert "KeyError: 'planted'" in ended.stderr


def test_logger_that_cannot_be_made_is_reported(tmp_path):
    write(
        tmp_path,
        "class Logger:\n    def __init__(self, cfg):\n        raise OSError('planted')\n",
        "shoplogs.py",
    )
    write(tmp_path, "logger_class = 'shoplogs.Logger'\n")
    ended = run_to_end(APP, cwd=tmp_path)
    assert ended.returncode == 1
    assert "gunicorn.conf.py:1: logger_class: " in ended.stderr
    assert 'shoplogs.py", line 3' in ended.stderr and "OSError: planted" in ended.stderr


def test_wrong_logging_file_is_reported(tmp_path):
    write(tmp_path, "[loggers]\nkeys = root\n", "logging.ini")
    ended = run_to_end("--log-config", "logging.ini", APP, cwd=tmp_path)
    assert ended.returncode == 1
    assert "--log-config: " in ended.stderr


def test_python_ssl_context_is_refused_or_warned_of(serve, tmp_path):
    write(tmp_path, "def ssl_context(config, factory):\n    return factory()\n")
    server = serve(APP, cwd=tmp_path)
    assert server.find_records("ssl_context does nothing, since nothing speaks TLS")
    ended = run_to_end("--certfile", "a.pem", "--keyfile", "a.key", APP, cwd=tmp_path)
    assert (
        ended.returncode == 1
        and "ssl_context: Portico speaks TLS without Python's ssl module" in ended.stderr
    )


def test_busy_address_does_not_delay_other_processes(serve, tmp_path):
    """--daemon waits with it, and tells how it ends."""
    listener, address = busy_address()
    threading.Timer(1.5, listener.close).start()
    pidfile, log = tmp_path / "pid", tmp_path / "log"
    options = ["--daemon", "--pid", str(pidfile), "--error-logfile", str(log), "--bind", address]
    ended = run_to_end(*options, APP, cwd=tmp_path)
    assert ended.returncode == 0, (ended.stderr, read_or_empty(log))
    pid = int(pidfile.read_text())

    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists(), "the end", 10)
