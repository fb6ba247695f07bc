"""Static files with no setting: Django's STATIC_ROOT and Flask's folder, as applications have set them up."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.packages import skip_without
from harness.server import run_to_end, server_environment

SETTINGS = """\
from pathlib import Path

BASE = Path(__file__).parent.parent
SECRET_KEY = "a key for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.staticfiles", "mysite"]
MIDDLEWARE = []
STATIC_URL = "static/"
STATIC_ROOT = BASE / "collected"
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}
"""
PLAIN = 'STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}\n'
COLLECT = """\
import django
from django.core.management import call_command

django.setup()
call_command("collectstatic", verbosity=0, interactive=False)
"""
URLS = """\
from django.http import HttpResponse
from django.templatetags.static import static
from django.urls import re_path


def index(request):
    url = static("mysite/a.css") if request.path.endswith("/page") else ""
    return HttpResponse(f"{request.path} {url}")


urlpatterns = [re_path("", index)]
"""
WSGI = """\
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""
CSS = "body { background: url(b.png) }\n"


def project(folder, settings=""):
    """A Django project with collected static files."""
    skip_without("django")
    static = folder / "mysite" / "static" / "mysite"
    static.mkdir(parents=True)
    files = {"__init__": "", "settings": SETTINGS + settings, "urls": URLS, "wsgi": WSGI}
    for name, text in files.items():
        (folder / "mysite" / f"{name}.py").write_text(text)
    (static / "a.css").write_text(CSS)
    (static / "b.png").write_bytes(b"\x89PNG")
    environment = server_environment({"DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": str(folder)})
    subprocess.run([sys.executable, "-c", COLLECT], cwd=folder, env=environment, check=True, timeout=60)
    return folder


def one(server, target, method="GET", fields=()):
    """The response to one request on a connection of its own."""
    with server.connect() as client:
        client.send(request_bytes(method, target, list(fields)))
        return client.read_response(method)


def line(folder, kind, files, immutable=None, path="/static/"):
    """What the log says of a folder."""
    listed = f", {immutable} immutable" if immutable else ""
    return f"serving {path} from {folder} ({kind}, {files} files{listed})"


DJANGO = "Django's STATIC_ROOT"


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_django(serve, tmp_path, options):
    project(tmp_path)
    server = serve("mysite.wsgi", "--workers", "2", *options, cwd=tmp_path)
    server.wait_workers(2)
    # Two files, each with its hashed copy, and the manifest.
    server.expect_text(line(tmp_path / "collected", DJANGO, 5, 2))
    assert server.log_text.count("serving /static/") == 1, "one line for all workers"
    page = one(server, "/page")
    _, url = page.body.decode().split()
    assert url.startswith("/static/mysite/a.") and url != "/static/mysite/a.css"
    hashed, plain = one(server, url), one(server, "/static/mysite/a.css")
    assert hashed.status == plain.status == 200
    assert hashed.get("Cache-Control") == "max-age=31536000, public, immutable"
    assert plain.get("Cache-Control") == "max-age=60, public"
    for response in (hashed, plain):
        assert response.get("Content-Type") == "text/css; charset=utf-8"
        assert response.get("Access-Control-Allow-Origin") == "*"
    assert plain.body == CSS.encode()
    again = one(server, url, fields=[("If-None-Match", hashed.get("ETag"))])
    assert (again.status, again.get("Cache-Control")) == (304, hashed.get("Cache-Control"))
    assert b".png" in hashed.body and hashed.body != plain.body
    with Http2Client(server.address) as client:
        assert client.request(url).body == hashed.body
    # What is not there is the application's, as is all else.
    assert one(server, "/static/none.css").body.startswith(b"/static/none.css ")
    assert one(server, "/static/mysite/a.css", "POST").body.startswith(b"/static/mysite/a.css ")


