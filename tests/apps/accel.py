"""Has the server send a file: the query string is the header that names it, percent-encoded once."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from apps.routes import ping


def application(environ, start_response):
    """`/status/STATUS?NAME:VALUE`, or `/app/...`, which tells that it was called."""
    if environ["PATH_INFO"] == "/ping":
        return ping(environ, start_response)
    if not environ["PATH_INFO"].startswith("/status/"):
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "called")])
        return [b"the application"]
    name, _, value = environ["QUERY_STRING"].partition(":")
    status = environ["PATH_INFO"].removeprefix("/status/")
    fields = [
        (name, unquote_to_bytes(value).decode("latin-1")),
        ("Content-Type", "application/x-own"),
        ("Set-Cookie", "a=b"),
        ("ETag", '"own"'),
        ("X-Own", "1"),
    ]
    start_response(f"{status} Own", fields)
    return [b"to be ", b"dropped"]
