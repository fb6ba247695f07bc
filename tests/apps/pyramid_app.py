"""A Pyramid application."""

from __future__ import annotations

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response
from pyramid.session import SignedCookieSessionFactory


def index(request):
    return Response(f"<h1>Hello {request.params.get('name', 'Pyramid')}</h1>")


def json_echo(request):
    return {"received": request.json_body, "method": request.method}


def form(request):
    request.session["user"] = request.POST["user"]
    return HTTPFound("/profile")


def profile(request):
    return Response(f"Profile of {request.session['user']}")


def upload(request):
    return {name: len(item.file.read()) for name, item in request.POST.items()}


def stream(request):
    return Response(
        app_iter=(f"line {number}\n".encode() for number in range(100)), content_type="text/plain"
    )


def download(request):
    return FileResponse(__file__, request, content_type="text/x-python")


def broken(request):
    raise ValueError("planted error")


with Configurator(session_factory=SignedCookieSessionFactory("a key for tests")) as config:
    for path, view, renderer in [
        ("/", index, None),
        ("/json", json_echo, "json"),
        ("/form", form, None),
        ("/profile", profile, None),
        ("/upload", upload, "json"),
        ("/stream", stream, None),
        ("/download", download, None),
        ("/broken", broken, None),
    ]:
        config.add_route(path, path)
        config.add_view(view, route_name=path, renderer=renderer)
    application = config.make_wsgi_app()