def test_django_mounted(serve, tmp_path):
    project(tmp_path)
    (tmp_path / "site.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'the main application']\n"
    )
    (tmp_path / "site_app.py").write_text((tmp_path / "site.py").read_text())
    server = serve("site_app:app", "--mount", "/shop=mysite.wsgi", cwd=tmp_path)
    server.expect_text(line(tmp_path / "collected", DJANGO, 5, 2, "/shop/static/"))
    page = one(server, "/shop/page")
    path, url = page.body.decode().split()
    assert path == "/shop/page" and url.startswith("/shop/static/mysite/a.")
    assert one(server, url).get("Cache-Control") == "max-age=31536000, public, immutable"
    assert one(server, "/shop/static/none").body.startswith(b"/shop/static/none "), "it falls back to its own"
    assert one(server, "/static/mysite/a.css").body == b"the main application"


def test_django_below_a_root_path(serve, tmp_path):
    project(tmp_path, "STATIC_URL = '/base/static/'\n")
    server = serve("mysite.wsgi", "--root-path", "/base", cwd=tmp_path)
    server.expect_text(line(tmp_path / "collected", DJANGO, 5, 2))
    for target in ("/base/static/mysite/a.css", "/static/mysite/a.css"):
        assert one(server, target).body == CSS.encode(), target


UNSERVED = [
    pytest.param("DEBUG = True\n", [], None, id="debug"),
    pytest.param("", ["--no-django-static"], None, id="option"),
    pytest.param("", ["--reload"], None, id="reload"),
    pytest.param("INSTALLED_APPS = ['mysite']\n", [], None, id="not-installed"),
    pytest.param("STATIC_ROOT = BASE / 'none'\n", [], None, id="no-folder"),
    pytest.param("STATIC_ROOT = None\n", [], None, id="no-root"),
    pytest.param("", ["--redirect", "/static/{rest...}=/x"], True, id="other-route"),
    pytest.param(
        "STATIC_URL = 'https://cdn.example.com/static/'\n",
        [],
        "STATIC_URL is https://cdn.example.com/static/, of another host",
        id="other-host",
    ),
]


@pytest.mark.parametrize(("settings", "options", "told"), UNSERVED)
def test_what_django_does_not_have_served(serve, tmp_path, settings, options, told):
    project(tmp_path)
    with (tmp_path / "mysite" / "settings.py").open("a") as file:
        file.write(settings)
    server = serve("mysite.wsgi", *options, cwd=tmp_path)
    assert one(server, "/other").body == b"/other "
    assert ("serving /static/" in server.log_text) is (told is True)
    if isinstance(told, str):
        server.expect_text(told)


def test_a_route_of_the_operator_counts(serve, tmp_path):
    project(tmp_path)
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/static'\nrespond = 410\n")
    server = serve("mysite.wsgi", cwd=tmp_path)
    assert one(server, "/static/mysite/a.css").status == 410
    assert "serving /static/" not in server.log_text


def test_a_route_of_the_operator_says_how(serve, tmp_path):
    project(tmp_path)
    (tmp_path / "portico.toml").write_text(
        "[[route]]\npath = '/static'\nmax_age = '1h'\nheaders = { X-A = '1' }\n"
    )
    server = serve("mysite.wsgi", cwd=tmp_path)
    response = one(server, "/static/mysite/a.css")
    assert (response.get("Cache-Control"), response.get("X-A")) == ("max-age=3600, public", "1")


def test_files_are_under_the_guards_of_the_operator(serve, tmp_path):
    """What contains them says `auth` and `limit`: no file is had past these, nor a page."""
    project(tmp_path)
    # Of "secret", with so few rounds that it costs nothing.
    (tmp_path / "users").write_text("bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n")
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/'\nauth = 'users'\nlimit = '12/d'\n")
    server = serve("mysite.wsgi", cwd=tmp_path)
    server.expect_text("serving /static/")
    right, wrong = ([("Authorization", f"Basic {text}")] for text in ("Ym9iOnNlY3JldA==", "Ym9iOndyb25n"))
    targets = {
        "/static/mysite/a.css": 200,
        "/page": 200,
        "/static/none.css": 200,
    }  # The last by the application.
    for target in targets:
        for fields, body in [([], None), ([], b"ok"), (wrong, None)]:
            with server.connect() as client:
                client.send(request_bytes("GET", target, fields, body=body))
                refused = client.read_response("GET")
            assert (refused.status, refused.body) == (401, b"401 Unauthorized\n"), (target, fields, body)
    for target, status in targets.items():
        assert one(server, target, fields=right).status == status, target
    assert one(server, "/static/mysite/a.css", fields=right).status == 429


