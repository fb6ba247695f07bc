"""Tells, as JSON, the request as it reached the application."""

from __future__ import annotations

import json

from apps.routes import ping


def application(environ, start_response):
    """Method, target, version, fields, body; values of environ that are no strings are told by repr."""
    if environ["PATH_INFO"] == "/ping":
        return ping(environ, start_response)
    body = environ["wsgi.input"].read()
    answer = {
        "method": environ["REQUEST_METHOD"],
        "target": environ.get("RAW_URI"),
        "version": environ["SERVER_PROTOCOL"],
        "body": body.decode("latin-1"),
        "environ": {key: value if isinstance(value, str) else repr(value) for key, value in environ.items()},
        "types": {key: type(value).__name__ for key, value in environ.items()},
        "environ_type": type(environ).__name__,
    }
    environ["leak"] = "an environ belongs to one request"
    text = json.dumps(answer)
    # An answer to HEAD has no body to tell it in.
    told = [("X-Echo", text)] if environ["REQUEST_METHOD"] == "HEAD" else []
    start_response("200 OK", [("Content-Type", "application/json"), *told])
    return [text.encode()]
