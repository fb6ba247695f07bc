"""An application behind a proxy: tells whether a request came through whole."""

from __future__ import annotations

import hashlib
import os
import time

from apps import echo
from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain
from apps.tracked import Tracked

PLAIN = [("Content-Type", "text/plain")]
ETAG = '"unchanged"'

routes = Routes()


def application(environ, start_response):
    """The routes below; every other request is told as JSON."""
    answer = routes.applications.get(environ["PATH_INFO"], echo.application)
    return answer(environ, start_response)


@routes("/pid")
def pid(environ, start_response):
    """Which process answers; reads the body."""
    environ["wsgi.input"].read()
    return plain(start_response, str(os.getpid()))


@routes("/mirror")
def mirror(environ, start_response):
    """Gives the body back, with its digest as it was read."""
    body = environ["wsgi.input"].read()
    told = [("X-Digest", hashlib.sha256(body).hexdigest())]
    start_response("200 OK", [*PLAIN, ("Content-Length", str(len(body))), *told])
    return [body]


@routes("/unknown-length")
def unknown_length(environ, start_response):
    """An answer in blocks whose length is not told."""
    start_response("200 OK", PLAIN)
    return (b"%07d" % number * 1000 for number in range(100))


@routes("/events/held")
def held(environ, start_response):
    """The second block comes when the test has opened the gate that the query names."""

    def blocks():
        yield b"first"
        rendezvous.hold(parameters(environ)["gate"])
        yield b"last"

    start_response("200 OK", PLAIN)
    return blocks()


@routes("/events/endless")
def endless(environ, start_response):
    """A block every few milliseconds; tells when the server closes it."""

    def blocks():
        while True:
            yield b"tick\n"
            time.sleep(0.01)

    start_response("200 OK", PLAIN)
    return Tracked(environ, blocks())


@routes("/silent")
def silent(environ, start_response):
    """Says nothing for a while; tells whether its client was seen to leave."""
    rendezvous.emit("silent begins")
    deadline = time.monotonic() + float(parameters(environ)["patience"])
    while time.monotonic() < deadline:
        if environ["portico.client_disconnected"]():
            rendezvous.emit("silent: gone")
            break
        time.sleep(0.01)
    return plain(start_response, "done")


@routes("/cached")
def cached(environ, start_response):
    """304 to a client that has it."""
    if environ.get("HTTP_IF_NONE_MATCH") == ETAG:
        start_response("304 Not Modified", [("ETag", ETAG)])
        return []
    start_response("200 OK", [*PLAIN, ("ETag", ETAG), ("Content-Length", "6")])
    return [b"cached"]


@routes("/moved")
def moved(environ, start_response):
    """A redirect to the whole URL of a neighbour, which the application makes of environ."""
    url = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{environ['SCRIPT_NAME']}/ping?a=b"
    start_response("302 Found", [*PLAIN, ("Location", url), ("Content-Length", "0")])
    return []


@routes("/moved-here")
def moved_here(environ, start_response):
    """A redirect to a path."""
    start_response("303 See Other", [*PLAIN, ("Location", "/ping"), ("Content-Length", "0")])
    return []


@routes("/hinted")
def hinted(environ, start_response):
    """Early hints before the answer."""
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload; as=style")])
    return plain(start_response, "hinted")