def test_whitenoise_goes_on(serve, tmp_path):
    """It is in MIDDLEWARE, or around the application: it serves the files, as before."""
    project(tmp_path)
    (tmp_path / "whitenoise").mkdir()
    (tmp_path / "whitenoise" / "__init__.py").touch()
    (tmp_path / "whitenoise" / "middleware.py").write_text(
        "from django.http import HttpResponse\n"
        "class WhiteNoiseMiddleware:\n"
        "    def __init__(self, get_response):\n"
        "        self.get_response = get_response\n"
        "    def __call__(self, request):\n"
        "        if request.path_info.startswith('/static/'):\n"
        "            return HttpResponse('of WhiteNoise')\n"
        "        return self.get_response(request)\n"
    )
    with (tmp_path / "mysite" / "settings.py").open("a") as file:
        file.write("MIDDLEWARE = ['whitenoise.middleware.WhiteNoiseMiddleware']\n")
    server = serve("mysite.wsgi", cwd=tmp_path)
    server.expect_text("whitenoise.middleware.WhiteNoiseMiddleware serves Django's STATIC_ROOT")
    assert one(server, "/static/mysite/a.css").body == b"of WhiteNoise"


def test_check_tells_it_and_route_cannot(tmp_path):
    project(tmp_path)
    checked = run_to_end("check", "mysite.wsgi", cwd=tmp_path)
    assert checked.returncode == 0
    assert line(tmp_path / "collected", DJANGO, 5, 2) in checked.stdout
    explained = run_to_end("route", "/static/a.css", "mysite.wsgi", cwd=tmp_path)
    assert (
        "Django's STATIC_ROOT and Flask's static folder get routes when the application is"
        in explained.stdout
    )
    explained = run_to_end("route", "/static/a.css", "mysite.wsgi", "--no-django-static", cwd=tmp_path)
    assert "STATIC_ROOT" not in explained.stdout


def test_a_manifest_that_is_none_is_told(serve, tmp_path):
    project(tmp_path)
    (tmp_path / "collected" / "staticfiles.json").write_text("{}")
    with (tmp_path / "mysite" / "settings.py").open("a") as file:
        file.write(PLAIN)
    server = serve("mysite.wsgi", cwd=tmp_path)
    server.expect_text("staticfiles.json lists no immutable files: it has no paths")
    assert one(server, "/static/mysite/a.css").get("Cache-Control") == "max-age=60, public"


FLASK = """\
from flask import Flask, url_for

app = Flask(__name__)

@app.get("/")
def index():
    return url_for("static", filename="a.txt")

{}
"""


def flask_site(folder, more=""):
    """A Flask application with a static file."""
    skip_without("flask")
    (folder / "static").mkdir()
    (folder / "static" / "a.txt").write_text("static")
    (folder / "shop.py").write_text(FLASK.format(more))


def test_flask(serve, tmp_path):
    flask_site(tmp_path, "app.config['SEND_FILE_MAX_AGE_DEFAULT'] = 3600")
    server = serve("shop:app", cwd=tmp_path)
    server.expect_text(f"serving /static/ from {tmp_path / 'static'} (Flask's static folder, 1 file)")
    response = one(server, one(server, "/").body.decode())
    assert (response.body, response.get("Cache-Control")) == (b"static", "max-age=3600, public")
    assert response.get("Access-Control-Allow-Origin") is None
    assert one(server, "/static/none").status == 404
    (tmp_path / "static" / "later.txt").write_text("later")
    assert one(server, "/static/later.txt").body == b"later"


