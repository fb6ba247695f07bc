"""--reload: one save is one restart, old code answers nothing, and errors show until they are mended."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.load import Load
from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sockets import listens
from harness.sources import program, source

HTML = [("Accept", "text/html,application/xhtml+xml")]
ENGINES = ["inotify", "poll"]


class Project:
    """An application of several files that answers with the versions of what it has read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("site_app.py", APPLICATION)
        self.write("blog/__init__.py", "")
        self.write("blog/views.py", "VERSION = 1\n")
        self.write("blog/unused.py", "VERSION = 1\n")
        self.write("blog/templates/page.html", "1")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def save(self, version: object) -> None:
        """Writes views.py as editors do."""
        self.write("blog/views.py", f"VERSION = {version!r}\n")

    def save_at_once(self, version: object) -> None:
        """Puts a new views.py in place of the old one, which is one change and not two."""
        self.write("blog/views.new", f"VERSION = {version!r}\n")
        (self.folder / "blog/views.new").rename(self.folder / "blog/views.py")


APPLICATION = source("site_app")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def developing(serve, project):
    """Starts the project under --reload; bytecode is written as it is for developers."""

    def start(*options: str, **settings):
        environment = {"PYTHONDONTWRITEBYTECODE": None, "PORTICO_WORKERS": None} | settings.pop(
            "environment", {}
        )
        return serve(
            "site_app", "--reload", *options, cwd=project.folder, environment=environment, **settings
        )

    return start


def answer(server, target: str = "/") -> bytes:
    return server.request("GET", target).body


def expect_answer(server, expected: bytes, target: str = "/", patience: float = 5.0) -> None:
    wait_until(lambda: answer(server, target) == expected, f"the answer {expected!r}", patience)


def restarts(server) -> list[str]:
    return server.find_records("Reloading")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_save_is_one_restart(developing, project, engine):
    server = developing("--reload-engine", engine)
    assert answer(server) == b"1"
    for version in range(2, 6):
        project.save(version)
        expect_answer(server, str(version).encode())
        server.expect_log("Reloading", count=version - 1)
        assert len(restarts(server)) == version - 1, server.log_text
    assert len(server.wait_workers(1)) == 1
    assert all(line.endswith("Reloading: blog/views.py changed") for line in restarts(server))
    # Nothing but that line tells of a restart.
    after = server.log_text.split("Reloading", 1)[1].splitlines()[1:]
    assert all("Reloading" in line for line in after), after


@pytest.mark.serial
def test_no_response_is_lost_or_from_old_code(developing, project):
    """A moment after the save, for the kernel to tell of it, whatever is asked waits for the new code."""
    server = developing()
    with Load(server.address, 100, target=lambda number: "/") as load:
        for version in range(2, 8):
            (old,) = server.wait_workers(1)
            project.save_at_once(version)
            # The log tells of it a moment earlier than the worker hears of it.
            wait_until(lambda old=old: not listens(old), "the old worker to listen no more")
            assert answer(server) == str(version).encode(), restarts(server)
    load.assert_lossless()


def test_kept_connections_go_over_to_the_new_code(developing, project):
    server = developing()
    with server.connect() as client:
        assert client.request().body == b"1"
        project.save(2)
        server.expect_log("Reloading")
        assert client.request().body == b"2"


def test_versions_of_one_size_within_one_second(developing, project):
    """Python takes bytecode for fresh if size and whole second of the source are the same."""
    server = developing()
    for version in "abcdef":
        project.save(version)
        expect_answer(server, version.encode())


def test_many_files_are_one_restart(developing, project):
    server = developing()
    for number in range(50):
        project.write(f"blog/part{number}.py", "")
        project.write("blog/views.py", f"VERSION = 'many{number}'\n")
    expect_answer(server, b"many49")
    assert len(restarts(server)) <= 2, server.log_text


