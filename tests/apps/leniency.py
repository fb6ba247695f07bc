"""Sends early hints with a field that is the server's."""

from __future__ import annotations

from apps.routes import Routes, plain

routes = Routes()
application = routes.application


@routes("/hints")
def hints(environ, start_response):
    """Hints, then the response."""
    environ["wsgi.early_hints"]([("Link", "</a>"), ("Connection", "close"), ("Keep-Alive", "timeout=5")])
    return plain(start_response, "hinted")