def test_flask_mounted_beside_django(serve, tmp_path):
    project(tmp_path)
    flask_site(tmp_path)
    server = serve("mysite.wsgi", "--mount", "/shop=shop:app", cwd=tmp_path)
    server.expect_text(line(tmp_path / "collected", DJANGO, 5, 2))
    server.expect_text(f"serving /shop/static/ from {tmp_path / 'static'} (Flask's static folder, 1 file)")
    assert one(server, "/shop/").body == b"/shop/static/a.txt"
    assert one(server, "/shop/static/a.txt").body == b"static"
    assert one(server, "/shop/static/none").status == 404
    assert one(server, "/static/mysite/a.css").body == CSS.encode()


def test_flask_that_may_guard_serves_itself(serve, tmp_path):
    flask_site(
        tmp_path,
        "from flask import abort, request\n"
        "@app.before_request\n"
        "def guard():\n"
        "    return None if request.args.get('key') == 'open' else abort(401)\n",
    )
    server = serve("shop:app", cwd=tmp_path)
    server.expect_text(
        "the Flask application serves /static/ itself, since its before_request functions may guard"
    )
    assert one(server, "/static/a.txt").status == 401
    assert one(server, "/static/a.txt?key=open").body == b"static"


def test_a_guard_for_some_methods_counts(serve, tmp_path):
    flask_site(tmp_path)
    (tmp_path / "portico.toml").write_text(
        "[[route]]\npath = '/'\nmethods = ['GET', 'HEAD']\ndeny = ['0.0.0.0/0', '::/0']\n"
    )
    server = serve("shop:app", cwd=tmp_path)
    server.expect_text("Flask's static folder is not served at /static/: a route for it would go around")
    assert one(server, "/static/a.txt").status == 403


@pytest.mark.parametrize("target", [["app.py"], ["./app.py"], ["app:app"], []])
def test_the_folder_of_the_application_is_not_served(tmp_path, target):
    """Named by its file or module, or found."""
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"
    )
    checked = run_to_end("check", *target, "--static", "/s=.", cwd=tmp_path)
    assert checked.returncode != 0
    assert "app.py: it is the folder of an application" in checked.stdout + checked.stderr


def test_a_module_below_a_served_folder_is_refused(tmp_path):
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "lib" / "deep" / "site_app.py").write_text(
        "def app(environ, start_response):\n    return []\n"
    )
    options = ["--pythonpath", str(tmp_path / "lib" / "deep"), "--static", "/s=lib"]
    checked = run_to_end("check", "site_app:app", *options, cwd=tmp_path)
    assert checked.returncode != 0
    assert "lib has deep/site_app.py: it is the folder" in checked.stdout + checked.stderr


def test_in_development_the_sources_are_served_uncached(serve, tmp_path):
    """By Django's finders, through `runserver`'s handler: nothing of what is collected gets in its way."""
    project(tmp_path)
    with (tmp_path / "mysite" / "settings.py").open("a") as file:
        file.write(f"DEBUG = True\n{PLAIN}")
    options = "use_static_handler=True, insecure_serving=False, skip_checks=True"
    target = f"portico.contrib.django.development:application({options})"
    environment = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}
    server = serve(target, "--reload", cwd=tmp_path, environment=environment)
    source = tmp_path / "mysite" / "static" / "mysite" / "a.css"
    assert one(server, "/static/mysite/a.css").body == CSS.encode()
    source.write_text("changed {}\n")
    changed = one(server, "/static/mysite/a.css")
    assert (changed.body, changed.get("Cache-Control")) == (b"changed {}\n", None)
    assert "serving /static/" not in server.log_text


# What is found, without a server


def settings_of(**values):
    """Settings as Django's lazy ones are read."""
    usual = {"STATIC_ROOT": "/", "STATIC_URL": "static/", "INSTALLED_APPS": ["django.contrib.staticfiles"]}
    settings = SimpleNamespace(configured=True, _wrapped=SimpleNamespace(**(usual | values)))
    return SimpleNamespace(settings=settings)


def found(monkeypatch, applications=None, mounts=("",), root_path="", **values):
    """What is found with these settings of Django."""
    from portico import _static_folders

    applications = (Handler(),) if applications is None else applications
    module = settings_of(**values)
    cached = values.pop("cached", None)
    if cached:
        module.settings.__dict__["STATIC_URL"] = cached
    monkeypatch.setitem(sys.modules, "django.conf", module)
    before = dict(module.settings.__dict__)
    result = _static_folders.django_folder(list(applications), list(mounts), root_path)
    assert module.settings.__dict__ == before, "nothing is kept by Django's cache of settings"
    return result


