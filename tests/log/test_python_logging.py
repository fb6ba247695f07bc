"""Python's logging: the loggers that every worker has, and what the operator configures of it."""

from __future__ import annotations

import json
import re
import signal
import textwrap

import pytest

from harness.http_client import FramingError, request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.sources import source

RECIPE = source("shop_that_logs")

DICT = """
logconfig_dict = {
    "version": 1,
    "formatters": {
        "words": {"format": "%(name)s|%(levelname)s|%(message)s"},
    },
    "handlers": {
        "file": {"class": "logging.FileHandler", "filename": "python.log", "formatter": "words"},
        "console": {"class": "logging.StreamHandler", "formatter": "words", "stream": "ext://sys.stderr"},
    },
    "root": {"level": "INFO", "handlers": []},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["file", "console"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["file"], "propagate": False},
    },
}
"""

INI = """
[loggers]
keys=root, gunicorn.error, gunicorn.access

[handlers]
keys=file, console

[formatters]
keys=words

[logger_root]
level=INFO
handlers=file

[logger_gunicorn.error]
level=INFO
handlers=file, console
propagate=0
qualname=gunicorn.error

[logger_gunicorn.access]
level=INFO
handlers=file
propagate=0
qualname=gunicorn.access

[handler_file]
class=FileHandler
formatter=words
args=('python.log',)

[handler_console]
class=StreamHandler
formatter=words
args=(sys.stderr,)

[formatter_words]
format=%(name)s|%(levelname)s|%(message)s
"""


def conf(folder, text: str) -> None:
    """Writes gunicorn.conf.py."""
    (folder / "gunicorn.conf.py").write_text(textwrap.dedent(text))


def test_the_loggers_are_there_before_the_application(serve, tmp_path):
    (tmp_path / "shop.py").write_text(RECIPE)
    server = serve("shop", "--access-logfile", "-", cwd=tmp_path)
    worker = server.worker
    assert server.request("GET", "/raise").body == b"[False, False]"
    server.expect_log(rf"\[{worker.pid}\] \[INFO\] of the shop\nsecond line$")
    server.expect_log(rf"\[{worker.pid}\] \[WARNING\] of the server$")
    server.expect_log(r"\[ERROR\] it happens\nTraceback .*ZeroDivisionError")
    assert not server.find_records("not at this level")
    wait_until(lambda: "an access" in server.stdout.lines, "the access")


def test_the_loggers_write_where_the_logs_go(serve, tmp_path):
    (tmp_path / "shop.py").write_text(RECIPE)
    log = tmp_path / "error.log"
    server = serve("shop", "--access-logfile", "access.log", cwd=tmp_path, error_log=log)
    server.request()
    server.expect_log("of the server")
    log.rename(tmp_path / "old.log")
    server.signal(signal.SIGUSR1)
    wait_until(log.exists, "the new file")

    def logged() -> bool:
        server.request()
        return "of the server" in log.read_text()

    wait_until(logged, "the record in the new file")
    assert "an access\n" in (tmp_path / "access.log").read_text()


def python_log(folder) -> list[str]:
    """What Python's handlers have written."""
    path = folder / "python.log"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("way", ["dict", "ini", "json"])
def test_logging_configuration_covers_the_servers_log(serve, tmp_path, way):
    options: list[str] = []
    if way == "dict":
        conf(tmp_path, DICT)
    elif way == "ini":
        (tmp_path / "logging.ini").write_text(INI)
        options = ["--log-config", "logging.ini"]
    else:
        namespace: dict = {}
        exec(DICT, namespace)
        (tmp_path / "logging.json").write_text(json.dumps(namespace["logconfig_dict"]))
        options = ["--log-config-json", "logging.json"]
    server = serve("apps.echo", *options, cwd=tmp_path)
    worker = server.worker
    server.request("GET", "/some?x=1", [("User-Agent", "probe")])
    wait_until(lambda: any("/some" in line for line in python_log(tmp_path)), "the access in Python's log")
    server.stop()
    lines = python_log(tmp_path)
    assert any(line.startswith("gunicorn.error|INFO|Starting portico") for line in lines) or way == "x"
    assert f"gunicorn.error|INFO|Booting worker with pid: {worker.pid} (slot 0)" in lines
    assert any(line.startswith("gunicorn.error|INFO|Worker 0 serves apps.echo") for line in lines)
    assert any(line == f"gunicorn.error|INFO|Worker exiting (pid: {worker.pid})" for line in lines)
    (access,) = [line for line in lines if line.startswith("gunicorn.access|INFO|")]
    assert '"GET /some?x=1 HTTP/1.1" 200 ' in access
    assert access.endswith('"-" "probe"')
    assert not any(line.startswith("[20") for line in server.log_lines), server.log_text


