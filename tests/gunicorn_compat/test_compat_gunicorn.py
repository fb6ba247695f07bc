"""`import gunicorn` where that is not installed, and classes of workers, judged by their bases."""

from __future__ import annotations

import os
import textwrap

import pytest

from harness.server import TESTS, run_to_end
from harness.sources import source

# Python as if no package gunicorn were installed.
HIDE = source("hide_gunicorn")


@pytest.fixture
def without(tmp_path_factory):
    """An environment in which gunicorn is not installed."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text(HIDE)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{TESTS}"}


def write(folder, text: str, name: str = "gunicorn.conf.py") -> None:
    """Writes a file."""
    (folder / name).write_text(textwrap.dedent(text))


CONFIGURATION = source("conf_of_gunicorns_modules")


def test_a_configuration_imports_what_it_needs(serve, tmp_path, without):
    write(tmp_path, CONFIGURATION)
    server = serve("apps.echo", cwd=tmp_path, environment=without)
    server.expect_log("the shop's logger")
    server.expect_log("with 3 threads")


def test_a_configuration_works_with_the_package_too(serve, tmp_path):
    pytest.importorskip("gunicorn")
    write(tmp_path, "import gunicorn\nassert 'compat' not in gunicorn.__file__\nthreads = 3\n")
    serve("apps.echo", cwd=tmp_path).expect_log("with 3 threads")


def test_a_folder_of_that_name_is_no_package(serve, tmp_path, without):
    (tmp_path / "gunicorn").mkdir()
    write(tmp_path, "import gunicorn\nassert gunicorn.SERVER\nthreads = 3\n", "gunicorn/conf.py")
    server = serve("apps.echo", "-c", "gunicorn/conf.py", cwd=tmp_path, environment=without)
    server.expect_log("with 3 threads")


def test_what_there_is_not_is_named(tmp_path, without):
    write(tmp_path, "import gunicorn.pidfile\n")
    ended = run_to_end("check", "apps.echo", cwd=tmp_path, environment=without)
    assert ended.returncode == 1
    assert (
        "No module named 'gunicorn.pidfile': portico.compat.gunicorn stands in for gunicorn" in ended.stderr
    )


def test_custom_response_class_is_not_ignored_silently(tmp_path, without):
    write(
        tmp_path,
        """
        from gunicorn.http import wsgi

        class Response(wsgi.Response):
            def default_headers(self, *args, **kwargs):
                return [it for it in super().default_headers(*args, **kwargs) if not it.startswith("Server:")]

        wsgi.Response = Response
        """,
    )
    for environment in (without, {}):
        ended = run_to_end("check", "apps.echo", cwd=tmp_path, environment=environment)
        assert ended.returncode == 0, ended.stderr
        assert "gunicorn.http.wsgi.Response is not called here" in ended.stdout


# Classes of workers

CLASSES = source("worker_classes")


@pytest.fixture(params=["installed", "not installed"])
def environment(request, without):
    """With gunicorn and without it."""
    if request.param == "not installed":
        return without
    pytest.importorskip("gunicorn")
    pytest.importorskip("gevent")
    return {}


@pytest.mark.parametrize(
    ("name", "threads", "lost"),
    [
        ("classes.Plain", 1, None),
        ("classes.Threads", 4, "Threads is served as gthread: its own init_process is not called"),
        ("classes.Deep", 4, "its own handle_request, init_process, odd are not called"),
        ("classes.Green", 32, "Green is served as gevent: its own patch is not called"),
    ],
)
def test_a_class_is_what_it_derives_from(tmp_path, environment, name, threads, lost):
    write(tmp_path, CLASSES, "classes.py")
    ended = run_to_end("config", "-k", name, "apps.echo", cwd=tmp_path, environment=environment)
    assert ended.returncode == 0, ended.stderr
    lines = [" ".join(line.split()).partition(" # ")[0].lstrip("# ") for line in ended.stdout.splitlines()]
    assert f"threads = {threads}" in lines
    said = [line for line in ended.stderr.splitlines() if "not called" in line]
    assert len(said) == (1 if lost else 0) and all(lost in line for line in said), said


def test_a_class_in_the_configuration_itself(serve, tmp_path, without):
    write(
        tmp_path,
        """
        from gunicorn.workers.gthread import ThreadWorker

        class ShopWorker(ThreadWorker):
            def handle_quit(self, sig, frame):
                super().handle_quit(sig, frame)

        worker_class = ShopWorker
        threads = 2
        """,
    )
    server = serve("apps.echo", cwd=tmp_path, environment=without)
    server.expect_log("with 2 threads")
    assert server.find_records("ShopWorker is served as gthread: its own handle_quit is not called")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("classes.Alone", "classes.Alone derives from no worker class that Portico can stand in for"),
        ("classes.NOTHING", "'classes.NOTHING' is no class"),
        ("classes.Missing", "'classes.Missing' cannot be imported: AttributeError"),
        ("no.such.Class", "'no.such.Class' cannot be imported: ModuleNotFoundError: No module named 'no'"),
        ("nothing", "'nothing' is no worker class that Portico can stand in for"),
        ("broken.Worker", "'broken.Worker' cannot be imported: ZeroDivisionError"),
        ("ends.Worker", "the import ends the process"),
        ("served.Worker", "served.Worker serves ASGI applications"),
        ("uvicorn.workers.UvicornWorker", "uvicorn.workers.UvicornWorker serves ASGI applications"),
    ],
)
def test_what_cannot_be_stood_in_for_is_said(tmp_path, without, name, said):
    write(tmp_path, CLASSES, "classes.py")
    write(tmp_path, "1 / 0\n", "broken.py")
    write(tmp_path, "import os\nos._exit(0)\n", "ends.py")
    (tmp_path / "uvicorn_worker").mkdir()
    write(
        tmp_path,
        "from gunicorn.workers.base import Worker\nclass UvicornWorker(Worker): pass\n",
        "uvicorn_worker/__init__.py",
    )
    write(tmp_path, "import uvicorn_worker\nclass Worker(uvicorn_worker.UvicornWorker): pass\n", "served.py")
    ended = run_to_end("check", "-k", name, "apps.echo", cwd=tmp_path, environment=without)
    assert ended.returncode == 1
    assert f"--worker-class: {said}" in ended.stderr or said in ended.stderr, ended.stderr


def test_a_class_with_websockets_of_its_own(tmp_path, without):
    (tmp_path / "geventwebsocket").mkdir()
    write(
        tmp_path,
        """
        from gunicorn.workers.ggevent import GeventPyWSGIWorker

        class GeventWebSocketWorker(GeventPyWSGIWorker):
            wsgi_handler = None
        """,
        "geventwebsocket/__init__.py",
    )
    ended = run_to_end(
        "config",
        "-k",
        "geventwebsocket.GeventWebSocketWorker",
        "apps.echo",
        cwd=tmp_path,
        environment=without,
    )
    assert ended.returncode == 0, ended.stderr
    assert "environ['wsgi.websocket'] is not there" in ended.stderr


def test_the_import_of_a_class_changes_nothing_here(serve, tmp_path, without):
    """gevent's workers patch the process that imports them."""
    write(
        tmp_path,
        """
        import threading
        from gunicorn.workers.sync import SyncWorker

        threading.stranger = True

        class Worker(SyncWorker):
            pass
        """,
        "patching.py",
    )
    write(
        tmp_path,
        """
        import threading

        def application(environ, start_response):
            start_response("200 OK", [])
            return [str(hasattr(threading, "stranger")).encode()]
        """,
        "shop.py",
    )
    server = serve("shop", "-k", "patching.Worker", cwd=tmp_path, environment=without)
    assert server.request("GET", "/").body == b"False"


# Programs


def test_a_program_derived_from_application_takes_options(serve, tmp_path):
    write(
        tmp_path,
        """
        import sys
        from portico.compat.gunicorn.app.wsgiapp import WSGIApplication

        class Shop(WSGIApplication):
            def __init__(self, app_uri, options):
                self.app_uri, self.options = app_uri, options
                super().__init__()

            def load_config(self):
                for name, value in self.options.items():
                    self.cfg.set(name, value)

        if __name__ == "__main__":
            Shop("apps.echo:application", {"workers": 1, "threads": 3}).run()
        """,
        "program.py",
    )
    import sys

    server = serve(None, cwd=tmp_path, program=[sys.executable, "program.py"])
    server.expect_log("with 3 threads")