class Handler:
    """Stands for Django's."""

    __module__ = "django.core.handlers.wsgi"


@pytest.mark.parametrize(
    ("values", "more", "path", "is_relative"),
    [
        ({}, {}, "/static", True),
        ({"STATIC_URL": "/static/"}, {}, "/static", False),
        ({"STATIC_URL": "/s%C3%A4/a"}, {}, "/s\u00e4/a", False),
        ({"STATIC_URL": "/base/static/"}, {"root_path": "/base"}, "/static", False),
        ({"STATIC_URL": "/based/static/"}, {"root_path": "/base"}, "/based/static", False),
        ({"STATIC_URL": "/base/static/", "FORCE_SCRIPT_NAME": "/base"}, {}, "/static", False),
        (
            {"STATIC_URL": "/base/static/", "FORCE_SCRIPT_NAME": "/base/"},
            {"root_path": "/base"},
            "/static",
            False,
        ),
        ({"STATIC_URL": "static/", "FORCE_SCRIPT_NAME": "/base"}, {}, "/static", True),
        ({"cached": "/base/static/"}, {"root_path": "/base"}, "/static", False),
        (
            {"STATIC_URL": "/shop/static/", "FORCE_SCRIPT_NAME": "/shop"},
            {"applications": (None, Handler()), "mounts": ("", "/shop")},
            "/shop/static",
            False,
        ),
        ({"INSTALLED_APPS": ["django.contrib.staticfiles.apps.StaticFilesConfig"]}, {}, "/static", True),
    ],
)
def test_where_static_url_leads(monkeypatch, values, more, path, is_relative):
    applications = more.pop("applications", (Handler(),))
    folder = found(monkeypatch, applications, **more, **values)
    assert (folder.path, folder.is_relative, folder.folder) == (path, is_relative, "/")
    assert folder.application == len(applications) - 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"DEBUG": True}, None),
        ({"STATIC_ROOT": None}, None),
        ({"STATIC_ROOT": "/none/such"}, None),
        ({"INSTALLED_APPS": ["staticfiles"]}, None),
        ({"STATIC_URL": "//cdn.example/"}, "of another host"),
        ({"STATIC_URL": "/"}, "all of the site"),
        ({"STATIC_URL": None}, "all of the site"),
        (
            {"MIDDLEWARE": ["a.b", "whitenoise.middleware.WhiteNoiseMiddleware"]},
            "whitenoise.middleware.WhiteNoise",
        ),
        ({"MIDDLEWARE": ["servestatic.middleware.ServeStaticMiddleware"]}, "servestatic.middleware"),
        ({"MEDIA_ROOT": "/"}, "MEDIA_ROOT is in it"),
        ({"MEDIA_ROOT": Path("/media")}, "MEDIA_ROOT is in it"),
        ({"STORAGES": {"private": {"OPTIONS": {"location": "/private"}}}}, "STORAGES['private'] is in it"),
    ],
)
def test_what_is_left_to_others(monkeypatch, values, reason):
    left = found(monkeypatch, **values)
    assert left is None if reason is None else reason in left.reason


def test_an_application_around_django_may_serve(monkeypatch):
    white = type("WhiteNoise", (), {"__module__": "whitenoise.base"})()
    assert "whitenoise.base.WhiteNoise serves" in found(monkeypatch, (white,)).reason
    derived = type("Mine", (type(white),), {"__module__": "site_files"})()
    assert "site_files.Mine serves" in found(monkeypatch, (derived,)).reason
    finders = type("StaticFilesHandler", (), {"__module__": "django.contrib.staticfiles.handlers"})
    assert found(monkeypatch, (finders(),)) is None
    assert found(monkeypatch, (type("Mine", (finders,), {"__module__": "mine"})(),)) is None


