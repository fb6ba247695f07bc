"""The frameworks' own commands with Portico: `manage.py runserver` and `flask portico`; and a debugger."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from harness.http_client import Client
from harness.packages import skip_without
from harness.rendezvous import wait_until
from harness.server import LineCollector, server_environment
from harness.sources import source

LISTENING = re.compile(r"Listening at: http://([0-9.]+|\[::1\]):(\d+)")
RELOAD_SECONDS = 0.5  # In which a change would have been seen.
BEYOND_TIMEOUTS = 1.5  # Seconds at the debugger: whoever counts them takes the process for stuck.
MANAGE = source("django_manage")
SETTINGS = source("django_settings")
URLS = source("django_urls")
VIEWS = """\
from django.http import HttpResponse
def index(request):
    return HttpResponse("version {}")
"""
FLASK = """\
import flask
app = flask.Flask(__name__)

@app.get("/")
def index():
    return f"version {} debug {{app.debug}}"

@app.get("/error")
def error():
    return str(1 / 0)
"""


class Running:
    """A command that ends up as a server, and what it prints."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        extra = {"PYTHONDONTWRITEBYTECODE": None, "PORTICO_WORKERS": None, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            arguments,
            cwd=cwd,
            env=server_environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = LineCollector(self.process.stdout)

    @property
    def text(self) -> str:
        return "\n".join(self.output.lines)

    def expect(self, text: str) -> None:
        wait_until(lambda: text in self.text or self.process.poll() is not None, text, 20)
        assert text in self.text, self.text

    def get(self, target: str = "/", fields=()):
        wait_until(lambda: LISTENING.search(self.text) or self.process.poll() is not None, "the start", 20)
        found = LISTENING.search(self.text)
        assert found, self.text
        with Client((found[1].strip("[]"), int(found[2]))) as client:
            return client.request("GET", target, fields)

    def expect_body(self, expected: bytes, target: str = "/") -> None:
        wait_until(lambda: self.get(target).body == expected, f"{expected!r}", 10)

    def interrupt(self) -> None:
        """Ctrl-C: it ends at once and well."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(10) == 0, self.text
        assert time.monotonic() - started < 2

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def command(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, cwd: Path = tmp_path) -> Running:
            running = Running(*arguments, cwd=cwd)
            stack.callback(running.kill)
            return running

        yield start


@pytest.fixture
def django_project(tmp_path) -> Path:
    skip_without("django")
    for name, text in {
        "manage.py": MANAGE,
        "mysite/__init__.py": "",
        "mysite/settings.py": SETTINGS,
        "mysite/urls.py": URLS,
        "blog/__init__.py": "",
        "blog/views.py": VIEWS.format(1),
        "blog/static/blog/site.css": "body {}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_runserver(command, django_project):
    running = command(sys.executable, "manage.py", "runserver", "127.0.0.1:0")
    assert running.get().body == b"version 1"
    assert running.get().get("Server") == "portico"
    assert running.get("/static/blog/site.css").body == b"body {}"
    assert running.get("/main").body == b"true", "as under Django's own autoreload"
    for line in [
        "Performing system checks...",
        "System check identified no issues (0 silenced).",
        "unapplied migration(s)",
        "using settings 'mysite.settings'",
        "Starting Portico",
        '"GET /static/blog/site.css HTTP/1.1" 200',
    ]:
        running.expect(line)
    (django_project / "blog/views.py").write_text(VIEWS.format(2))
    running.expect_body(b"version 2")
    running.expect("Reloading: blog/views.py changed")
    assert running.text.count("Performing system checks") == 1
    running.interrupt()


def test_runserver_shows_errors_until_they_are_mended(command, django_project):
    running = command(sys.executable, "manage.py", "runserver", "0")
    assert running.get().body == b"version 1"
    urls = (django_project / "mysite/urls.py").read_text()
    (django_project / "mysite/urls.py").write_text(urls + "nonsense(\n")
    wait_until(lambda: running.get().status == 500, "the page", 10)
    page = running.get("/", [("Accept", "text/html")]).body.decode()
    assert "nonsense(" in page
    assert "mysite/urls.py, line" in page
    (django_project / "mysite/urls.py").write_text(urls)
    running.expect_body(b"version 1")
    running.interrupt()


def test_runserver_options(command, django_project):
    running = command(
        sys.executable, "manage.py", "runserver", "--noreload", "--nostatic", "--nothreading", "0"
    )
    assert running.get().body == b"version 1"
    assert running.get("/static/blog/site.css").status == 404, running.text
    (django_project / "blog/views.py").write_text(VIEWS.format(2))
    time.sleep(RELOAD_SECONDS)
    assert running.get().body == b"version 1"
    assert "1 thread" in running.text
    running.interrupt()


def test_runserver_from_another_folder(command, django_project):
    (django_project / "elsewhere").mkdir()
    running = command(sys.executable, "../manage.py", "runserver", "0", cwd=django_project / "elsewhere")
    assert running.get().body == b"version 1"
    (django_project / "blog/views.py").write_text(VIEWS.format(2))
    running.expect_body(b"version 2")


def test_insecure_and_an_application_that_stands_before(command, django_project):
    settings = django_project / "mysite/settings.py"
    text = SETTINGS.replace("DEBUG = True", "DEBUG = False")
    settings.write_text(text)
    running = command(sys.executable, "manage.py", "runserver", "--insecure", "0")
    assert running.get("/static/blog/site.css").status == 200
    running.interrupt()
    settings.write_text(SETTINGS + "INSTALLED_APPS.append(INSTALLED_APPS.pop(0))\n")
    checked = command(sys.executable, "manage.py", "check")
    assert checked.process.wait(20) == 0
    assert "portico.W001" in checked.text


def test_flask(command, tmp_path):
    skip_without("flask")
    (tmp_path / "hello.py").write_text(FLASK.format(1))
    flask = [sys.executable, "-m", "flask", "--app", "hello"]
    running = command(*flask, "--debug", "portico", "--port", "0")
    assert running.get().body == b"version 1 debug True"
    assert b"Werkzeug" in running.get("/error").body
    (tmp_path / "hello.py").write_text(FLASK.format(2))
    running.expect_body(b"version 2 debug True")
    running.expect("Reloading: hello.py changed")
    running.interrupt()
    running = command(*flask, "portico", "-p", "0", "-h", "127.0.0.1")
    assert running.get().body == b"version 2 debug False"
    assert b"Werkzeug" not in running.get("/error").body
    running.interrupt()


DEBUGGED = source("debugged")


class Terminal:
    """A terminal with a server in it."""

    def __init__(self, cwd: Path, *options: str) -> None:
        program = [
            sys.executable,
            "-m",
            "portico",
            "-b",
            "127.0.0.1:0",
            "--threads",
            "1",
            *options,
            "debugged",
        ]
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.execve(program[0], program, server_environment())
        self.pid, self.text = pid, ""

    def expect(self, pattern: str, patience: float = 15.0) -> re.Match[str]:
        deadline = time.monotonic() + patience
        while not (found := re.search(pattern, self.text)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.text}"
            if select.select([self.terminal], [], [], left)[0]:
                self.text += os.read(self.terminal, 4096).decode()
        self.text = self.text[found.end() :]
        return found

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait(self) -> int:
        """Until it has ended; its exit status."""
        deadline = time.monotonic() + 10
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline, self.text
            if select.select([self.terminal], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.text += os.read(self.terminal, 4096).decode()
        return os.waitstatus_to_exitcode(ended[1])


@pytest.fixture
def terminal(tmp_path):
    (tmp_path / "debugged.py").write_text(DEBUGGED)
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Terminal:
            terminal = Terminal(tmp_path, *options)
            stack.callback(os.close, terminal.terminal)
            return terminal

        yield start


@pytest.mark.parametrize("options", [("--reload",), ("--timeout", "0")])
def test_a_debugger_waits_at_the_terminal(terminal, options):
    server = terminal(*options)
    port = int(server.expect(r"Listening at: http://127.0.0.1:(\d+)")[1])
    with Client(("127.0.0.1", port), 30) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect(r"\(Pdb\) ")
        server.type("p secret\r")
        server.expect(r"42\s")
        time.sleep(BEYOND_TIMEOUTS)
        server.type("secret = 43\rc\r")
        assert client.read_response().body == b"43"
    server.type("\x03")
    assert server.wait() == 0


def test_save_ends_the_debugger_and_restores_the_terminal(terminal, tmp_path):
    server = terminal("--reload")
    port = int(server.expect(r"Listening at: http://127.0.0.1:(\d+)")[1])
    before = termios.tcgetattr(server.terminal)[3]
    with Client(("127.0.0.1", port), 30) as client, Client(("127.0.0.1", port), 30) as other:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.expect(r"\(Pdb\) ")
        (tmp_path / "debugged.py").write_text(DEBUGGED.replace("    breakpoint()\n", ""))
        server.expect("Reloading: debugged.py changed")
        assert other.request("GET", "/").body == b"42"
        server.expect("cut GET /")
        wait_until(lambda: termios.tcgetattr(server.terminal)[3] == before, "the terminal as it was")
    server.type("\x03")
    assert server.wait() == 0
