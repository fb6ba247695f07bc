"""Says hello with a field of its own; nothing at /empty."""

from __future__ import annotations


def application(environ, start_response):
    """The application."""
    if environ["PATH_INFO"] == "/empty":
        start_response("204 No Content", [("X-A", "1")])
        return []
    fields = [("Content-Type", "text/plain"), ("Content-Length", "5"), ("X-App", 'a "b"')]
    start_response("200 OK", fields)
    return [b"hello"]