def test_a_middleware_derived_from_whitenoise_serves(monkeypatch):
    white = type("WhiteNoiseMiddleware", (), {"__module__": "whitenoise.middleware"})
    mine = type("Mine", (white,), {"__module__": "wn"})
    other = type("Other", (), {"__module__": "wn"})
    monkeypatch.setitem(sys.modules, "wn", SimpleNamespace(Mine=mine, Other=other, function=found))
    assert "wn.Mine serves" in found(monkeypatch, MIDDLEWARE=["wn.Other", "wn.Mine"]).reason
    for name in ("wn.Other", "wn.function", "wn.none", "not_imported.Mine", "plain"):
        assert found(monkeypatch, MIDDLEWARE=[name]).folder == "/", name


def test_what_is_around_django_may_guard(monkeypatch):
    class Guard:
        def __init__(self, app):
            self.app = app

    class Own(Handler):
        def __call__(self, environ, start_response):
            return []

    instance = Handler()
    instance.get_response = lambda request: None
    for application in (None, Guard(Handler()), lambda environ, start_response: [], Own(), instance):
        assert (
            "no application that Portico calls is Django's own" in found(monkeypatch, (application,)).reason
        )
    derived = type("Derived", (Handler,), {"__module__": "mine"})()
    assert found(monkeypatch, (None, derived), ("", "/shop")).application == 1


def test_uploads_below_static_root_are_not_served(monkeypatch, tmp_path):
    (root, media, beside) = (tmp_path / name for name in ("static", "static/media", "static-media"))
    for folder in (root, media, beside):
        folder.mkdir()
    (tmp_path / "link").symlink_to(media)
    (root / "out").symlink_to(beside)
    for uploads in (root, media, media / "later", tmp_path / "link", f"{root}/", root / "out"):
        left = found(monkeypatch, STATIC_ROOT=str(root), MEDIA_ROOT=uploads)
        assert "MEDIA_ROOT is in it" in left.reason, uploads
    for uploads in (beside, tmp_path, "", None):
        assert found(monkeypatch, STATIC_ROOT=root, MEDIA_ROOT=uploads).folder == str(root), uploads
    storages = {"staticfiles": {"OPTIONS": {"location": root}}, "default": {"BACKEND": "x"}}
    assert found(monkeypatch, STATIC_ROOT=root, STORAGES=storages).folder == str(root)


def test_django_that_is_not_set_up_has_nothing(monkeypatch):
    from portico import _static_folders

    monkeypatch.delitem(sys.modules, "django.conf", raising=False)
    assert _static_folders.find([None], [""], "") == []
    monkeypatch.setitem(
        sys.modules, "django.conf", SimpleNamespace(settings=SimpleNamespace(configured=False))
    )
    assert _static_folders.find([None], [""], "") == []


def flask_found(tmp_path, change=None, flask=None):
    """What is found of a Flask application that `change` has had, or of the one that it returns."""
    skip_without("flask")
    from flask import Flask

    from portico import _static_folders

    (tmp_path / "static").mkdir(exist_ok=True)
    application = (flask or Flask)("shop", static_folder=tmp_path / "static")
    application = (change and change(application)) or application
    return _static_folders.flask_folder(0, application)


def test_a_plain_flask_application_has_its_folder_served(tmp_path):
    from flask import Flask

    def with_more(application):
        application.add_url_rule("/", view_func=lambda: "")
        application.add_url_rule("/<path:rest>", "rest", view_func=lambda rest: "")
        application.add_url_rule("/statics/a", "statics", view_func=lambda: "")
        application.teardown_request(lambda error: None)
        application.context_processor(dict)

    derived = type("Derived", (Flask,), {"test": 1})
    for change, kind in ((None, None), (with_more, None), (None, derived)):
        folder = flask_found(tmp_path, change, kind)
        assert (folder.path, folder.folder) == ("/static", str(tmp_path / "static"))


def guard_view(application):
    """A view that has the names of Flask's, as decorators make it."""
    inner = application.view_functions["static"]

    @functools.wraps(inner)
    def guarded(**keywords):
        return inner(**keywords)

    application.view_functions["static"] = guarded


