"""gunicorn itself beside Portico, same configuration and requests: hooks, environ, logs, exit statuses.

Where the two differ on purpose is written here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.http_client import Client
from harness.ports import HOST, free_port
from harness.rendezvous import VARIABLE, Rendezvous, wait_until
from harness.server import server_environment
from harness.sources import source

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed"
)

PROGRAMS = {"gunicorn": [sys.executable, "-m", "gunicorn"], "portico": [sys.executable, "-m", "portico"]}

HOOKS = source("hooks_both_have")

SMALL = source("small")

# Keys whose values have to differ, or of which one server has more.
OWN_KEYS = re.compile(
    r"^(portico\.|gunicorn\.|REMOTE_PORT$|SERVER_SOFTWARE$|REQUEST_URI$|SERVER_ADDR$|wsgi\.errors$)"
)
OWN_VALUES = ("wsgi.input", "wsgi.file_wrapper", "wsgi.early_hints")


class Beside:
    """One of the two servers, on a port that the test has chosen."""

    def __init__(
        self, name: str, folder: Path, conf: str, *options: str, application: str = "apps.echo"
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "gunicorn.conf.py").write_text(conf)
        (self.folder / "small.py").write_text(SMALL)
        self.port = free_port()
        self.rendezvous = Rendezvous(self.folder)
        self.process = subprocess.Popen(
            [*PROGRAMS[name], "-b", f"{HOST}:{self.port}", *options, f"{application}:application"],
            cwd=self.folder,
            env=server_environment({VARIABLE: str(self.folder), "PORTICO_WORKERS": None}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> Beside:
        """Until it answers."""

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port)) == 0

        wait_until(answers, "the server to listen")
        return self

    def wait_event(self, event: str) -> None:
        """Until a hook has told this."""
        wait_until(lambda: self.rendezvous.count(event) >= 1, event)

    def get(self, target: str, fields: list[tuple[str, str]]):
        """One request."""
        with Client((HOST, self.port)) as client:
            return client.request("GET", target, fields)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Ends it: status, standard output and standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def both(folder: Path, conf: str, *options: str, **more: str) -> dict[str, Beside]:
    """Both servers with this configuration."""
    return {name: Beside(name, folder, conf, *options, **more) for name in PROGRAMS}


def test_hooks_run_in_gunicorns_processes_and_order(tmp_path):
    events = {}
    for name, server in both(tmp_path, "workers = 1\nthreads = 2\n" + HOOKS, application="small").items():
        server.wait()
        for target in ("/a%20b?c=d", "/x"):
            server.get(target, [("X-A", "1"), ("X-a", "2")])
            # The client has its answer before the hook is called.
            path = target.partition("?")[0]
            wait_until(
                lambda path=path, server=server: any(
                    event.startswith(f"worker post_request {path} ") for event in server.rendezvous.events()
                ),
                "post_request",
            )
        server.process.send_signal(signal.SIGHUP)
        server.wait_event("worker worker_exit True")
        server.wait_event("master child_exit False")
        status, _, errors = server.stop()
        assert status == 0, errors
        events[name] = server.rendezvous.events()
    ours, theirs = events["portico"], events["gunicorn"]
    # Both old and new worker live for a moment; which of them is told of first is a matter of the clock.
    for process in ("master", "worker"):
        assert sorted(line for line in ours if line.startswith(process)) == sorted(
            line for line in theirs if line.startswith(process)
        )
    first = theirs.index("master on_reload") - 1
    assert ours[:first] == theirs[:first]
    assert ours[-1] == theirs[-1] == "master on_exit"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_worker_int_is_called_at_the_same_signals(tmp_path, number):
    for name, server in both(tmp_path, "workers = 1\n" + HOOKS).items():
        server.wait()
        assert server.get("/", []).status == 200
        status, _, errors = server.stop(number)
        assert status == 0, errors
        assert server.rendezvous.count("worker worker_int True") == 1, name


def test_environ_has_the_same_keys_and_values(tmp_path):
    environs = {}
    for name, server in both(tmp_path, "workers = 1\nthreads = 2\nraw_env = ['A=b']\n").items():
        server.wait()
        fields = [("User-Agent", "x"), ("X-A", "1"), ("X-A", "2"), ("Cookie", "a=b")]
        environs[name] = json.loads(server.get("/a%20b;c?d=%20e", fields).body)["environ"]
        server.stop()
    common = {
        name: {key: value for key, value in environ.items() if not OWN_KEYS.match(key)}
        for name, environ in environs.items()
    }
    ours, theirs = common["portico"], common["gunicorn"]
    for environ in (ours, theirs):
        environ.update(SERVER_PORT="", **dict.fromkeys(OWN_VALUES, ""))
    assert {k: v for k, v in ours.items() if k in theirs} == theirs


TEXTS = [
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] Starting \w+ \d",
    r"\[INFO\] Listening at: http://127[.\d]+:\d+ \(\d+\)",
    r"\[INFO\] Using worker: gthread",
    r"\[INFO\] Booting worker with pid: \d+",
    r"\[INFO\] Handling signal: hup",
    r"\[INFO\] Worker exiting \(pid: \d+\)",
    r"\[INFO\] Handling signal: term",
    r"\[INFO\] Shutting down: Master",
]


def test_log_lines_have_the_same_texts(tmp_path):
    for name, server in both(tmp_path, "workers = 1\nthreads = 2\naccesslog = '-'\n" + HOOKS).items():
        server.wait()
        server.get("/a?b", [("User-Agent", "probe"), ("Referer", "http://x/")])
        server.process.send_signal(signal.SIGHUP)
        server.wait_event("master child_exit False")
        _, out, errors = server.stop()
        for text in TEXTS:
            assert re.search(text, errors), f"{name} has no {text}:\n{errors}"
        line = r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "GET /a\?b HTTP/1\.1" 200 \d+ '
        line += '"http://x/" "probe"'
        assert re.search(f"^{line}$", out, re.MULTILINE), f"{name}: {out}"


@pytest.mark.parametrize(
    ("conf", "application"),
    [
        ("1 / 0\n", "apps.echo"),
        ("threads = 'x'\n", "apps.echo"),
        ("def post_fork(server):\n    pass\n", "apps.echo"),
        ("def post_fork(server, worker):\n    1 / 0\n", "apps.echo"),
        ("def post_worker_init(worker):\n    1 / 0\n", "apps.echo"),
        ("def on_starting(server):\n    1 / 0\n", "apps.echo"),
        ("def when_ready(server):\n    1 / 0\n", "apps.echo"),
        ("logconfig_dict = {'handlers': {'x': {'class': 'no.Such'}}}\n", "apps.echo"),
    ],
)
def test_exit_statuses_are_the_same(tmp_path, conf, application):
    statuses = {}
    for name, server in both(tmp_path, "workers = 1\n" + conf, application=application).items():
        try:
            _, errors = server.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.kill(server.process.pid, signal.SIGKILL)
            raise
        statuses[name] = server.process.returncode
        assert errors
    assert statuses["portico"] == statuses["gunicorn"]