def accesses(folder) -> list[str]:
    """Request lines, statuses and user agents in Python's access log."""
    lines = [line for line in python_log(folder) if line.startswith("gunicorn.access|")]
    found = [re.search(r'"([^"]*)" (\d+) .* "([^"]*)"$', line) for line in lines]
    return [" ".join(match.groups()) for match in found if match]


def test_responses_of_the_server_are_logged(serve, tmp_path):
    conf(tmp_path, DICT)
    options = ("--threads", "1", "--max-queue", "1", "--limit-request-body", "1000", "--timeout", "3")
    server = serve("apps.control:application", *options, "--pythonpath", str(TESTS), cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    agent = [("User-Agent", "probe")]
    assert server.request("POST", "/large", [*agent, ("Content-Length", "2000")]).status == 413
    server.expected.append(re.compile("/sleep|is stuck|died"))
    with server.connect() as busy, server.connect() as queued:
        busy.send(request_bytes("GET", "/sleep?seconds=9", agent))
        server.wait_engine()
        wait_until(lambda: server.is_busy(worker), "the call")
        queued.send(request_bytes("GET", "/run?name=queued", agent))
        server.wait_engine()
        assert server.request("GET", "/run?name=beyond", agent).status == 503
        assert busy.read_response().status == 504
        assert queued.read_response().status == 200
    server.stop()
    lines = accesses(tmp_path)
    # What the server answers and what the application does are told by two threads: in either order.
    assert sorted(line for line in lines if "HTTP/1.1" in line) == [
        "GET /run?name=beyond HTTP/1.1 503 probe",
        "GET /run?name=queued HTTP/1.1 200 probe",
        "GET /sleep?seconds=9 HTTP/1.1 504 probe",
    ]
    assert lines[0] == "- - - 413 -", (
        "what is refused unread has a line without a request, as in the server's log"
    )
    assert lines.count("- - - 400 -") == 4, "malformed ones"


def test_request_that_dies_with_its_worker_is_logged(serve, tmp_path):
    conf(tmp_path, DICT)
    server = serve("apps.processes:application", "--pythonpath", str(TESTS), cwd=tmp_path)
    with server.connect() as client, pytest.raises((FramingError, ConnectionResetError)):
        client.send(request_bytes(target="/exit?status=5"))
        client.read_response()
    server.expect_text("died")
    wait_until(lambda: accesses(tmp_path), "its line")
    assert accesses(tmp_path) == ["GET /exit?status=5 - 502 -"]
    server.expected.append(re.compile("died"))


def test_the_files_of_handlers_are_opened_again(serve, tmp_path):
    """Of the server's loggers and of the application's own, in the supervisor and in the worker."""
    conf(tmp_path, DICT)
    (tmp_path / "shop.py").write_text(
        textwrap.dedent(
            """
            import logging, logging.handlers
            from apps.routes import plain

            watched = logging.handlers.WatchedFileHandler
            for name, Handler in (("own", logging.FileHandler), ("watched", watched)):
                logging.getLogger(name).addHandler(Handler(f"{name}.log"))
            logging.getLogger("late").addHandler(logging.FileHandler("late.log", delay=True))

            def application(environ, start_response):
                for name in ("own", "watched"):
                    logging.getLogger(name).warning("said")
                return plain(start_response, "ok")
            """
        )
    )
    server = serve("shop", cwd=tmp_path)
    server.request("GET", "/first")
    names = ("python", "own", "watched")
    wait_until(lambda: "/first" in (tmp_path / "python.log").read_text(), "the access")
    for name in names:
        (tmp_path / f"{name}.log").rename(tmp_path / f"{name}.old")
    server.signal(signal.SIGUSR1)
    wait_until((tmp_path / "own.log").exists, "the new file")
    server.request("GET", "/second")
    wait_until(lambda: "/second" in "".join(python_log(tmp_path)), "the access in the new file")
    server.stop()
    assert [(tmp_path / f"{name}.log").read_text() for name in names[1:]] == ["said\n", "said\n"]
    assert "Shutting down: Master" in "".join(python_log(tmp_path)), "the supervisor has opened it too"
    assert "/second" not in (tmp_path / "python.old").read_text()
    assert not (tmp_path / "late.log").exists()


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_applications_handlers_need_no_configuration(serve, tmp_path, options):
    (tmp_path / "shop.py").write_text(
        "import logging\nfrom apps.routes import plain\n"
        "logging.basicConfig(filename='own.log')\n"
        "def application(environ, start_response):\n"
        "    logging.warning('said')\n"
        "    return plain(start_response, 'ok')\n"
    )
    server = serve("shop", *options, cwd=tmp_path)
    (tmp_path / "own.log").rename(tmp_path / "own.old")
    server.signal(signal.SIGUSR1)
    wait_until((tmp_path / "own.log").exists, "the new file")

    def told() -> bool:
        server.request()
        return "said" in (tmp_path / "own.log").read_text()

    wait_until(told, "the line in the new file")


def test_a_logger_class_of_ones_own(serve, tmp_path):
    (tmp_path / "shoplogs.py").write_text(
        textwrap.dedent(
            """
            import logging
            from portico.compat.gunicorn.glogging import Logger

            class ShopLogger(Logger):
                def setup(self, cfg):
                    super().setup(cfg)
                    fmt = logging.Formatter("shop %(levelname)s %(message)s")
                    self._set_handler(self.error_log, cfg.errorlog, fmt)

                def access(self, resp, req, environ, request_time):
                    if req.path != "/healthz":
                        super().access(resp, req, environ, request_time)

                def atoms(self, resp, req, environ, request_time):
                    return super().atoms(resp, req, environ, request_time) | {"shop": "here"}

                def now(self):
                    return "[now]"
            """
        )
    )
    conf(
        tmp_path,
        """
        import shoplogs
        logger_class = shoplogs.ShopLogger
        accesslog = "-"
        access_log_format = '%(t)s %(shop)s %(s)s %(m)s %(U)s %({x-a}i)s %({Content-Type}o)s %({nothing}i)s'
        """,
    )
    server = serve("apps.echo", cwd=tmp_path)
    server.request("GET", "/healthz")
    server.request("GET", "/a", [("X-A", 'q"')])
    wait_until(lambda: any("/a" in line for line in server.stdout.lines), "the access")
    server.stop()
    assert server.stdout.lines == ['[now] here 200 GET /a q\\" application/json -']
    assert any(line.startswith("shop INFO Starting portico") for line in server.log_lines)
    assert any(line.startswith("shop INFO Listening at: http://") for line in server.log_lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logger_class = 'no.such.Logger'\n", "logger_class: no.such.Logger cannot be imported"),
        ("logger_class = 'gunicorn.nowhere.Logger'\n", "No module named 'gunicorn.nowhere'"),
        (
            "logconfig_dict = {'handlers': {'x': {'class': 'no.Such'}}}\n",
            "configuration of logging cannot be used",
        ),
        ("logconfig = 'nowhere.ini'\n", "there is no file nowhere.ini"),
    ],
)
def test_what_cannot_be_used_ends_the_start(tmp_path, text, said):
    conf(tmp_path, text)
    ended = run_to_end("-b", "127.0.0.1:0", "apps.echo", cwd=tmp_path)
    assert ended.returncode == 1
    assert said in ended.stderr