def test_only_what_is_the_applications_restarts(developing, project):
    server = developing()
    pid = answer(server, "/pid")
    for name in [
        "blog/unused.py",
        "blog/.views.py.swp",
        "blog/views.py~",
        "notes.txt",
        ".git/HEAD.py",
        "x/venv.py",
    ]:
        project.write(name, "x = 1\n")
    project.write("node_modules/a/templates/b.html", "x")
    project.write("env/pyvenv.cfg", "")
    # Events come in the order of the changes: what is told after this one is all that is told.
    project.save(2)
    expect_answer(server, b"2")
    assert answer(server, "/pid") != pid
    assert [line.rpartition("Reloading: ")[2] for line in restarts(server)] == ["blog/views.py changed"]


def test_templates_and_extra_files_restart(developing, project):
    project.write("conf/a.yaml", "1")
    server = developing("--reload-extra-file", "conf/*.yaml")
    assert answer(server, "/template") == b"1"
    project.write("blog/templates/page.html", "2")
    expect_answer(server, b"2", "/template")
    pid = answer(server, "/pid")
    project.write("conf/a.json", "2")
    project.write("conf/a.yaml", "2")
    wait_until(lambda: answer(server, "/pid") != pid, "the restart")
    assert [line.rpartition("Reloading: ")[2] for line in restarts(server)] == [
        "blog/templates/page.html changed",
        "conf/a.yaml changed",
    ]


def test_what_is_imported_later_counts_from_then_on(developing, project):
    server = developing()
    project.write("blog/lazy.py", "VERSION = 1\n")
    assert answer(server, "/lazy") == b"1"
    project.write("blog/lazy.py", "VERSION = 22\n")
    expect_answer(server, b"22", "/lazy")


def test_modules_from_elsewhere_count(developing, project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "shared_code.py").write_text("VERSION = 1\n")
    project.write("blog/views.py", "from shared_code import VERSION\n")
    server = developing("--pythonpath", str(elsewhere))
    assert answer(server) == b"1"
    (elsewhere / "shared_code.py").write_text("VERSION = 22\n")
    expect_answer(server, b"22")


@pytest.mark.parametrize(
    ("broken", "told", "line"),
    [
        ("VERSION = 1 +\n", "SyntaxError: invalid syntax", "VERSION = 1 +"),
        ("import nowhere_to_be_found\n", "ModuleNotFoundError", "import nowhere_to_be_found"),
        ("x = 1\ny = x / 0  # <here>\n", "ZeroDivisionError", "y = x / 0  # &lt;here&gt;"),
        ("raise SystemExit('planted')\n", "planted", "raise SystemExit"),
    ],
)
def test_import_error_shows_until_it_is_fixed(developing, project, broken, told, line):
    server = developing()
    project.write("blog/views.py", broken)
    wait_until(lambda: server.request("GET", "/").status == 500, "the page")
    server.expect_log(told)
    page = server.request("GET", "/any/path", HTML)
    assert page.status == 500
    assert page.get("Content-Type") == "text/html; charset=utf-8"
    text = page.body.decode()
    assert told in text
    assert re.search(f"<mark> +\\d+  {re.escape(line)}", text), text
    assert f"{project.folder}/blog/views.py, line" in text
    plain = server.request("POST", "/", [("Accept", "*/*")], b"x=1")
    assert (plain.status, plain.get("Content-Type")) == (500, "text/plain; charset=utf-8")
    assert "Traceback (most recent call last)" in plain.body.decode()
    assert server.request("HEAD", "/").status == 500
    assert len(restarts(server)) == 1, "asking for the page does nothing else"
    project.save(2)
    expect_answer(server, b"2")


def test_first_start_with_broken_code_shows_the_page(developing, project):
    project.write("blog/views.py", "from blog.models import VERSION\n")
    server = developing()
    server.expect_log("No module named 'blog.models'")
    assert "blog.models" in server.request("GET", "/", HTML).body.decode()
    # The file that is missing was never imported.
    project.write("blog/models.py", "VERSION = 'mended'\n")
    expect_answer(server, b"mended")


