"""How long it takes from saving a file to the first answer of the new code: Portico and gunicorn.

    python bench/reload.py [SAVES]

Both with --reload, in an environment with Portico, gunicorn and Django: a project with the admin, 20 saves of
its views, each asked for at once and again until the new code answers. Prints the median, the least and the
greatest, in milliseconds, and how many requests were refused or answered by the old code meanwhile.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = """\
from pathlib import Path
SECRET_KEY = "x"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles", "blog",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
    "context_processors": ["django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages"]}}]
NAME = Path(__file__).parent / "db.sqlite3"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": NAME}}
"""
WSGI = """\
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
URLS = """\
from django.contrib import admin
from django.urls import path
from blog import views
urlpatterns = [path("", views.index), path("admin/", admin.site.urls)]
"""
VIEWS = """\
from django.http import HttpResponse
def index(request):
    return HttpResponse("version {:06}")
"""
PATIENCE = 30.0
# Between two saves: what follows a restart is over by then.
REST = 1.5


def write_project(folder: Path) -> None:
    for name, text in {
        "mysite/__init__.py": "",
        "mysite/settings.py": SETTINGS,
        "mysite/urls.py": URLS,
        "mysite/wsgi.py": WSGI,
        "blog/__init__.py": "",
        "blog/views.py": VIEWS.format(0),
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def ask(port: int) -> bytes:
    """The answer on a connection of its own; empty if there was none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(module: str, saves: int) -> None:
    with tempfile.TemporaryDirectory() as folder_name:
        folder, port = Path(folder_name), free_port()
        write_project(folder)
        command = [
            sys.executable,
            "-m",
            module,
            "--reload",
            "-b",
            f"127.0.0.1:{port}",
            "mysite.wsgi:application",
        ]
        server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, env=dict(os.environ))
        try:
            deadline = time.monotonic() + PATIENCE
            while ask(port) != b"version 000000" and time.monotonic() < deadline:
                time.sleep(0.05)
            times, old, refused = [], 0, 0
            for number in range(1, saves + 1):
                time.sleep(REST)
                expected = f"version {number:06}".encode()
                (folder / "blog/views.py").write_text(VIEWS.format(number))
                saved = time.monotonic()
                while (answer := ask(port)) != expected:
                    assert time.monotonic() - saved < PATIENCE, (
                        f"{module} does not serve the new code: {answer!r}"
                    )
                    old, refused = old + bool(answer), refused + (not answer)
                    time.sleep(0.002)
                times.append(1000 * (time.monotonic() - saved))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)
    print(
        f"{module:9} median {statistics.median(times):6.0f} ms, {min(times):.0f} to {max(times):.0f}; "
        f"{old} answers of old code, {refused} requests without an answer"
    )


if __name__ == "__main__":
    for module in ["portico", "gunicorn"]:
        measure(module, int(sys.argv[1]) if len(sys.argv) > 1 else 20)
