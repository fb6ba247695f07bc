"""What guards of routes let through: each call is told of, and may wait at a gate."""

from __future__ import annotations

import json

from apps.meeting import rendezvous
from apps.routes import parameters, ping

TOLD = ("REMOTE_USER", "AUTH_TYPE", "HTTP_AUTHORIZATION", "PATH_INFO", "REMOTE_ADDR")


def application(environ, start_response):
    """Tells who has come how; `?hold=GATE` waits, `?emit=EVENT` says that the application was called."""
    if environ["PATH_INFO"] == "/ping":
        return ping(environ, start_response)
    query = parameters(environ)
    if "emit" in query:
        rendezvous.emit(query["emit"])
    if "hold" in query:
        rendezvous.hold(query["hold"])
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Application", "called")])
    return [json.dumps({key: environ.get(key) for key in TOLD}).encode()]