def test_reload_replaces_the_logging_configuration_unless_broken(serve, tmp_path):
    conf(tmp_path, DICT)
    server = serve("apps.echo", cwd=tmp_path)
    conf(tmp_path, DICT.replace("python.log", "other.log"))
    assert run_to_end("reload", str(server.pid), cwd=tmp_path).returncode == 0
    server.request("GET", "/other")
    wait_until(lambda: "/other" in (tmp_path / "other.log").read_text(), "the access")
    conf(tmp_path, DICT.replace("logging.FileHandler", "no.Such"))
    server.expected.append(re.compile("reloading the logger configuration failed|no.Such"))
    run_to_end("reload", str(server.pid), cwd=tmp_path)
    server.expect_text("reloading the logger configuration failed, keeping the previous one")
    server.request("GET", "/still")
    wait_until(lambda: "/still" in (tmp_path / "other.log").read_text(), "the access")


def test_output_is_captured_into_the_error_log(serve, tmp_path):
    (tmp_path / "printing.py").write_text(
        "import os, sys\nfrom apps.routes import plain\n"
        "def application(environ, start_response):\n"
        "    print('printed', flush=True)\n    os.system('echo of a child >&2')\n"
        "    return plain(start_response, 'ok')\n"
    )
    log = tmp_path / "error.log"
    server = serve("printing", "--capture-output", cwd=tmp_path, error_log=log)
    server.request()
    wait_until(lambda: "of a child\n" in log.read_text() and "printed\n" in log.read_text(), "the output")
    log.rename(tmp_path / "old.log")
    server.signal(signal.SIGUSR1)
    wait_until(log.exists, "the new file")
    server.request()
    wait_until(lambda: "of a child\n" in log.read_text() and "printed\n" in log.read_text(), "the output")
    assert server.stdout.lines == []
