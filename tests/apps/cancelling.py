"""Calls that operators cancel: short ones that tell which they are, and long ones that wait for something."""

from __future__ import annotations

import portico
from apps.meeting import rendezvous
from apps.stuck import application as stuck

# Of pure Python, in which an exception that was meant for another call would be raised.
STEPS = 4000


def application(environ, start_response):
    """`/short/TEXT` computes and responds with its path; what else there is `apps.stuck` has."""
    path = environ["PATH_INFO"]
    if path.startswith("/short/"):
        sum(1 for _ in range(STEPS))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [path.encode()]
    if path == "/catches":
        return catches(start_response)
    if path == "/upload":
        rendezvous.emit("uploads")
        return [environ["wsgi.input"].read()]
    return stuck(environ, start_response)


def catches(start_response):
    """Goes on after it was cancelled, block by block."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    rendezvous.emit("begins")
    while True:
        try:
            while True:
                sum(1 for _ in range(STEPS))
        except portico.RequestCancelled:
            rendezvous.emit("catches")
            yield b"more"
