"""A Falcon application."""

from __future__ import annotations

import falcon


class Index:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_HTML
        response.text = f"<h1>Hello {request.get_param('name') or 'Falcon'}</h1>"


class Json:
    def on_post(self, request, response):
        response.media = {"received": request.get_media(), "method": request.method}


class Form:
    def on_post(self, request, response):
        response.set_cookie("user", request.get_media()["user"], secure=False)
        response.set_cookie("second", "cookie", secure=False)
        response.text = "kept"


class Profile:
    def on_get(self, request, response):
        response.text = f"Profile of {request.get_cookie_values('user')[0]}"


class Upload:
    def on_post(self, request, response):
        response.media = {part.name: len(part.stream.read()) for part in request.get_media()}


class Stream:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_TEXT
        response.stream = (f"line {number}\n".encode() for number in range(100))


class Download:
    def on_get(self, request, response):
        response.content_type = "text/x-python"
        response.stream = open(__file__, "rb")


class Broken:
    def on_get(self, request, response):
        raise ValueError("planted error")


application = falcon.App()
for path, resource in {
    "/": Index(),
    "/json": Json(),
    "/form": Form(),
    "/profile": Profile(),
    "/upload": Upload(),
    "/stream": Stream(),
    "/download": Download(),
    "/broken": Broken(),
}.items():
    application.add_route(path, resource)
