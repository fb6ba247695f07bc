"""What is served: targets in every form, discovery, and what is said when there is nothing to serve."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest

from harness.server import run_to_end

HELLO = """
    def {name}(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello from {name}"]
"""
FACTORY = """
    def make(greeting="hello", *, mark=""):
        def made(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [(greeting + mark).encode()]
        return made
"""


@pytest.fixture
def project(tmp_path):
    """An empty folder and a function that writes files into it."""
    folder = tmp_path / "project"
    folder.mkdir()

    def write(**files: str):
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path = path.with_suffix(".py")
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(textwrap.dedent(text))
        return folder

    return write


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("mysite", b"hello from application"),
        ("mysite:application", b"hello from application"),
        ("mysite:other", b"hello from other"),
        ("mysite:make()", b"hello"),
        ("mysite:make('bye')", b"bye"),
        ("mysite:make('bye', mark='!')", b"bye!"),
        ("mysite.py", b"hello from application"),
        ("mysite.py:other", b"hello from other"),
        ("./mysite.py:other", b"hello from other"),
        ("pkg/inner.py:app", b"hello from app"),
        ("pkg.inner:app", b"hello from app"),
        ("mysite:Callable()", b"hello from an object"),
        ("mysite:namespace.inner", b"hello from other"),
    ],
)
def test_targets(serve, project, target, body):
    callable_class = """
    class Callable:
        def __call__(self, environ, start_response):
            start_response("200 OK", [])
            return [b"hello from an object"]

    class namespace:
        inner = staticmethod(other)
    """
    folder = project(
        mysite=HELLO.format(name="application") + HELLO.format(name="other") + FACTORY + callable_class,
        pkg__inner=HELLO.format(name="app"),
    )
    server = serve(target, cwd=folder)
    assert server.request().body == body


def test_chdir_and_pythonpath(serve, project, tmp_path):
    folder = project(deep__mysite="import extra\nfrom extra import application\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "extra.py").write_text(textwrap.dedent(HELLO.format(name="application")))
    server = serve(
        "mysite", "--chdir", str(folder / "deep"), "--pythonpath", str(tmp_path / "more"), cwd=tmp_path
    )
    assert server.request().body == b"hello from application"


@pytest.mark.parametrize("module", ["wsgi", "app", "main"])
@pytest.mark.parametrize("name", ["application", "app"])
def test_discovery_finds_the_usual_names(serve, project, module, name):
    folder = project(**{module: HELLO.format(name=name)})
    server = serve(None, cwd=folder)
    assert server.request().body == f"hello from {name}".encode()
    assert f"{module}:{name}" in server.log_text


def test_discovery_calls_create_app(serve, project):
    folder = project(app=FACTORY.replace("make", "create_app"))
    server = serve(None, cwd=folder)
    assert server.request().body == b"hello"
    assert "app:create_app()" in server.log_text


def test_discovery_prefers_wsgi_then_app_then_main(serve, project):
    folder = project(
        wsgi=HELLO.format(name="application"), app=HELLO.format(name="app"), main=HELLO.format(name="app")
    )
    assert serve(None, cwd=folder).request().body == b"hello from application"


def test_discovery_finds_a_django_project_through_manage_py(serve, project):
    folder = project(
        manage='import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n',
        shop__settings='SECRET_KEY = "x"\nROOT_URLCONF = "shop.urls"\n'
        'WSGI_APPLICATION = "shop.entry.handler"\n'
        'ALLOWED_HOSTS = ["*"]\n',
        shop__urls="from django.http import HttpResponse\nfrom django.urls import path\n"
        'urlpatterns = [path("", lambda request: HttpResponse("hello from django"))]\n',
        shop__entry="from django.core.wsgi import get_wsgi_application\nhandler = get_wsgi_application()\n",
        wsgi=HELLO.format(name="application"),
    )
    server = serve(None, cwd=folder)
    assert server.request().body == b"hello from django"
    assert "shop.entry:handler" in server.log_text


def test_nothing_to_discover_tells_how_to_name_it(project):
    process = run_to_end(cwd=project(unrelated="x = 1"))
    assert process.returncode == 1
    assert "portico" in process.stderr and "module:" in process.stderr
    assert "Traceback" not in process.stderr


def test_broken_candidate_is_reported_and_not_skipped(project):
    folder = project(wsgi="import no_such_thing", app=HELLO.format(name="app"))
    process = run_to_end("--bind", "127.0.0.1:0", cwd=folder)
    assert process.returncode == 3
    assert "no_such_thing" in process.stderr and "Traceback" in process.stderr


@pytest.mark.parametrize(
    ("target", "words", "traceback"),
    [
        ("no_such_module", ["no_such_module"], False),
        ("no_such_module:app", ["no_such_module"], False),
        ("mysite.missing:app", ["mysite.missing"], False),
        ("mysite:missing", ["mysite", "missing", "attribute"], False),
        ("mysite:number", ["mysite:number", "callable"], False),
        ("mysite", ["mysite", "application"], False),
        ("missing.py", ["missing.py"], False),
        ("missing.py:app", ["missing.py"], False),
        ("broken", ["broken", "ValueError", "planted"], True),
        ("imports_missing", ["imports_missing", "no_such_dependency"], True),
        ("syntax_error", ["syntax_error", "SyntaxError"], True),
        ("exits", ["exits", "SystemExit"], True),
        ("mysite:failing()", ["failing", "ValueError", "planted"], True),
        ("mysite:gives_number()", ["gives_number", "callable"], False),
        ("mysite:make(", ["mysite:make("], False),
        ("mysite:make(x)", ["mysite:make(…)", "literal arguments"], False),
        ("mysite:", ["mysite:"], False),
        (":app", [":app"], False),
        ("mysite:a b", ["mysite:a b"], False),
        ("mysite:failing", ["mysite:failing()"], False),
    ],
)
def test_wrong_target_is_told_in_one_clear_line(project, target, words, traceback):
    folder = project(
        mysite="number = 7\n"
        + textwrap.dedent(FACTORY)
        + 'def failing():\n    raise ValueError("planted")\ndef gives_number():\n    return 7\n',
        broken='raise ValueError("planted")',
        imports_missing="import no_such_dependency",
        syntax_error="def f(:\n",
        exits="raise SystemExit(0)",
    )
    process = run_to_end("--bind", "127.0.0.1:0", target, cwd=folder)
    assert process.returncode in (3, 4), process
    lines = [line for line in process.stderr.splitlines() if all(word in line for word in words)]
    assert lines, process.stderr
    assert ("Traceback (most recent call last)" in process.stderr) == traceback, process.stderr
    assert "panicked" not in process.stderr
    if traceback:
        assert "importlib" not in process.stderr, "the server's own frames explain nothing"


def test_missing_attribute_names_what_there_is(project):
    folder = project(mysite=HELLO.format(name="app"))
    process = run_to_end("--bind", "127.0.0.1:0", "mysite:ap", cwd=folder)
    assert process.returncode in (3, 4)
    assert re.search(r"\bapp\b", process.stderr)


def test_serve_from_python(serve, project):
    """`portico.serve(app, bind=...)`."""
    folder = project(
        script="import portico\n"
        + textwrap.dedent(HELLO.format(name="application"))
        + 'portico.serve(application, bind="127.0.0.1:0", threads=2)\nprint("served", flush=True)\n'
    )
    server = serve_script(serve, folder / "script.py")
    assert server.request().body == b"hello from application"
    server.stop()
    assert server.stdout.lines == ["served"]


def serve_script(serve, path):
    """A server that a script starts."""
    return serve(None, bind=None, program=[sys.executable, str(path)])
