"""Keeps the id of each request in the way that the path says; `/kept` answers with all that are kept."""

from __future__ import annotations

import sys

kept: list[str] = []
hashed: dict[str, int] = {}
environs: list[dict] = []


def application(environ, start_response):
    identity = environ["portico.request_id"]
    body = identity
    if environ["PATH_INFO"] == "/text":
        kept.append(identity)
    elif environ["PATH_INFO"] == "/hash":
        hashed[identity] = hashed.get(identity, 0) + 1
    elif environ["PATH_INFO"] == "/intern":
        sys.intern(identity)
    elif environ["PATH_INFO"] == "/environ":
        environs.append(environ)
    elif environ["PATH_INFO"] == "/kept":
        body = " ".join([*kept, *hashed, *(known["portico.request_id"] for known in environs)])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
