"""The routes of frameworks in metrics: `/users/<id>`, never `/users/7`."""

from __future__ import annotations

import re

from harness.packages import skip_without
from harness.server import run_to_end

FLASK = """
from flask import Flask
from portico.contrib.flask import tell_routes

app = Flask(__name__)
tell_routes(app)

@app.get("/users/<int:number>")
def user(number):
    return str(number)
"""

DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x",
    MIDDLEWARE=["portico.contrib.django.middleware.RouteMiddleware"],
)
urlpatterns = [path("users/<int:number>", lambda request, number: HttpResponse(str(number)))]
app = get_wsgi_application()
"""

PLAIN = """
import threading

def app(environ, start_response):
    tell = environ["portico.route"]
    if environ["PATH_INFO"] == "/elsewhere":
        # A thread that has no request: nothing happens.
        thread = threading.Thread(target=tell, args=("/wrong",))
        thread.start()
        thread.join()
    elif environ["PATH_INFO"] == "/wrong-type":
        try:
            tell(7)
        except TypeError:
            pass
    elif environ["PATH_INFO"].startswith("/many/"):
        tell(environ["PATH_INFO"])
    start_response("200 OK", [])
    return [b"x"]
"""


def routes(server) -> dict[str, int]:
    """How many requests each route had."""
    ended = run_to_end("metrics", str(server.pid), cwd=server.rendezvous.folder)
    assert ended.returncode == 0, ended
    found = re.findall(
        r'^portico_route_duration_seconds_count\{http_route="(.*)"\} (\d+)$', ended.stdout, re.M
    )
    return {route: int(count) for route, count in found}


def serve_text(serve, tmp_path, text: str, *options: str):
    """A server of an application that is written there."""
    (tmp_path / "told.py").write_text(text)
    return serve("told:app", "--workers", "2", "--threads", "2", *options, cwd=tmp_path)


def test_flask(serve, tmp_path):
    skip_without("flask")
    server = serve_text(serve, tmp_path, FLASK)
    for number in range(5):
        assert server.request("GET", f"/users/{number}").body == str(number).encode()
    assert server.request("GET", "/nowhere").status == 404
    assert routes(server) == {"/users/<int:number>": 5}


def test_django(serve, tmp_path):
    skip_without("django")
    server = serve_text(serve, tmp_path, DJANGO, "--preload")
    for number in range(5):
        assert server.request("GET", f"/users/{number}").body == str(number).encode()
    assert server.request("GET", "/nowhere").status == 404
    assert routes(server) == {"/users/<int:number>": 5}


def test_no_route_of_a_request_is_none(serve, tmp_path):
    server = serve_text(serve, tmp_path, PLAIN)
    for path in ("/elsewhere", "/wrong-type", "/"):
        assert server.request("GET", path).status == 200
    assert routes(server) == {}
    for number in range(300):
        assert server.request("GET", f"/many/{number}").status == 200
    told = routes(server)
    assert len(told) == 257 and told["_OTHER"] == 44 and sum(told.values()) == 300, told
