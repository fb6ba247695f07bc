"""Lets a member have a file: it says which, and the server sends it."""

from urllib.parse import quote


def app(environ, start_response):
    name = environ["PATH_INFO"].removeprefix("/download/").encode("latin-1").decode()
    if environ.get("HTTP_COOKIE") != "member=yes":
        start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", "8")])
        return [b"members\n"]
    fields = [("X-Accel-Redirect", f"/protected/{quote(name)}"), ("Content-Type", "application/pdf")]
    start_response("200 OK", [*fields, ("Content-Length", "0")])
    return [b""]