def test_a_target_that_is_not_there_is_refused(project):
    ended = run_to_end("--reload", "no_such_module", cwd=project.folder)
    assert ended.returncode == 3
    assert 'no module named "no_such_module"' in ended.stderr


def test_a_change_during_the_import_begins_it_anew(developing, project):
    server = developing()
    project.write(
        "blog/views.py", "from apps.meeting import rendezvous\nrendezvous.hold('import')\nVERSION = 'slow'\n"
    )
    server.rendezvous.wait_for("holding import")
    project.save("fast")
    assert answer(server) == b"fast", "nobody has opened the gate"


def test_all_workers_restart_once(developing, project):
    server = developing("--workers", "2")
    server.wait_workers(2)
    project.save(2)
    expect_answer(server, b"2")
    assert {answer(server) for _ in range(20)} == {b"2"}
    server.wait_workers(2)
    assert len(restarts(server)) == 1


def test_calls_of_old_code_never_delay_new_code(developing, project):
    server = developing()
    answers = []
    calls = [threading.Thread(target=lambda: answers.append(answer(server, "/hold")))]
    calls[0].start()
    server.rendezvous.wait_for("holding call")
    project.save(2)
    expect_answer(server, b"2")
    assert not answers
    server.rendezvous.open("call")
    calls[0].join()
    assert answers == [b"1"]


def test_a_call_that_does_not_end_is_cut(developing, project):
    server = developing("--threads", "1")
    (worker,) = server.wait_workers(1)
    with server.connect() as client:
        client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: server.is_busy(worker), "the call")
        project.save(2)
        # Asked before the kernel has told of it: it waits behind that call, and goes over to the new code.
        assert answer(server) == b"2"
        server.expect_log("cut GET /long", patience=10)
    wait_until(lambda: len(server.supervisor.children()) == 1, "the old worker to end")
    server.expected.append(re.compile("did not end"))


def test_interrupt_ends_at_once(developing):
    server = developing()
    (worker,) = server.wait_workers(1)
    with server.connect() as client:
        client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: server.is_busy(worker), "the call")
        started = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.wait_exit() == 0
        assert time.monotonic() - started < 2
    server.expected.append(re.compile("."))


def test_one_worker_unless_asked_otherwise(developing):
    server = developing()
    assert len(server.wait_workers(1)) == 1
    if not os.environ.get("PORTICO_WORKERS"):
        server.expect_text("1 worker")


def test_serve_refuses(project):
    ended = run_to_end(program=program("serve_reloading"), cwd=project.folder)
    assert "portico --reload module:attribute" in ended.stderr


STANDARD = source("standard_app")


def test_project_module_hides_a_preloaded_standard_one(developing, project):
    project.write("site_app.py", STANDARD)
    server = developing()
    assert server.request().body == b"Python's"
    project.write("decimal.py", "OWN = 'own'\n")
    project.write("site_app.py", STANDARD + "# saved\n")
    expect_answer(server, b"own")
    (project.folder / "decimal.py").unlink()
    expect_answer(server, b"Python's")


def test_standard_modules_are_preloaded_before_the_application(developing, project, tmp_path_factory):
    project.write("site_app.py", "import sys\nTHERE = 'asyncio' in sys.modules\n" + ANSWERS_THERE)
    first = tmp_path_factory.mktemp("first")
    hidden = "import sys\nsys.modules['gevent'] = sys.modules['eventlet'] = None  # as if not installed\n"
    (first / "sitecustomize.py").write_text(hidden)
    assert developing(environment={"PYTHONPATH": str(first)}).request().body == b"True"
    project.write("gevent.py", "")  # It would replace some of them, and has to come first.
    assert developing().request().body == b"False"


ANSWERS_THERE = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(THERE).encode()]
"""
