"""gunicorn.conf.py: found, executed and read as gunicorn does it, with errors that name the line."""

from __future__ import annotations

import signal
import sys
import textwrap

import pytest

from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.control"
FREE = {"PORTICO_WORKERS": None}


def write(folder, text: str, name: str = "gunicorn.conf.py"):
    """Writes a configuration file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def refusal(folder, *options: str, status: int = 1) -> str:
    """What a server that does not start says of its configuration."""
    ended = run_to_end(*options, APP, cwd=folder)
    assert ended.returncode == status, ended.stderr
    return ended.stderr


def test_the_file_of_the_folder_counts_by_itself(serve, tmp_path):
    write(
        tmp_path,
        """
        import os, sys

        assert sys.modules["__config__"].bind
        here = os.path.basename(__file__)
        workers = 2
        threads = 3
        bind = ["127.0.0.1:0"]
        wsgi_app = "apps.control"
        raw = {"a": 1}
        """.replace("assert", "bind = '127.0.0.1:0'\n        assert", 1),
    )
    server = serve(None, bind=None, cwd=tmp_path, environment=FREE)
    server.wait_workers(2)
    server.expect_log(r"serves apps\.control.* with 3 threads")
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("deploy/settings.py", "deploy/settings.py"),
        ("deploy/settings.py", "file:deploy/settings.py"),
        ("deploy/settings.py", "python:deploy.settings"),
        ("deploy/settings.cfg", "deploy/settings.cfg"),
    ],
)
def test_the_ways_to_name_it(serve, tmp_path, name, option):
    write(tmp_path, "threads = 5\nimport os; folder = os.getcwd()", name)
    server = serve(APP, "-c", option, cwd=tmp_path)
    server.expect_log("with 5 threads")


def test_command_line_and_gunicorns_variable_take_precedence(serve, tmp_path):
    write(tmp_path, "threads = 5\ngraceful_timeout = 7\n")
    server = serve(APP, "--threads", "2", cwd=tmp_path, environment={"GUNICORN_CMD_ARGS": "--backlog 9"})
    server.expect_log("with 2 threads")


def test_modules_of_the_folder_can_be_imported(serve, tmp_path):
    write(tmp_path, "THREADS = 6\n", "sizes.py")
    write(tmp_path, "from sizes import THREADS\nthreads = THREADS\n")
    server = serve(APP, cwd=tmp_path)
    server.expect_log("with 6 threads")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nthreads = 'many'\n", "gunicorn.conf.py:2: threads: "),
        ("if True:\n    threads = [1, [2]]\n", "gunicorn.conf.py:2: threads: "),
        ("\n\nthreads = 2.5\n", "gunicorn.conf.py:3: threads: "),
        ("def f(): pass\nthreads = f\n", "gunicorn.conf.py:2: threads: "),
        ("import os\npost_fork = 3\n", "gunicorn.conf.py:2: post_fork: 3 is of type int; write a function"),
        ("def post_fork(server):\n    pass\n", "gunicorn.conf.py:1: post_fork: it must take 2 arguments"),
        ("post_fork = 'nowhere'\n", "gunicorn.conf.py:1: post_fork: 'nowhere' is no import string"),
        ("post_fork = 'no.such.hook'\n", "gunicorn.conf.py:1: post_fork: 'no.such.hook' cannot be imported"),
        ("keyfile = certfile = 'a.pem'\ndef ssl_context(conf, factory):\n    pass\n", "ssl_context"),
        ("def dirty_post_fork(arbiter, worker):\n    pass\n", "dirty_post_fork"),
        (
            "logconfig_dict = []\n",
            "gunicorn.conf.py:1: logconfig_dict: [] is of type list; write a dictionary",
        ),
        ("logger_class = 3\n", "logger_class: 3 is of type int"),
    ],
)
def test_unusable_settings_are_errors_with_their_place(tmp_path, text, said):
    write(tmp_path, text)
    error = refusal(tmp_path)
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("text", ["1 / 0\n", "def f(:\n", "import no_such_module\n"])
def test_a_file_that_raises_ends_the_start(tmp_path, text):
    write(tmp_path, text)
    error = refusal(tmp_path)
    assert "Failed to read config file: gunicorn.conf.py" in error
    assert 'File "gunicorn.conf.py", line 1' in error
    if sys.version_info >= (3, 11):  # CPython 3.10 also shows who has raised it again.
        assert "/portico/" not in error, "what is shown is the file's own"
    assert 'gunicorn.conf.py", line 1' in error


def test_a_file_that_is_not_there(tmp_path):
    assert "nowhere.py: there is no such file" in refusal(tmp_path, "-c", "nowhere.py")


def test_none_and_helpers_are_ignored_near_misses_reported(serve, tmp_path):
    write(
        tmp_path,
        """
        import os
        bind = None
        app = "not a setting"
        port = 17
        log_level = "debug"
        loglevel = log_level
        max_request = 100
        def max_reques(): pass
        _workers = 4
        """,
    )
    server = serve(APP, cwd=tmp_path)
    warning = server.expect_log("is not a setting")
    assert "gunicorn.conf.py:8: max_request is not a setting" in warning
    assert "did you mean max_requests?" in warning
    assert len(server.find_records("is not a setting")) == 1


def test_hup_executes_it_anew(serve, tmp_path):
    write(tmp_path, "threads = 4\nworkers = 1\nraw = 1\n")
    server = serve(APP, cwd=tmp_path, environment=FREE)
    old = server.wait_workers(1)
    write(tmp_path, "threads = 2\nworkers = 2\nbind = '127.0.0.1:1'\n")
    server.signal(signal.SIGHUP)
    wait_until(lambda: not old[0].alive, "the old worker to end")
    server.wait_workers(2)
    server.expect_log("with 2 threads", 2)
    assert server.request("GET", "/ping").status == 200


def test_hup_says_what_it_cannot_change(serve, tmp_path):
    write(tmp_path, "bind = '127.0.0.1:0'\nthreads = 1\n")
    server = serve(APP, bind=None, cwd=tmp_path)
    server.wait_workers(1)
    write(tmp_path, "bind = '127.0.0.1:1'\nthreads = 8\npreload_app = True\n")
    server.signal(signal.SIGHUP)
    server.expect_log("Reloaded")
    warning = server.expect_log("a reload cannot change")
    assert "cannot change bind, preload, threads (more of them): the former value stays" in warning
    assert "upgrade it (SIGUSR2)" in warning
    assert server.request("GET", "/ping").status == 200


def test_hup_keeps_what_applies_at_the_start(serve, tmp_path):
    write(tmp_path, "server_header = 'first'\n")
    server = serve(APP, cwd=tmp_path)
    old = server.wait_workers(1)
    assert server.request("GET", "/ping").get("server") == "first"
    write(tmp_path, "server_header = 'second'\nreuse_port = True\nenable_stdio_inheritance = True\n")
    server.signal(signal.SIGHUP)
    server.wait_replaced(old)
    warning = server.expect_log("neither a reload nor an upgrade can change")
    assert "change reuse_port, enable_stdio_inheritance: the former value stays" in warning
    assert "stop the server and start it anew" in warning
    assert len(server.find_records("can change")) == 1
    assert server.request("GET", "/ping").get("server") == "second"


@pytest.mark.parametrize("text", ["threads = 'x'\n", "1 / 0\n", "def f(:\n"])
def test_hup_with_a_broken_file_keeps_the_configuration(serve, tmp_path, text):
    path = write(tmp_path, "threads = 3\n")
    server = serve(APP, cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    write(tmp_path, text)
    ended = run_to_end("reload", str(server.pid), cwd=tmp_path)
    assert ended.returncode == 1
    server.expect_log("reload failed; the old configuration and code keep serving")
    assert worker.alive
    assert server.request("GET", "/ping").status == 200
    path.write_text("threads = 2\n")
    assert run_to_end("reload", str(server.pid), cwd=tmp_path).returncode == 0
    server.expect_log("with 2 threads")


def test_a_file_that_comes_later_counts_at_hup(serve, tmp_path):
    server = serve(APP, cwd=tmp_path)
    server.wait_workers(1)
    write(tmp_path, "threads = 1\ndef on_reload(server):\n    server.log.info('never')\n")
    assert run_to_end("reload", str(server.pid), cwd=tmp_path).returncode == 0
    server.expect_log("with 1 thread ")


def test_check_config_reads_it(tmp_path):
    write(tmp_path, "threads = 3\n")
    assert run_to_end("--check-config", "apps.echo", cwd=tmp_path).returncode == 0
    write(tmp_path, "threads = -1\n")
    assert "gunicorn.conf.py:1: threads" in refusal(tmp_path, "--check-config")