def guard_wsgi(application):
    """Middleware as Flask's documentation puts it around an application."""
    inner = application.wsgi_app

    def around(environ, start_response):
        return inner(environ, start_response)

    application.wsgi_app = around


def proxy_view(application):
    """An object that stands for the view, as libraries for monitoring make them."""

    class Proxy:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, **keywords):
            return self.inner(**keywords)

    application.view_functions["static"] = Proxy(application.view_functions["static"])


def class_view(application):
    """A view of a class: the function is one of Flask's, and what it calls is not."""
    from flask.views import View

    application.view_functions["static"] = type("Guarded", (View,), {}).as_view("static")


def add(name, *arguments, **keywords):
    """Calls a method of the application with a function."""

    def change(application):
        getattr(application, name)(*arguments, **keywords)

    return change


def instance_method(name):
    """Gives the application itself, not its class, a method."""

    def change(application):
        setattr(application, name, lambda *arguments: None)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (guard_view, "a view of static files that is not Flask's"),
        (proxy_view, "a view of static files that is not Flask's"),
        (class_view, "a view of static files that is not Flask's"),
        (guard_wsgi, "a wsgi_app that is not Flask's"),
        (instance_method("dispatch_request"), "a dispatch_request that is not Flask's"),
        (instance_method("send_static_file"), "a send_static_file that is not Flask's"),
        (add("before_request", lambda: None), "its before_request functions"),
        (add("after_request", lambda response: response), "its after_request functions"),
        (
            add("url_value_preprocessor", lambda endpoint, values: None),
            "its url_value_preprocessor functions",
        ),
        (
            add("add_url_rule", "/static/private/<name>", "private", lambda name: ""),
            "another route below that path",
        ),
    ],
)
def test_what_may_guard_the_files_of_flask(tmp_path, change, reason):
    found = flask_found(tmp_path, change)
    assert f"the Flask application serves /static/ itself, since {reason} may guard it" in found.reason


@pytest.mark.parametrize(
    "name",
    [
        "__call__",
        "wsgi_app",
        "full_dispatch_request",
        "preprocess_request",
        "dispatch_request",
        "process_response",
        "send_static_file",
    ],
)
def test_a_method_of_flask_that_is_replaced(tmp_path, monkeypatch, name):
    """In a class derived from Flask, and in Flask itself, as libraries for monitoring do it."""
    skip_without("flask")
    from flask import Flask

    inner = getattr(Flask, name)

    @functools.wraps(inner)
    def replaced(*arguments, **keywords):
        return inner(*arguments, **keywords)

    reason = f"since a {name} that is not Flask's may guard it"
    assert reason in flask_found(tmp_path, flask=type("Derived", (Flask,), {name: replaced})).reason
    monkeypatch.setattr(Flask, name, replaced)
    assert reason in flask_found(tmp_path).reason


def test_what_is_around_flask_may_guard(tmp_path):
    skip_without("flask")
    from flask.wrappers import Request
    from werkzeug.middleware.proxy_fix import ProxyFix

    def closure(application):
        def around(environ, start_response):
            return application(environ, start_response)

        return around

    for around, name in (
        (ProxyFix, "what is around it (werkzeug.middleware.proxy_fix.ProxyFix)"),
        (lambda application: ProxyFix(ProxyFix(application)), "what is around it (werkzeug."),
        (closure, "what is around it (builtins.function)"),
        (lambda application: application.wsgi_app, "the function that is called in its place"),
        (Request.application, "what is around it (builtins.function)"),
    ):
        assert name in flask_found(tmp_path, around).reason
    assert flask_found(tmp_path, lambda application: closure(lambda environ, start_response: [])) is None


def test_an_application_around_itself_ends_the_search(tmp_path):
    from portico import _static_folders

    class Around:
        def __call__(self, environ, start_response):
            return []

    ring = Around()
    ring.inner = ring
    assert list(_static_folders.held(ring)) == [ring]
    for _ in range(2 * _static_folders.WRAPPERS_MAX):
        outer = Around()
        outer.inner, ring = ring, outer
    assert len(list(_static_folders.held(ring))) == _static_folders.WRAPPERS_MAX
